"""Words that the sentences about events share. Part of event_summaries.py."""

from __future__ import annotations

from typing import Final

from snapshotd.domain.operation import Failure

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
