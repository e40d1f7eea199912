"""Words that the sentences about events share. Part of event_summaries.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from enum import Enum
from typing import Final

from snapshotd.domain.details import SnapshotDetails, VmDetails
from snapshotd.domain.operation import Failure
from snapshotd.ports.plain import encode_time

_CAUSES: Final = {
    "step": "by a step of an operation",
    "drift": "on the host, not by snapshotd",
    "registration": "as first seen",
}
"""By what a fact came about."""


def counted(count: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def why(failure: Failure | None) -> str:
    """Return a failure as the end of a sentence."""
    if failure is None:
        return "."
    text = failure.text
    return f": {failure.reason}: {text}" + ("" if text.endswith((".", "!", "?", ")")) else ".")


def because(reason: str) -> str:
    """Return a person's reason as the end of a sentence."""
    return f": {reason.rstrip('.')}." if reason else "."


def caused(cause: str) -> str:
    """Return by what a fact came about, in words."""
    return _CAUSES.get(cause, f"by {cause}")


def differences(before: SnapshotDetails | VmDetails, after: SnapshotDetails | VmDetails) -> str:
    """Return what people say otherwise, with both values; of labels, which."""
    told: list[str] = []
    for field_ in fields(after):
        old, new = getattr(before, field_.name), getattr(after, field_.name)
        if isinstance(old, Mapping):
            keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            told += [f"label {key} {_value(old.get(key))} -> {_value(new.get(key))}" for key in keys]
        elif old != new:
            name = "expiry" if isinstance(old or new, datetime) else field_.name
            told.append(f"{name} {_value(old)} -> {_value(new)}")
    return ", ".join(told) or "nothing changed"


def _value(value: object) -> str:
    """Return what somebody has said, or "none"."""
    if isinstance(value, Enum):
        return value.name
    return "none" if value is None else encode_time(value) if isinstance(value, datetime) else f"'{value}'"
