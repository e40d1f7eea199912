"""Thousands of calls by chance: each is answered, or refused for a reason that stands in it. SNAPSHOTD_TEST_SEED=N."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from tests.integration.fuzzing import METHODS, FuzzedCall, fuzzed_call
from tests.integration.whole_server import Served, serve
from tests.integration.writing import write
from tests.unit.projections.histories import history

SEED: Final = int(os.environ.get("SNAPSHOTD_TEST_SEED", "5"))
CALLS: Final = 5000
FAULTS: Final = ("UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED", "CANCELLED")
_AT_ONCE: Final = 40
_ENDLESS_S: Final = 0.3
_PATIENCE_S: Final = 60.0


async def outcome(channel: grpc.aio.Channel, call: FuzzedCall) -> str:
    """Return how a call ended: with OK, or the code and the reason that its one ErrorInfo tells."""
    one: Any = channel.unary_stream(call.path)
    none: Any = channel.stream_stream(call.path)
    method, request = (none, iter(())) if call.message is None else (one, call.message)
    wait_s = _ENDLESS_S if call.endless else _PATIENCE_S
    try:
        async for _ in method(request, timeout=wait_s, metadata=call.metadata):
            pass
    except grpc.aio.AioRpcError as error:
        if call.endless and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return "goes on"
        return f"{error.code().name} {reason(error)}"
    return "OK"


def reason(error: grpc.aio.AioRpcError) -> str:
    """Return the reason of a refusal; NONE if it is not told exactly once, in words too."""
    metadata: Any = error.trailing_metadata() or ()
    found = []
    for data in (value for key, value in metadata if key == "grpc-status-details-bin"):
        for detail in Status.FromString(data).details:
            info = ErrorInfo()
            if detail.Unpack(info) and info.domain == "snapshotd" and error.details():
                found.append(info.reason)
    return found[0] if len(found) == 1 else "NONE"


async def all_outcomes(served: Served) -> tuple[Counter[str], list[tuple[str, FuzzedCall]]]:
    """Make the calls; return how often each outcome came, and the calls whose outcome is wrong."""
    chance, calls = random.Random(SEED), 0
    found, wrong = Counter[str](), list[tuple[str, FuzzedCall]]()

    async def caller() -> None:
        nonlocal calls
        while calls < CALLS:
            calls += 1
            call = fuzzed_call(chance)
            ended = await outcome(served.channel, call)
            found[ended] += 1
            if ended.startswith(FAULTS) or ended.endswith(" NONE"):
                wrong.append((ended, call))

    async with asyncio.TaskGroup() as callers:
        for _ in range(_AT_ONCE):
            callers.create_task(caller())
    return found, wrong


@pytest.mark.slow
async def test_every_call_is_answered_or_refused_with_one_reason_and_without_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with serve(tmp_path) as served:
        following = asyncio.create_task(served.projections.run())
        await write(served.log, history(3, 30).envelopes)
        with caplog.at_level(logging.INFO):
            found, wrong = await all_outcomes(served)
        following.cancel()
    assert found.total() == CALLS, SEED
    assert wrong == [], SEED
    assert not faults
    assert [r.getMessage() for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR] == []
    malformed = [r for r in caplog.records if "malformed request" in r.getMessage()]
    assert 1 <= len(malformed) <= 10
    assert found["INVALID_ARGUMENT MALFORMED_REQUEST"] > CALLS / 10
    assert found["OK"] + found["goes on"] > CALLS / 20
    assert len(found) >= 9, found


def test_the_calls_reach_every_method() -> None:
    chance = random.Random(SEED)
    reached = {fuzzed_call(chance).path for _ in range(CALLS)}
    assert {f"/{m.containing_service.full_name}/{m.name}" for m in METHODS} <= reached
