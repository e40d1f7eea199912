"""Times as they stand on record."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta

Time: TypeAlias = Annotated[datetime, Meta(tz=True)]
"""A time with its offset; one without is refused when it is read."""
