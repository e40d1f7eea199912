"""An account that loses its rights on a host amid the work, on both engines: what waits is done once, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.longrunning.operations_pb2 import GetOperationRequest, Operation

from snapshotd.api.v1.operation_pb2 import OperationMetadata
from tests.e2e.system import System, metadata_of, until
from tests.powershell_engine import pwsh

COMMAND = "Add-LocalGroupMember -SID S-1-5-32-578"


@contextmanager
def without_rights(directory: Path, engine: str, options: Sequence[str] = ()) -> Iterator[System]:
    """Open a system with a VM that has one snapshot, and whose host shows the account nothing any more."""
    host_options = ["--engine", engine, *(["--pwsh", str(pwsh())] if engine == "pwsh" else [])]
    with System(directory, host_options=host_options, daemon_options=options) as system:
        system.client.succeeded(system.client.create(system.ids["web01"], "before"))
        system.host.control("hide")
        yield system


@pytest.fixture(params=["builtin", pytest.param("pwsh", marks=pytest.mark.powershell)])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def names(system: System) -> list[str]:
    """Return the names of the checkpoints on the host, without what marks them as ours."""
    return [c["name"].partition(" #")[0] for c in system.truth_of(system.ids["web01"])["checkpoints"]]


@pytest.mark.slow
def test_a_create_waits_for_the_rights_tells_how_to_give_them_and_then_succeeds_once(
    tmp_path: Path, engine: str
) -> None:
    with without_rights(tmp_path, engine) as system:
        asked = system.client.create(system.ids["web01"], "nightly")

        def now() -> Operation:
            return system.client.operations.GetOperation(GetOperationRequest(name=asked.name))

        until(lambda: COMMAND in metadata_of(now()).wait.message)
        assert not now().done
        assert names(system) == ["before"]
        system.host.control("hide", hidden=False)
        ended = system.client.succeeded(asked)
        assert metadata_of(ended).state == OperationMetadata.SUCCEEDED
        assert names(system) == ["before", "nightly"]


@pytest.mark.slow
def test_a_create_that_never_gets_the_rights_was_certainly_not_done(tmp_path: Path, engine: str) -> None:
    with without_rights(tmp_path, engine, ["--snapshots-create-wait", "5 s"]) as system:
        ended = system.client.wait(system.client.create(system.ids["web01"], "nightly"))
        assert metadata_of(ended).state == OperationMetadata.FAILED
        assert "was not begun" in ended.error.message
        assert COMMAND in ended.error.message
        assert metadata_of(ended).steps[0].attempts == 1
        system.host.control("hide", hidden=False)
        assert names(system) == ["before"]
        system.client.succeeded(system.client.create(system.ids["web01"], "again"))
        assert names(system) == ["before", "again"]
