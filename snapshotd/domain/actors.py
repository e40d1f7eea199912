"""Actors: the names of those who cause events."""

from __future__ import annotations

from typing import Self


class Delegated(str):
    """The name of an actor that acts for somebody else, who is not known to us."""

    __slots__ = ("on_behalf_of",)

    on_behalf_of: str
    """For whom, as the actor says."""

    def __new__(cls, name: str, on_behalf_of: str) -> Self:
        """Return the name, with for whom it acts."""
        made = super().__new__(cls, name)
        made.on_behalf_of = on_behalf_of
        return made


def behalf_of(actor: str) -> str:
    """Return for whom an actor acts; empty: for itself."""
    return actor.on_behalf_of if isinstance(actor, Delegated) else ""
