"""Processors and memory in words, and what others have changed of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Final

from snapshotd.domain.offering import Offering


def changed_by_others(recorded: Offering, left: Offering, observed: Offering) -> tuple[str, str] | None:
    """Return, for people, what others have changed in an offering: how it was and how it is; None if they have not.

    Args:
        recorded: as on record.
        left: as our own steps have left it, of which not all need have had an effect.
        observed: as it is.
    """
    if observed == recorded:
        return None
    known = any((recorded.minimum_bytes, recorded.maximum_bytes)) and any(
        (observed.minimum_bytes, observed.maximum_bytes)
    )
    names = [f.name for f in fields(Offering) if known or f.name in ("cpu_count", "memory_bytes")]
    changed = [n for n in names if getattr(observed, n) not in (getattr(recorded, n), getattr(left, n))]
    return (_in_words(left, changed), _in_words(observed, changed)) if changed else None


def _in_words(offering: Offering, names: list[str]) -> str:
    return ", ".join(_WORDS[name](getattr(offering, name)) for name in names)


def processors(count: int) -> str:
    """Return a number of processors for people."""
    return f"{count} processor{'s' * (count != 1)}"


def bytes_in_words(size: int) -> str:
    """Return an amount of memory for people: in GiB if it is a whole number of them, else in MiB."""
    return f"{size >> 30} GiB" if size % (1 << 30) == 0 else f"{size / (1 << 20):g} MiB"


_WORDS: Final[dict[str, Callable[[int], str]]] = {
    "cpu_count": processors,
    "memory_bytes": lambda size: f"{bytes_in_words(size)} of memory",
    "dynamic_memory": lambda dynamic: "dynamic memory" if dynamic else "no dynamic memory",
    "minimum_bytes": lambda size: f"at least {bytes_in_words(size)}",
    "maximum_bytes": lambda size: f"at most {bytes_in_words(size)}",
}
