"""What is told of a host's state."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from snapshotd.api.v1.host_pb2 import Host as Message
from snapshotd.dispatch.watch import Wait
from snapshotd.domain.host import HostRecord
from snapshotd.domain.ids import HostId
from snapshotd.domain.operation import Failure
from snapshotd.server.resource_messages import host_message

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOST = HostRecord(host_id=HostId("hv01"), transport="NTLM_HTTP", registered_at=NOW)


def wait(reason: str) -> Wait:
    """Return why a host does not answer."""
    return Wait(failure=Failure(reason=reason, message="m"), since=NOW)


@pytest.mark.parametrize(
    ("executor", "contact", "state"),
    [
        ("", (True, None), Message.NO_EXECUTOR),
        ("e", (False, None), Message.UNTRIED),
        ("e", (True, None), Message.REACHABLE),
        ("e", (True, wait("HOST_UNREACHABLE")), Message.UNREACHABLE),
        ("e", (True, wait("AUTHENTICATION_FAILED")), Message.UNREACHABLE),
        ("e", (True, wait("CREDENTIAL_MISSING")), Message.UNTRIED),
    ],
)
def test_a_host_is_unreachable_only_if_somebody_tried_to_reach_it(
    executor: str, contact: tuple[bool, Wait | None], state: Message.State.ValueType
) -> None:
    message = host_message(HOST, 0, executor, contact, None, contact[1])
    assert message.state == state
    assert message.HasField("wait") == (contact[1] is not None)
