"""Tab completion: what can stand where, names from the server, and a real bash that is typed to."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.longrunning.operations_pb2 import ListOperationsResponse, Operation
from google.protobuf.message import Message

from snapshotd.api.v1.host_pb2 import Host, ListHostsResponse
from snapshotd.api.v1.snapshot_pb2 import ListSnapshotsRequest, ListSnapshotsResponse, Snapshot
from snapshotd.api.v1.virtual_machine_pb2 import (
    Disk,
    ListVirtualMachinesResponse,
    ListVolumeSnapshotsResponse,
    VirtualMachine,
    VolumeSnapshot,
)
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

WEB, DB = "11112222-2222-3333-4444-555555555501", "33334444-2222-3333-4444-555555555502"
OPERATION = f"operations/{WEB}.2-abcd0002"


@pytest.fixture(autouse=True)
def known(service: FakeService) -> None:
    vms = [
        VirtualMachine(name=f"virtualMachines/{i}", uid=i, display_name=n) for i, n in ((WEB, "web01"), (DB, "db 1"))
    ]
    service.answers |= {
        "ListHosts": lambda _: ListHostsResponse(hosts=[Host(name="hosts/hv01"), Host(name="hosts/hv02")]),
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(virtual_machines=vms),
        "ListSnapshots": lambda _: ListSnapshotsResponse(snapshots=[Snapshot(uid=DB, display_name="before it's")]),
        "ListVolumeSnapshots": lambda _: ListVolumeSnapshotsResponse(
            volume_snapshots=[VolumeSnapshot(name=f"virtualMachines/{WEB}/volumeSnapshots/{DB}", display_name="monday")]
        ),
        "GetVirtualMachine": lambda r: VirtualMachine(
            name=r.name, disks=[Disk(location=f"SCSI:0:{n}") for n in (0, 1)]
        ),
        "ListOperations": lambda _: ListOperationsResponse(operations=[Operation(name=OPERATION)]),
    }


def found(ctl: Ctl, line: str, shell: str = "zsh", **environ: str) -> list[str]:
    """Return what can stand at the end of a line."""
    said = ctl("__complete", shell, f"snapshotctl {line}", **environ)
    assert (said.code, said.err) == (0, "")
    return said.out.splitlines()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ho", ["host"]),
        ("host sh", ["show"]),
        ("-o json snapshot rele", ["release"]),
        ("snapshot create web01 --allow", ["--allow-fallback"]),
        ("vm list --columns x --ho", ["--host"]),
        ("-o ", ["table", "json", "jsonl", "yaml", "csv", "name"]),
        ("host list -o y", ["yaml"]),
        ("host list --output=y", ["--output=yaml"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("host list ho", []),
        (
            "nonsense ",
            ["host", "vm", "snapshot", "volume-snapshot", "operation", "audit", "status", "context", "completion"],
        ),
        ("vm offering web01 --dynamic-memory ", ["on", "off"]),
        ("vm update web01 --export-policy on-s", ["on-stop", "on-snapshot"]),
        ("vm register hv01 ", []),
        ("vm attach web01 ", []),
        ("host add ", []),
    ],
)
def test_commands_and_options_are_completed_without_the_server(
    ctl: Ctl, service: FakeService, line: str, words: list[str]
) -> None:
    assert found(ctl, line) == words
    assert not service.asked


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vm show we", ["web01"]),
        ("vm show 3333", [DB]),
        ("operation list --vm w", ["web01"]),
        ("operation list --vm=w", ["--vm=web01"]),
        ("host show hv", ["hv01", "hv02"]),
        ("vm register h", ["hv01", "hv02"]),
        ("snapshot show web01 be", ["before it's"]),
        ("snapshot show 'db 1' be", ["before it's"]),
        ("snapshot revert web01 l", ["latest"]),
        ("snapshot delete --dry-run web01 333", [DB]),
        ("audit list --vm web01 --snapshot be", ["before it's"]),
        ("operation wait ab", ["abcd0002"]),
        ("operation settle ab", ["abcd0002"]),
        ("vm detach web01 ", ["SCSI:0:0", "SCSI:0:1"]),
        ("vm resize --allow-shrink web01 SCSI:0:1", ["SCSI:0:1"]),
        ("volume-snapshot take web01 SCSI:0:0", ["SCSI:0:0"]),
        ("volume-snapshot delete web01 mo", ["monday"]),
        ("volume-snapshot show web01 333", [DB]),
        ("vm start web01 --host ", ["hv01", "hv02"]),
        ("operation show operations/", [OPERATION]),
    ],
)
def test_names_are_completed_from_the_server(ctl: Ctl, line: str, words: list[str]) -> None:
    assert found(ctl, line) == words


def test_the_snapshots_are_those_of_the_vm_on_the_line(ctl: Ctl, service: FakeService) -> None:
    found(ctl, "snapshot show web01 ")
    assert service.of(ListSnapshotsRequest)[-1].parent == f"virtualMachines/{WEB}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vm show d", ["db\\ 1"]),
        ("vm show db\\ ", ["db\\ 1"]),
        ('vm show "db ', ["db 1"]),
        ("vm show 'd", ["db 1"]),
        ("snapshot show web01 b", ["before\\ it\\'s"]),
        ("host list --output=j", ["json", "jsonl"]),
        ("vm show web01\\", []),
        ("vm detach web01 SCSI:0:", ["0", "1"]),
    ],
)
def test_bash_gets_words_as_it_takes_them(ctl: Ctl, line: str, words: list[str]) -> None:
    assert found(ctl, line, "bash") == words


def test_a_server_that_is_not_there_or_refuses_completes_nothing_and_says_nothing(
    ctl: Ctl, service: FakeService
) -> None:
    assert found(ctl, "vm show w", SNAPSHOTD_SERVER="127.0.0.1:1") == []
    assert found(ctl, "--server 127.0.0.1:1 vm show w") == []
    assert found(ctl, "vm show w", SNAPSHOTD_SERVER="nowhere") == []

    def refuse(_: object) -> Message:
        raise Refuse(grpc.StatusCode.UNAVAILABLE, "No.", "VIEW_STOPPED")

    service.answers["ListVirtualMachines"] = refuse
    assert found(ctl, "vm show w") == []
    assert len(service.asked) == 1, "it is asked once, and not waited for"
    assert ctl("__complete", "bash").out == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_this_program(ctl: Ctl, service: FakeService, shell: str) -> None:
    said = ctl("completion", shell)
    assert (said.code, said.err, f"__complete {shell}" in said.out) == (0, "", True)
    assert f"snapshotctl completion {shell}" in said.out.splitlines()[0] + said.out.splitlines()[1]
    assert not service.asked


class Bash:
    """An interactive bash with the completion loaded, to be typed to."""

    def __init__(self, service: FakeService, home: Path) -> None:
        self._ours, its = pty.openpty()
        environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "TERM": "dumb",
            "SNAPSHOTD_SERVER": service.address,
            "SNAPSHOTD_ACTOR": "ann",
            "PS1": "ready> ",
        }
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=its,
            stdout=its,
            stderr=its,
            env=environ,
            start_new_session=True,
        )
        os.close(its)
        self.type("bind 'set bell-style none'; source <(snapshotctl completion bash); echo load''ed\n", "loaded")

    def type(self, keys: str, until: str) -> str:
        """Type keys; return what is shown until a text is there."""
        os.write(self._ours, keys.encode())
        shown, end = "", time.monotonic() + 60
        while until not in shown:
            assert time.monotonic() < end, shown
            if select.select([self._ours], [], [], 1.0)[0]:
                shown += os.read(self._ours, 65536).decode()
        return shown

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.mark.slow
def test_a_real_bash_completes_commands_options_and_names(service: FakeService, tmp_path: Path) -> None:
    bash = Bash(service, tmp_path)
    try:
        bash.type("snapshotctl vm sh\t", "vm show ")
        bash.type("we\t", "web01 ")
        bash.type("--outp\t", "--output ")
        bash.type("na\t", "name ")
        shown = bash.type("\n", "ready> ")
        assert f"virtualMachines/{WEB}" in shown
        bash.type("snapshotctl snapshot show d\t", "db\\ 1 ")
        bash.type('"bef\t', "before it's\"")
    finally:
        bash.close()
