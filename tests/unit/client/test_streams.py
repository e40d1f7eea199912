"""Standard output that cannot encode, is full, closed, or read by nobody: told, and never a traceback."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree
from tests.unit.client.fake_service import FakeService

VM = "11111111-2222-3333-4444-555555555501"
COMMAND = [sys.executable, "-m", "snapshotd.client", "snapshot", "list", VM]


def tree_of(snapshot: Snapshot) -> SnapshotTree:
    """Return a tree of one snapshot."""
    return SnapshotTree(nodes=[SnapshotTree.Node(snapshot=snapshot)])


def run(service: FakeService, shell: str = "", **environ: str) -> subprocess.CompletedProcess[bytes]:
    """List snapshots as a process, as a part of a line of the shell."""
    tree = tree_of(Snapshot(display_name="Jürgen → 漢"))
    service.answers["GetSnapshotTree"] = lambda _: tree
    known = {**os.environ, "SNAPSHOTD_SERVER": service.address, "SNAPSHOTD_ACTOR": "ann", **environ}
    known.pop("PYTHONUNBUFFERED", None)  # what is buffered is written at the end only, where it is easily lost
    command = ["bash", "-c", f'"$@" {shell}', "bash", *COMMAND]
    ran = subprocess.run(command, capture_output=True, env=known, timeout=60, check=False)
    assert b"Traceback" not in ran.stderr, ran.stderr
    assert b"Exception" not in ran.stderr, ran.stderr
    return ran


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "text"), [("ascii", b"J\\xfcrgen \\u2192 \\u6f22"), ("latin-1", b"J\xfcrgen \\u2192 \\u6f22")]
)
def test_what_cannot_be_encoded_is_escaped(service: FakeService, encoding: str, text: bytes) -> None:
    ran = run(service, PYTHONIOENCODING=encoding)
    assert (ran.returncode, text in ran.stdout) == (0, True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written_has_its_exit_code(service: FakeService) -> None:
    ran = run(service, ">/dev/full")
    assert (ran.returncode, b"Cannot write the output: No space left" in ran.stderr) == (8, True)
    assert run(service, ">/dev/full 2>/dev/full").returncode == 8


@pytest.mark.slow
def test_closed_output_is_told_before_anything_is_asked(service: FakeService) -> None:
    ran = run(service, ">&-")
    assert (ran.returncode, b"standard output is closed" in ran.stderr) == (8, True)
    assert not service.asked
    assert run(service, ">&- 2>&-").returncode == 8


@pytest.mark.slow
def test_a_reader_that_has_read_enough_is_no_error(service: FakeService) -> None:
    ran = run(service, "| true; exit ${PIPESTATUS[0]}")
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.slow
def test_a_table_fits_the_terminal_and_is_whole_elsewhere(service: FakeService) -> None:
    tree = tree_of(Snapshot(display_name="n" * 200, uid=VM))
    service.answers["GetSnapshotTree"] = lambda _: tree
    known = {**os.environ, "SNAPSHOTD_SERVER": service.address, "SNAPSHOTD_ACTOR": "ann"}
    known.pop("COLUMNS", None)
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 130))
    subprocess.run(COMMAND, stdout=its, env=known, timeout=60, check=True)
    os.close(its)
    lines = os.read(ours, 65536).decode().splitlines()
    os.close(ours)
    assert len(lines[1]) <= 130
    assert lines[1].startswith("nnnnnnnnnnn")
    assert "n…  " in lines[1]
    whole = subprocess.run(COMMAND, capture_output=True, env=known, timeout=60, check=True)
    assert b"n" * 200 in whole.stdout


@pytest.mark.slow
def test_no_server_is_told_once(service: FakeService) -> None:
    ran = run(service, SNAPSHOTD_SERVER="127.0.0.1:1")
    assert (ran.returncode, ran.stderr.count(b"\n")) == (6, 1), ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("given", "used"), [(None, "NONE"), ("DEBUG", "DEBUG")])
def test_grpc_itself_writes_nothing_unless_it_is_told_to(given: str | None, used: str) -> None:
    known = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    known |= {"GRPC_VERBOSITY": given} if given else {}
    # It reads this when it is imported, so it must be there by then.
    code = "import sys, os, snapshotd.client; print(os.environ['GRPC_VERBOSITY'], 'grpc' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=known, timeout=60, check=True
    )
    assert ran.stdout.split() == [used, "False"]
