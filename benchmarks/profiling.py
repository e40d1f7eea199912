"""A profile of each thread of this process, by parts of snapshotd: cProfile, with each thread's own processor time.

What no part of ours is (builtins, the standard library, SQLite, protobuf) counts to the part that called it, in
proportion to how much of its time each caller used.
"""

from __future__ import annotations

import cProfile
import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any, Final

_ROOT: Final = str(Path(__file__).resolve().parents[1]) + "/"
PARTS: Final = (
    ("snapshotd/store/codec", "encoding"),
    ("snapshotd/store/upcasts", "encoding"),
    ("snapshotd/ports/", "encoding"),
    ("snapshotd/store/", "commit"),
    ("snapshotd/server/executor_service", "wire"),
    ("snapshotd/server/host_wire", "wire"),
    ("snapshotd/server/wire_", "wire"),
    ("snapshotd/server/", "translation"),
    ("snapshotd/executor/", "wire"),
    ("snapshotd/application/", "decision"),
    ("snapshotd/dispatch/", "decision"),
    ("snapshotd/domain/", "decision"),
    ("snapshotd/operations/", "decision"),
    ("snapshotd/steps/", "decision"),
    ("projections/", "views"),
    ("/grpc/", "wire"),
)
"""Beginnings of paths in the checkout, or parts of other paths, and what they belong to. The first that fits counts."""
NAMES: Final = ("translation", "decision", "encoding", "commit", "views", "wire", "other")
_ROUNDS: Final = 12
"""How far what is nobody's is handed up to its callers."""


class Profiles:
    """The profiles of all threads that begin from now on, and of this one."""

    def __init__(self) -> None:
        self._profiles: list[tuple[str, cProfile.Profile]] = []
        threading.setprofile(self._begin)
        self._own = self._new()
        self._own.enable()

    def _new(self) -> cProfile.Profile:
        profile = cProfile.Profile(time.thread_time)
        self._profiles.append((threading.current_thread().name, profile))
        return profile

    def _begin(self, *_: object) -> None:
        self._new().enable()  # in place of this function

    def write(self, path: Path) -> None:
        """Write the seconds of each part by thread, as JSON. The other threads must have ended."""
        self._own.disable()
        threads: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for name, profile in self._profiles:
            for part, seconds in by_part(profile.getstats()).items():
                threads[role_of(name)][part] += seconds
        path.write_text(json.dumps(threads), encoding="utf-8")


def role_of(thread: str) -> str:
    """Return a thread's name without its number."""
    return thread.rstrip("0123456789").rstrip("-_")


def part_of(code: CodeType | str) -> str | None:
    """Return the part that a function belongs to; None: to whoever calls it."""
    if isinstance(code, str):
        return None
    path = code.co_filename
    inside = path.removeprefix(_ROOT)
    for beginning, part in PARTS:
        if inside.startswith(beginning) or (beginning.startswith("/") and beginning in path):
            return part
    return None


def by_part(entries: list[Any]) -> dict[str, float]:
    """Return the seconds of each part, from what a profile has counted."""
    seconds: dict[str, float] = defaultdict(float)
    callers: dict[CodeType | str, dict[CodeType | str, float]] = defaultdict(lambda: defaultdict(float))
    for entry in entries:
        for called in entry.calls or ():
            callers[called.code][entry.code] += called.inlinetime
    shares = _shares(callers)
    for entry in entries:
        part = part_of(entry.code)
        for name, share in {part: 1.0}.items() if part else shares.get(entry.code, {"other": 1.0}).items():
            seconds[name] += entry.inlinetime * share
    return seconds


def _shares(
    callers: Mapping[CodeType | str, Mapping[CodeType | str, float]],
) -> dict[CodeType | str, dict[str, float]]:
    """Return, for what belongs to no part, how much of its time each part has caused."""
    shares: dict[CodeType | str, dict[str, float]] = {}
    for _ in range(_ROUNDS):
        before, shares = shares, {}
        for code, found in callers.items():
            if part_of(code) is not None:
                continue
            whole = sum(found.values())
            own: dict[str, float] = defaultdict(float)
            for caller, weight in found.items():
                part = part_of(caller)
                of_caller = {part: 1.0} if part else before.get(caller, {"other": 1.0})
                for name, share in of_caller.items():
                    own[name] += share * (weight / whole if whole else 1 / len(found))
            shares[code] = own
    return shares
