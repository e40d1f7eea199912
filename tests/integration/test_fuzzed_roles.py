"""Calls by chance of people with every role on every part: nothing is shown or recorded that their role does not allow.

SNAPSHOTD_TEST_SEED=N runs other calls, and SNAPSHOTD_FUZZ_CALLS=10000 (`make fuzz`) makes so many for each role.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from tests.integration.fuzzed_access import ROLES, Person, World, fuzzed, world
from tests.integration.fuzzing import FuzzedCall
from tests.integration.test_fuzzed_calls import FAULTS, reason

SEED: Final = int(os.environ.get("SNAPSHOTD_TEST_SEED", "23"))
CALLS: Final = 1000
CALLS_OF_EACH: Final = int(os.environ.get("SNAPSHOTD_FUZZ_CALLS", "0"))
_OF_ONE_WORLD: Final = 250
"""Then its admins have removed so much that little is left to be refused."""
_AT_ONCE: Final = 100
NOBODY: Final = Person("none", "all", "")
_ENDLESS_S: Final = 0.3
_MOST_GROWTH: Final = 32 * 1024 * 1024
"""Bytes by which the process may grow between the first third of the calls and the last: a leak of 5 KB a call."""


@dataclass
class Found:
    """What came of the calls."""

    outcomes: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    """Events, by role."""
    wrong: list[object] = field(default_factory=list)


async def answered(channel: grpc.aio.Channel, call: FuzzedCall) -> tuple[str, list[bytes], bytes]:
    """Return how a call ended, its answers, and the words and details of its error."""
    answers: list[bytes] = []
    one: Any = channel.unary_stream(call.path)
    none: Any = channel.stream_stream(call.path)
    method, request = (none, iter(())) if call.message is None else (one, call.message)
    try:
        answering = method(request, timeout=_ENDLESS_S if call.endless else 60, metadata=call.metadata)
        while (answer := await answering.read()) is not grpc.aio.EOF:
            answers.append(answer)
    except grpc.aio.AioRpcError as error:
        if call.endless and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "goes on", answers, b""
        trailing: Any = error.trailing_metadata() or ()
        details = [value for key, value in trailing if key == "grpc-status-details-bin"]
        text = b"\n".join([(error.details() or "").encode(), *details]).lower()
        return f"{error.code().name} {reason(error)}", answers, text
    return "OK", answers, b""


async def make(one: World, person: Person, call: FuzzedCall, found: Found) -> None:
    """Make a call, and judge what was answered."""
    ended, answers, error = await answered(one.served.channel, call)
    found.outcomes[f"{person.role}: {ended}"] += 1
    if "Reflection" in call.path:  # its answers repeat the request
        answers, error = [], b"\n".join([error, *answers]).lower()
    leaks = await one.leaks(person, call.message or b"", answers, error)
    if leaks or ended.startswith(FAULTS) or ended.endswith(" NONE"):
        found.wrong.append((person.subject, call, ended, leaks, error, answers))


async def run(directory: Path, people: Sequence[str], calls: int, chance: random.Random, found: Found) -> None:
    """Make calls in a world of their own: those that may change something one by one, the others then at once."""
    async with world(directory) as one:
        callers = [person for person in one.people if person.role in people]
        reading: list[tuple[Person, FuzzedCall]] = []
        for _ in range(calls):
            person = chance.choice(callers)
            call = fuzzed(chance, person)
            if call.endless or person.role not in ("operator", "admin"):
                reading.append((person, call))
                continue
            before = one.position
            await make(one, person, call, found)
            found.wrong += [(person.subject, call, event) for event in await one.wrongly_recorded(person)]
            found.recorded[person.role] += one.position - before
        for some in batched(reading):
            await asyncio.gather(*(make(one, person, call, found) for person, call in some))
        found.wrong += await one.wrongly_recorded(NOBODY)


def batched(calls: Sequence[tuple[Person, FuzzedCall]]) -> Iterator[Sequence[tuple[Person, FuzzedCall]]]:
    """Yield the calls, some at a time."""
    for start in range(0, len(calls), _AT_ONCE):
        yield calls[start : start + _AT_ONCE]


@pytest.mark.slow
async def test_nobody_sees_or_records_what_the_role_does_not_allow(tmp_path: Path) -> None:
    chance, found = random.Random(SEED), Found()
    for n in range(CALLS // _OF_ONE_WORLD):
        await run(of_its_own(tmp_path, n), ROLES, _OF_ONE_WORLD, chance, found)
    assert not found.wrong, (SEED, found.wrong[0])
    _check_reach(found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not CALLS_OF_EACH, reason="takes minutes: make fuzz")
@pytest.mark.parametrize("role", ROLES)
async def test_thousands_of_calls_of_one_role(tmp_path: Path, role: str) -> None:
    chance, found = random.Random(f"{SEED} {role}"), Found()
    sizes = []
    for n in range(CALLS_OF_EACH // _OF_ONE_WORLD):
        await run(of_its_own(tmp_path, n), (role,), _OF_ONE_WORLD, chance, found)
        gc.collect()
        sizes.append(resident_bytes())
    told = ", ".join(f"{outcome} {count}" for outcome, count in found.outcomes.most_common())
    sys.stdout.write(
        f"\n{role}, seed {SEED}: {found.outcomes.total()} calls, {found.recorded[role]} events recorded; "
        f"{told}; resident MiB: {[size >> 20 for size in sizes]}\n"
    )
    assert not found.wrong, found.wrong[0]
    third = len(sizes) // 3
    assert max(sizes[-third:]) - max(sizes[:third]) < _MOST_GROWTH, sizes


def _check_reach(found: Found) -> None:
    """See that the calls got somewhere: else they would show nothing."""
    ok = Counter({role: found.outcomes[f"{role}: OK"] + found.outcomes[f"{role}: goes on"] for role in ROLES})
    assert all(ok[role] > 10 for role in ("viewer", "operator", "auditor", "admin")), ok
    refused = {role: found.outcomes[f"{role}: PERMISSION_DENIED NOT_ALLOWED"] for role in ROLES}
    assert all(refused[role] > 5 for role in ROLES), refused
    assert found.outcomes["operator: NOT_FOUND VIRTUAL_MACHINE_NOT_FOUND"] > 5, found.outcomes
    assert found.recorded["admin"] > 10, found.recorded
    assert found.recorded["operator"] > 5, found.recorded
    assert not any(found.recorded[role] for role in ("viewer", "auditor", "executor", "delegate", "none"))


def of_its_own(directory: Path, number: int) -> Path:
    """Return a new directory."""
    (made := directory / str(number)).mkdir()
    return made


def resident_bytes() -> int:
    """Return how much memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
