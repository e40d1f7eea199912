"""What cannot be started says which setting, file or address is wrong, with exit code 2, and touches nothing."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from demo.programs import Daemon, NotStarted, Program, SimulatedHost
from snapshotd.api.v1 import host_pb2
from tests.e2e.system import Client, inventory

NO_ROOM = """\
import resource, runpy, sys
size = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
runpy.run_module("snapshotd", run_name="__main__", alter_sys=True)
"""
"""`snapshotd`, after a number: no file may grow beyond so many bytes, as on a disk that is full."""


def refused(tmp_path: Path, *arguments: str, environ: dict[str, str] | None = None) -> str:
    """Run `snapshotd` with arguments that it refuses; return what it says."""
    program = Program(list(arguments), tmp_path / "log", environ=environ)
    with pytest.raises(NotStarted) as error:
        program.start()
    assert error.value.code == 2, error.value
    assert "Traceback" not in str(error.value)
    return str(error.value)


def settings(tmp_path: Path, text: str) -> list[str]:
    """Write a settings file; return the arguments that name it."""
    (tmp_path / "snapshotd.toml").write_text(text, encoding="utf-8")
    return ["serve", "--config", str(tmp_path / "snapshotd.toml"), "--storage-directory", str(tmp_path / "storage")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server", "it is not TOML"),
        ('[server]\nlisten = "0.0.0.0:7443"', "other machines reach it, so it must speak TLS and know its callers"),
        ("[server]\nport = 1", "there is no setting server.port. There are: server.certificate"),
        ("[colour]\nred = 1", "there is no setting colour.red. The sections are"),
        ("listen = 1", "listen is outside of a section"),
        ("[snapshots]\nmax_per_vm = 0", "Cannot use snapshots.max_per_vm = 0 from "),
        ("[snapshots]\nmax_per_vm = 0", ".toml: must be a whole number, 1 or more"),
        ("[snapshots]\ncreate_wait = 30", 'must be a duration above 0 with its unit, e.g. "30 min"'),
        ('[executor]\nin_process = "maybe"', "must be true or false"),
        ("[executor]\nhosts = []", "must be a list of names"),
    ],
)
@pytest.mark.slow
def test_a_malformed_settings_file_is_refused_with_the_value(tmp_path: Path, text: str, says: str) -> None:
    assert says in refused(tmp_path, *settings(tmp_path, text))
    assert not (tmp_path / "storage").exists()


@pytest.mark.slow
def test_where_a_bad_setting_came_from_is_said(tmp_path: Path) -> None:
    said = refused(tmp_path, "config", "check", environ={"SNAPSHOTD_SNAPSHOTS_MAX_PER_VM": "many"})
    assert "Cannot use snapshots.max_per_vm = 'many' from $SNAPSHOTD_SNAPSHOTS_MAX_PER_VM: must be" in said
    assert "--retries-first" in refused(tmp_path, *settings(tmp_path, ""), "--retries-first", "soon")
    assert "Cannot read " in refused(tmp_path, "serve", "--config", str(tmp_path / "missing.toml"))


def broken_logs() -> Sequence[tuple[str, str]]:
    """Return what may stand where the event log should be, and the words that tell what is wrong with it."""
    return [("text", "not a database"), ("sqlite", "application id"), ("newer", "schema"), ("cut", "")]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "says"), broken_logs())
def test_a_corrupt_or_foreign_log_is_refused_and_left_as_it_is(tmp_path: Path, what: str, says: str) -> None:
    log = tmp_path / "storage" / "events.db"
    log.parent.mkdir()
    if what == "text":
        log.write_text("not a log " * 1000, encoding="utf-8")
    else:
        with Daemon(tmp_path, executor=False):
            pass
        connection = sqlite3.connect(log)
        connection.execute("PRAGMA journal_mode = DELETE")
        if what == "sqlite":
            connection.execute("PRAGMA application_id = 7")
        elif what == "newer":
            connection.execute("PRAGMA user_version = 99")
        connection.commit()
        connection.close()
        if what == "cut":
            content = log.read_bytes()
            log.write_bytes(content[: len(content) // 2])
    before = log.read_bytes()
    said = refused(tmp_path, "serve", "--storage-directory", str(log.parent), "--server-listen", "127.0.0.1:0")
    assert f"Cannot use {log} as the event log: " in said
    assert "Restore it from a backup, or set storage.directory to another directory." in said
    assert says in said
    assert log.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(("room", "file"), [(0, "events.db.lock"), (4096, "events.db"), (65_536, "views.db")])
def test_a_full_disk_is_said_whether_there_is_a_log_or_not(tmp_path: Path, room: int, file: str) -> None:
    storage = tmp_path / "storage"
    arguments = ("serve", "--storage-directory", str(storage), "--server-listen", "127.0.0.1:0")
    for _ in ("there is no log", "there is one"):
        # Its stderr goes to a pipe: a file would be full, too.
        ended = subprocess.run(
            [sys.executable, "-c", NO_ROOM, str(room), *arguments], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        made = (f"Cannot make {storage / file}: ", "Check the disk, its free space")
        opened = (f"Cannot open {storage / file}: ", "Check the disk, its free space")
        for part in made if file == "views.db" else opened:
            assert part in ended.stderr
        assert "Traceback" not in ended.stderr
        with Daemon(tmp_path, executor=False):
            pass
        (storage / "views.db").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", "an empty file", "an older log"])
def test_a_lost_log_begins_no_new_installation(tmp_path: Path, left: str) -> None:
    storage = tmp_path / "storage"
    log = storage / "events.db"
    with Daemon(tmp_path, executor=False):
        pass
    older = log.read_bytes()
    with Daemon(tmp_path, executor=False) as daemon:
        client = Client(daemon.address)
        client.register_host(5985)
        client.hosts.GetHost(host_pb2.GetHostRequest(name="hosts/hv01"))
        client.channel.close()
    for file in storage.glob("events.db*"):
        file.unlink()
    if left != "nothing":
        log.write_bytes(older if left == "an older log" else b"")
    for command in (["check"], ["serve", "--server-listen", "127.0.0.1:0"]):
        said = refused(tmp_path, *command, "--storage-directory", str(storage))
        assert f"Cannot use {log}: {storage / 'views.db'} knows 1 events, and the log holds 0" in said
        assert "Restore events.db from a backup, or move both files away to start over" in said
    assert log.exists() == (left != "nothing")
    assert left != "an empty file" or log.stat().st_size == 0
    (storage / "views.db").unlink()
    with Daemon(tmp_path, executor=False) as daemon:
        assert daemon.running


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hosts", "VMs"])
def test_a_log_that_lacks_an_event_in_the_middle_is_refused_with_the_stream_and_version(
    tmp_path: Path, kind: str
) -> None:
    log = tmp_path / "storage" / "events.db"
    described, ids = inventory(["web01"], {})
    with SimulatedHost(tmp_path / "hv01", described) as host, Daemon(tmp_path) as daemon:
        client = Client(daemon.address)
        client.register_host(host.port)
        client.register_vm(ids["web01"])
        client.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
        client.channel.close()
    stream = "host/hv01" if kind == "hosts" else f"vm/{ids['web01']}"
    with closing(sqlite3.connect(log)) as spoiler:
        spoiler.execute("DELETE FROM stored_events WHERE originator_id = ? AND originator_version = 1", (stream,))
        spoiler.commit()
    for command in (["check"], ["serve", "--server-listen", "127.0.0.1:0"]):
        said = refused(tmp_path, *command, "--storage-directory", str(log.parent))
        assert f"Cannot rely on the event log: it lacks version 1 of {stream}" in said
        assert "Restore events.db" in said


@pytest.mark.slow
def test_a_second_daemon_on_one_log_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with Daemon(tmp_path, executor=False) as first:
        said = refused(
            tmp_path, "serve", "--storage-directory", str(tmp_path / "storage"), "--server-listen", "127.0.0.1:0"
        )
        assert f"is in use by process {first.pid}" in said
        assert first.running


@pytest.mark.slow
def test_an_address_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused(tmp_path, *settings(tmp_path, ""), "--server-listen", address)
    line = f"Cannot serve on {address}: address already in use. Stop what uses it, or set another server.listen."
    assert said.endswith(f": snapshotd serve: {line}\n")


@pytest.mark.slow
def test_a_socket_file_that_cannot_be_served_on_is_said(tmp_path: Path) -> None:
    missing, taken, file = tmp_path / "nosuch" / "s.sock", tmp_path / "taken.sock", tmp_path / "file"
    file.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(taken))
        other.listen(1)
        for path, problem in (
            (missing, f"{missing.parent} is not a directory. Correct that"),
            (taken, "another process serves there. Stop it"),
            (file, "a file of that name exists. Move it away"),
        ):
            said = refused(tmp_path, *settings(tmp_path, ""), "--server-listen", f"unix:{path}")
            assert said.count("\n") == 1
            assert f"Cannot serve on unix:{path}: {problem}, or set another server.listen." in said
            (tmp_path / "log").unlink()
    long = refused(tmp_path, *settings(tmp_path, ""), "--server-listen", f"unix:{tmp_path}/{'x' * 108}")
    assert "a socket's path may have 107 bytes" in long
    with Daemon(tmp_path / "d", executor=False, options=["--server-listen", f"unix:{taken}"]) as daemon:
        assert daemon.address == f"unix:{taken}"


@pytest.mark.slow
def test_an_executor_whose_server_is_another_program_ends(tmp_path: Path) -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    said = refused(tmp_path, "executor", "--executor-server", f"127.0.0.1:{port}")
    other.stop(None).wait()
    text = f"Cannot attach to 127.0.0.1:{port}: the server refused this executor: UNIMPLEMENTED"
    assert f"snapshotd executor: {text}" in said
    assert "executor.server" in said


@pytest.mark.slow
def test_a_place_for_the_log_that_cannot_be_used_is_said_with_its_setting(tmp_path: Path) -> None:
    missing, empty, file = tmp_path / "nosuch", tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    for arguments, problem in (
        (["check", "--storage-directory", str(missing)], f"{missing}: no such directory"),
        (["check", "--storage-directory", str(empty)], f"{empty}/events.db: there is no event log to check"),
        (["serve", "--storage-directory", str(file)], f"{file}: file exists"),
        (["serve", "--storage-directory", str(file / "below")], f"{file}/below: not a directory"),
    ):
        said = refused(tmp_path, *arguments)
        assert (
            f"Cannot use storage.directory from --storage-directory: {problem}. Correct that, or set another." in said
        )
        assert "Errno" not in said
        (tmp_path / "log").unlink()
    assert not missing.exists()
    assert list(empty.iterdir()) == []


@pytest.mark.slow
def test_what_stands_in_the_place_of_the_views_is_said_and_left(tmp_path: Path) -> None:
    with Daemon(tmp_path, executor=False):
        pass
    views = tmp_path / "storage" / "views.db"
    views.unlink()
    (views / "inside").mkdir(parents=True)
    said = refused(tmp_path, "serve", "--server-listen", "127.0.0.1:0", "--storage-directory", str(views.parent))
    assert f"Cannot make {views}: is a directory. Check the disk, its free space" in said


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "executor"])
def test_a_place_for_credentials_that_is_no_directory_is_refused(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    for name in ("nosuch", "file"):
        said = refused(tmp_path, command, "--executor-credentials", str(tmp_path / name))
        assert (
            f"Cannot use executor.credentials from --executor-credentials: {tmp_path / name} is not a directory" in said
        )


@pytest.mark.slow
def test_log_and_views_are_their_owners_only_also_in_a_directory_that_is_open_to_all(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    storage.chmod(0o755)
    with Daemon(tmp_path, executor=False) as daemon:
        client = Client(daemon.address)
        client.register_host(5985)
        client.channel.close()
        modes = {file.name: file.stat().st_mode & 0o777 for file in storage.iterdir()}
    assert {"events.db", "events.db-wal", "views.db", "views.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}
