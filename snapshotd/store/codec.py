"""Events as the log has them: an explicit topic, and readable JSON; older versions are upcast when they are read."""

from __future__ import annotations

import json
from typing import Any

from snapshotd.domain.events import Event
from snapshotd.ports.plain import decoder, encoder
from snapshotd.store.errors import UnreadableEvent
from snapshotd.store.topics import CLASSES, TOPICS, UPCASTS


def encode(event: Event) -> tuple[str, str]:
    """Return an event's topic, and its data as one line of JSON."""
    cls: Any = type(event)
    data = encoder(cls)(event)
    return TOPICS[cls], json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def event_data(event: Event) -> dict[str, object]:
    """Return an event's data as plain JSON values, as the log has them."""
    cls: Any = type(event)
    data: dict[str, object] = encoder(cls)(event)
    return data


def decode(topic: str, text: str) -> Event:
    """Return the event that was written under a topic, older versions upcast.

    Raises UnreadableEvent for an unknown topic, and for data that does not fit it.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UnreadableEvent(topic, f"not JSON: {error}") from error
    while topic in UPCASTS:
        topic, upcast = UPCASTS[topic]
        data = upcast(data)
    cls: Any = CLASSES.get(topic)
    if cls is None:
        raise UnreadableEvent(topic, "no event of this name is known; the log may be of a newer release")
    try:
        event: Event = decoder(cls)(data)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableEvent(topic, f"{type(error).__name__}: {error}") from error
    return event
