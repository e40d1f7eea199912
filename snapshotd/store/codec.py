"""Events as the log has them: an explicit topic, and readable JSON; older versions are upcast when they are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from snapshotd.domain.events import Event
from snapshotd.ports import plain
from snapshotd.store.errors import UnreadableEvent
from snapshotd.store.topics import CLASSES, TOPICS, UPCASTS

_UNKNOWN: Final = "no event of this name is known; the log may be of a newer release"


def encode(event: Event) -> tuple[str, str]:
    """Return an event's topic, and its data as one line of JSON."""
    return TOPICS[type(event)], plain.encode_text(event)


def decode(topic: str, text: str) -> Event:
    """Return the event that was written under a topic, older versions upcast.

    Raises UnreadableEvent for an unknown topic, and for data that does not fit it.
    """
    if topic in UPCASTS:
        topic, text = _upcast(topic, text)
    cls = CLASSES.get(topic)
    if cls is None:
        raise UnreadableEvent(topic, _UNKNOWN)
    try:
        return plain.decode_text(cls, text)
    except ValueError as error:
        raise UnreadableEvent(topic, str(error)) from error


def refuse_unknown(topics: Iterable[str]) -> None:
    """Raise UnreadableEvent if there is a topic among these that this release cannot read."""
    for topic in topics:
        if topic not in CLASSES and topic not in UPCASTS:
            raise UnreadableEvent(topic, _UNKNOWN)


def _upcast(topic: str, text: str) -> tuple[str, str]:
    """Return the present topic and data of an event that was written under an older one."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UnreadableEvent(topic, f"not JSON: {error}") from error
    while topic in UPCASTS:
        topic, upcast = UPCASTS[topic]
        data = upcast(data)
    return topic, plain.encode_text(data)
