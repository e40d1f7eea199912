"""Registers the VMs of a host whose names match, all of them by one report. One that is refused holds up no other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from snapshotd.domain.errors import InvalidArgument, SnapshotdError
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import VmId
from snapshotd.domain.operation import Failure

_AT_ONCE: Final = 64
"""How many registrations are decided at a time. Those that fall together are committed together."""
_PATTERNS: Final = 100
_PATTERN_LENGTH: Final = 255
"""The most patterns, and the most characters of one: each is compared with each name on the event loop."""


def matching(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a VM's name matches one of the patterns; without any, every name does.

    `*` stands for any characters and `?` for one. Case is ignored, as in Hyper-V. Raises InvalidArgument.
    """
    if len(patterns) > _PATTERNS:
        raise InvalidArgument("name_patterns", str(len(patterns)), f"must be at most {_PATTERNS} patterns.")
    for pattern in patterns:
        if not 0 < len(pattern) <= _PATTERN_LENGTH:
            text = f"must have 1 to {_PATTERN_LENGTH} characters each. Without any pattern, every name matches."
            raise InvalidArgument("name_patterns", pattern[:40], text)
    pieces = [[re.escape(piece).replace(r"\?", ".") for piece in re.split(r"\*+", p)] for p in patterns]
    # Atomic groups: what a star has taken in is not tried again, so that no pattern makes a comparison take long.
    compiled = [re.compile(_joined(some), re.IGNORECASE | re.DOTALL) for some in pieces]
    return lambda name: not compiled or any(pattern.fullmatch(name) for pattern in compiled)


def _joined(pieces: Sequence[str]) -> str:
    """Return a regular expression for pieces with a star between each two."""
    first, *rest = pieces
    if not rest:
        return first
    middle = "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece)
    return f"{first}{middle}.*{rest[-1]}"


def name_of(report: VmReport) -> str | None:
    """Return the name of a VM as its host reports it; None if the host does not have it."""
    if report.unread is not None:
        return report.unread.name
    return report.description.name if report.description is not None else None


@dataclass(frozen=True, slots=True)
class Refused:
    """A VM that is not registered, and why."""

    report: VmReport
    why: Failure


async def each(
    reports: Sequence[VmReport], register: Callable[[VmReport], Awaitable[object]]
) -> tuple[tuple[VmId, ...], tuple[Refused, ...]]:
    """Register VMs; return which were, and which were refused. `register` raises SnapshotdError for one that is."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(report: VmReport) -> Failure | None:
        if report.unread is not None:
            text = report.unread.message or "Its host could not read it."
            return Failure(reason="UNREADABLE", message=text, error_id=report.unread.error_id)
        async with room:
            try:
                await register(report)
            except SnapshotdError as error:
                return Failure.of(error)
        return None

    came = await asyncio.gather(*map(one, reports))
    registered = tuple(VmId(report.vm_id) for report, why in zip(reports, came, strict=True) if why is None)
    return registered, tuple(Refused(report, why) for report, why in zip(reports, came, strict=True) if why is not None)
