"""Thousands of calls that come at once: each is answered, or refused with a reason, and none is dropped."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import grpc
from google.longrunning.operations_pb2 import WaitOperationRequest
from google.longrunning.operations_pb2_grpc import OperationsStub

from snapshotd.domain.ids import operation_name
from snapshotd.server.access_errors import TooManyCalls
from tests.fakes import VM_ID
from tests.integration.test_fuzzed_calls import reason
from tests.integration.whole_server import serve

CALLS = 5_000
"""By default gRPC drops calls that wait to be begun from 3,000 on, without a reason."""


async def test_of_thousands_of_calls_at_once_each_gets_an_answer_or_a_reason(tmp_path: Path) -> None:
    name = operation_name(VM_ID, 1, "0a0b0c0d-0000-4000-8000-000000000000")
    async with serve(tmp_path) as served:
        stub = OperationsStub(served.channel)

        async def call() -> str:
            try:
                await stub.WaitOperation(WaitOperationRequest(name=name))
            except grpc.aio.AioRpcError as error:
                return reason(error)
            return ""

        answers = Counter(await asyncio.gather(*(call() for _ in range(CALLS))))
    assert set(answers) <= {"OPERATION_NOT_FOUND", TooManyCalls.reason}, answers
    assert answers["OPERATION_NOT_FOUND"] >= 4_000
