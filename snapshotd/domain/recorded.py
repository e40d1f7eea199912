"""What kinds and actions put on record: plain values, whose meaning only their own files know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

JsonObject: TypeAlias = Mapping[str, object]
"""Plain JSON values by field."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The fields of one dataclass of a kind or an action, in a version of its own."""

    version: int
    values: JsonObject
