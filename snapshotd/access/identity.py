"""Who a caller is, once it has been proved, and which names may stand for somebody."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}")
_LONGEST_FOREIGN: Final = 200
NAME_RULE: Final = "1 to 63 letters, digits and . _ @ + -, a letter or digit first"
"""What a name that is given here may be."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, or a program that acts for itself."""

    subject: str
    """`<way>:<name>`, so that no way of signing in can pose as another: `oidc:alice@example.com`, `token:ci`."""
    groups: frozenset[str] = frozenset()
    """`oidc:<group>`; only an identity provider tells groups."""


@dataclass(frozen=True, slots=True)
class ExecutorIdentity:
    """An executor, and the hosts that its certificate lets it serve."""

    name: str
    hosts: frozenset[str] = frozenset()
    """Ids of hosts, or EVERY_HOST."""

    @property
    def subject(self) -> str:
        """The executor's name among those of all callers."""
        return f"executor:{self.name}"


def is_name(text: str) -> bool:
    """Return whether somebody may be given this name here: in a local token, or a certificate of our own."""
    return _NAME.fullmatch(text) is not None


def is_foreign_name(text: str) -> bool:
    """Return whether a name that others gave (a claim, a common name, a group) can be told from every other by sight.

    So it has no control or invisible characters, no blanks at its ends, and is composed as Unicode's form C.
    """
    return (
        0 < len(text) <= _LONGEST_FOREIGN
        and text.isprintable()
        and text.strip() == text
        and unicodedata.is_normalized("NFC", text)
    )


WAYS: Final[Mapping[str, Callable[[str], bool]]] = {
    "token": is_name,
    "oidc": is_foreign_name,
    "certificate": is_foreign_name,
    "executor": is_name,
    "unix": bool,
}
"""The ways of signing in, each with what tells whether somebody can be called so there."""
GROUP_WAYS: Final = {way: WAYS[way] for way in ("oidc", "unix")}
"""Those that tell groups."""
