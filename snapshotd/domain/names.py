"""When two names that people type are one: they look alike, however their characters are composed in Unicode.

What was typed is kept and shown as it is; only comparisons go by this.
"""

from __future__ import annotations

import unicodedata


def same_name(one: str, other: str) -> bool:
    """Return whether two names are one: equal in normal form C (an u with two dots, as one character or as two)."""
    return _composed(one) == _composed(other)


def same_but_for_case(one: str, other: str) -> bool:
    """Return whether two names are one where letter case does not count, as in the names of Hyper-V's VMs."""
    return folded(one) == folded(other)


def folded(name: str) -> str:
    """Return what all names that are one but for letter case have in common."""
    return _composed(_composed(name).casefold())


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
