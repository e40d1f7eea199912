"""The programs of snapshotd as processes: a simulated host, the daemon, an executor. For demos and tests.

Each is a context manager. Each can be killed and restarted, and then listens on the same address.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

USERNAME: Final = "svc-snapshotd"
PASSWORD: Final = "Str0ng-enough!"  # noqa: S105  (of a simulated host)
CREDENTIAL: Final = "hyperv"
"""The name of the credential file with the simulated host's password."""
READY_S: Final = 30.0
"""How long a program may take to get ready, and to end when told to."""
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs on loopback, where no proxy of the environment leads."""
_BESIDE: Final = Path(__file__).parents[2] / "shared" / "pwsh" / "pwsh"


def find_pwsh() -> Path | None:
    """Return a PowerShell: $SNAPSHOTD_PWSH, `pwsh` on the PATH, or one beside the checkout. None if there is none."""
    named = os.environ.get("SNAPSHOTD_PWSH") or shutil.which("pwsh")
    if named:
        return Path(named)
    return _BESIDE if _BESIDE.is_file() else None


class ControlRefused(Exception):
    """The control port refused an action; the text says why."""


class NotStarted(Exception):
    """A program did not get ready; the text has the end of its log."""

    def __init__(self, name: str, code: int, log: str) -> None:
        """Keep the exit code beside the text."""
        super().__init__(f"{name} did not start (exit code {code}): {log}")
        self.code = code


class Program:
    """`snapshotd` with a subcommand, as a process.

    Args:
        arguments: the arguments of the command line.
        log: the file for its stderr.
        speaks: whether it prints a line of JSON when it is ready.
        environ: additions to the environment.
        program: the program to start.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        *,
        speaks: bool = True,
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "snapshotd"),
    ) -> None:
        self.arguments = list(arguments)
        self.log = log
        self._speaks = speaks
        self._environ = {**os.environ, **(environ or {})}
        self._program = tuple(program)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """Start it, wait until it is ready, and return what it printed. Raises NotStarted."""
        assert self._process is None, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, *self.arguments], stdout=subprocess.PIPE, stderr=log, env=self._environ
            )
        if not self._speaks:
            return {}
        line = self._first_line()
        if not line:
            code = self.wait()
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise NotStarted(self.arguments[0], code, tail)
        said: dict[str, Any] = json.loads(line)
        return said

    @property
    def running(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def stop(self) -> int:
        """End it by SIGTERM and return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def wait(self, timeout_s: float = READY_S) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        process = self._process
        assert process is not None, "it does not run"
        code = process.wait(timeout_s)
        self._end(signal.SIGKILL)
        return code

    def _first_line(self) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        lines: list[bytes] = []
        stream = process.stdout
        reader = threading.Thread(target=lambda: lines.append(stream.readline()))
        reader.start()
        reader.join(READY_S)
        if reader.is_alive():
            process.kill()
            reader.join()
        return lines[0]

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None, "it does not run"
        assert process.stdout is not None
        process.send_signal(number)
        try:
            return process.wait(READY_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self.stop()


class HostControl:
    """Controls a simulated host from outside, and reads its truth.

    Args:
        control: "host:port" of the control port.
        listening: "host:port" of WS-Management.
        truth: the truth file.
    """

    username, password = USERNAME, PASSWORD

    def __init__(self, control: str, listening: str, truth: Path) -> None:
        self.control_address = control
        self.listening = listening
        self._truth = truth

    @property
    def port(self) -> int:
        """The port of WS-Management on 127.0.0.1."""
        return int(self.listening.rpartition(":")[2])

    def control(self, action: str, **arguments: object) -> dict[str, Any]:
        """Run an action through the control port, and return the answer. Raises ControlRefused."""
        request = urllib.request.Request(
            f"http://{self.control_address}/{action}", json.dumps(arguments).encode(), method="POST"
        )
        try:
            with _DIRECT.open(request, timeout=READY_S) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ControlRefused(json.load(error)["error"]) from error
        assert isinstance(document, dict)
        return document

    def truth(self) -> list[dict[str, Any]]:
        """Return every effect so far, in order."""
        if not self._truth.exists():
            return []
        # The last line may be incomplete at this moment.
        whole = self._truth.read_text(encoding="utf-8").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def decisive(self) -> list[dict[str, Any]]:
        """Return the decisive effects only."""
        return [line for line in self.truth() if line["decisive"]]


class SimulatedHost(HostControl, Program):
    """`snapshotd simulate-host`.

    Args:
        directory: a new or used directory for its state, truth and log.
        inventory: the content of the inventory file; written if there is none yet.
        options: more options of the command line.
        program: the program to start.
    """

    def __init__(
        self,
        directory: Path,
        inventory: Mapping[str, object],
        options: Sequence[str] = (),
        program: Sequence[str] = (sys.executable, "-m", "snapshotd"),
    ) -> None:
        HostControl.__init__(self, "127.0.0.1:0", "127.0.0.1:0", directory / "truth.jsonl")
        Program.__init__(self, [], directory / "stderr.log", program=program)
        self._directory = directory
        self._options = tuple(options)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "credential").write_text(f"{USERNAME}:{PASSWORD}\n", encoding="utf-8")
        if not (directory / "inventory.json").exists():
            (directory / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")

    def start(self) -> dict[str, Any]:
        """Start it, on the same address as before if there was one."""
        at = self._directory
        self.arguments = [
            "simulate-host",
            *("--listen", self.listening, "--control", self.control_address),
            *("--state", str(at / "state"), "--inventory", str(at / "inventory.json")),
            *("--truth", str(at / "truth.jsonl"), "--credential", str(at / "credential")),
            *self._options,
        ]
        said = super().start()
        self.listening, self.control_address = said["listening"], said["control"]
        return said


class Daemon(Program):
    """`snapshotd serve`.

    Args:
        directory: a new or used directory for its log, views, credentials and settings.
        executor: whether it runs one in its own process.
        options: more options of the command line.
    """

    def __init__(self, directory: Path, *, executor: bool = True, options: Sequence[str] = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__([], directory / "daemon.log")
        self._directory = directory
        self.options = [*options, *([] if executor else ["--no-executor"])]
        """More options of the command line, from the next start on."""
        self.address = "127.0.0.1:0"
        """The address that it serves on, once it has started."""
        self.mtls_address = ""
        """The one for callers with certificates, if it has one."""

    def start(self) -> dict[str, Any]:
        """Start it, on the same address as before if there was one."""
        self.arguments = [
            "serve",
            *("--server-listen", self.address, "--storage-directory", str(self._directory / "storage")),
            *("--executor-credentials", str(write_credential(self._directory))),
            *self.options,
        ]
        said = super().start()
        self.address, self.mtls_address = said["serving"], said.get("mtls", "")
        return said


class Executor(Program):
    """`snapshotd executor`.

    Args:
        directory: holds its credentials and log.
        server: "host:port" of the daemon.
        hosts: ids of the hosts that it reaches; empty for all.
        options: more options of the command line.
    """

    def __init__(self, directory: Path, server: str, hosts: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        credentials = str(write_credential(directory))
        arguments = ["executor", "--executor-server", server, "--executor-credentials", credentials, *options]
        for host in hosts:
            arguments += ["--host", host]
        super().__init__(arguments, directory / "executor.log", speaks=False)


def write_credential(directory: Path, password: str = PASSWORD) -> Path:
    """Write the simulated host's credential, and return the directory of credentials."""
    credentials = directory / "credentials"
    credentials.mkdir(exist_ok=True)
    (credentials / CREDENTIAL).touch(mode=0o600)
    (credentials / CREDENTIAL).write_text(f"{USERNAME}:{password}\n", encoding="utf-8")
    return credentials


def make_folders(host: Path) -> tuple[Path, Path, list[str]]:
    """Make the folders for copies of disks and for exports, in the directory of a host.

    Return both, and the options of a daemon that name them.
    """
    copies, exports = (host / name for name in ("copies", "exports"))
    for folder in (copies, exports):
        folder.mkdir()
    return copies, exports, ["--volume-snapshots-directory", str(copies), "--export-directory", str(exports)]
