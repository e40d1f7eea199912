"""Who a caller is, once that is proven."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that has signed in."""

    subject: str
    """`<way>:<name>`, the actor in events: no way of signing in can pose as another."""
    groups: frozenset[str] = frozenset()
    """`<way>:<group>`."""
