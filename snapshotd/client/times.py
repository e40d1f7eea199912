"""Times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import quoted, zone

_UNITS: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO: Final = re.compile(rf"([0-9]{{1,9}}) ?({'|'.join(_UNITS)})")
_VERSION: Final = re.compile("[0-9]{1,18}")
_FORMS: Final = "2026-01-31T12:00:00Z, or as 2h for two hours ago (s, m, h, d, w)"


def read_time(flag: str, text: str) -> datetime:
    """Return the time that a user means: RFC 3339 (without an offset: in the zone that is shown), "now", or "2h" ago.

    Raises Failed.
    """
    try:
        if text == "now":
            return datetime.now(UTC)
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            time = time.replace(tzinfo=zone()) if zone() else time.astimezone()
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Failed(f"Cannot read {flag} {quoted(text)}. Write it as {_FORMS}.", ExitCode.USAGE) from None


def read_point(flag: str, text: str) -> datetime | int:
    """Return the time, or for a plain number the version of a VM, that a user means. Raises Failed."""
    return int(text) if _VERSION.fullmatch(text) else read_time(flag, text)
