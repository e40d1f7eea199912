"""Labels and expiries as they are typed: `--label KEY=VALUE`, `--remove-label KEY`, `--expires WHEN`."""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from snapshotd.client.render import quoted

NEVER: Final = "never"
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5}) ?(min|h|d|w)")
_UNITS: Final = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Declare --label, for a command that sets labels."""
    _declare(parser, "--label", _pair, "KEY=VALUE", "set a label; can be repeated")


def add_label_changes(parser: argparse.ArgumentParser) -> None:
    """Declare --label and --remove-label, for a command that changes labels."""
    add_labels(parser)
    _declare(parser, "--remove-label", _key, "KEY", "remove a label; can be repeated")


def add_label_filter(parser: argparse.ArgumentParser) -> None:
    """Declare --label and --filter, for a list."""
    _declare(parser, "--label", _pair_or_key, "KEY[=VALUE]", "only those with this label; can be repeated")
    parser.add_argument("--filter", metavar="TEXT", default="", help="""only those, e.g. 'labels.tier != "gold"'""")


def add_expiry(parser: argparse.ArgumentParser) -> None:
    """Declare --expires."""
    text = "when it is no longer needed: a time, a duration from now (90min, 12h, 30d, 2w), or never; it is only noted"
    parser.add_argument("--expires", type=_expiry, metavar="WHEN", help=text)


def _declare(
    parser: argparse.ArgumentParser, flag: str, read: Callable[[str], object], metavar: str, text: str
) -> None:
    parser.add_argument(flag, type=read, action="append", default=[], metavar=metavar, help=text)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ArgumentTypeError(f"{quoted(text)}: must be KEY=VALUE")
    return key, value


def _key(text: str) -> str:
    if not text or "=" in text:
        raise ArgumentTypeError(f"{quoted(text)}: must be the KEY of a label")
    return text


def _pair_or_key(text: str) -> tuple[str, str | None]:
    return _pair(text) if "=" in text else (_key(text), None)


def _expiry(text: str) -> datetime | str:
    """Read a time (RFC 3339; without an offset in UTC), or a time from now; or `never`."""
    if text == NEVER:
        return NEVER
    try:
        if found := _DURATION.fullmatch(text.strip()):
            return datetime.now(UTC) + timedelta(**{_UNITS[found[2]]: int(found[1])})
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass  # said below
    raise ArgumentTypeError(
        f"{quoted(text)}: must be a time (2026-01-31T12:00:00Z), a duration (90min, 12h, 30d, 2w) or never"
    )
