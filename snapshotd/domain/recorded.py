"""What stands on record: times, and plain values of kinds and actions whose meaning only their own files know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta

from snapshotd.domain.state import State

Time: TypeAlias = Annotated[datetime, Meta(tz=True)]
"""A time with its offset; one without is refused when it is read."""

JsonObject: TypeAlias = Mapping[str, object]
"""Plain JSON values by field."""


class Recorded(State, frozen=True):
    """The fields of one dataclass of a kind or an action, in a version of its own."""

    version: int
    values: JsonObject
