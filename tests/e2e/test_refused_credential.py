"""A wrong password and many operations are one refused sign-in, as the host counts them, and no locked account."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.longrunning.operations_pb2 import GetOperationRequest, Operation

from demo.programs import write_credential
from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1.operation_pb2 import Wait
from tests.e2e.system import System, metadata_of, refusal, until

NAMES = tuple(f"web{n}" for n in range(4))


def wait_of(system: System, operation: Operation) -> Wait:
    """Return what an operation waits for."""
    request = GetOperationRequest(name=operation.name)
    return metadata_of(system.client.operations.GetOperation(request)).wait


@pytest.mark.slow
def test_a_wrong_password_is_one_refused_sign_in_until_somebody_asks_or_it_is_corrected(tmp_path: Path) -> None:
    with System(tmp_path, NAMES) as system:
        system.host.control("account", lock_after=3)
        write_credential(tmp_path / "executor", "let-me-in")
        system.executor.restart()
        waiting = [system.client.create(vm_id, "patient") for vm_id in system.ids.values()]
        for operation in waiting:
            until(lambda o=operation: wait_of(system, o).reason == "AUTHENTICATION_FAILED")  # type: ignore[misc]
        assert system.host.control("account") == {"refused": 1, "locked": False}
        said = wait_of(system, waiting[0]).message
        assert "So that the account is not locked" in said
        assert "`snapshotctl host sync hv01`" in said

        sync = host_pb2.SyncHostRequest(name="hosts/hv01")
        _, reason, message = refusal(lambda: system.client.hosts.SyncHost(sync))
        assert (reason, "let-me-in" in message) == ("AUTHENTICATION_FAILED", False)
        assert system.host.control("account") == {"refused": 2, "locked": False}

        write_credential(tmp_path / "executor")
        assert not any(system.client.wait(operation).HasField("error") for operation in waiting)
        assert system.host.control("account") == {"refused": 2, "locked": False}
