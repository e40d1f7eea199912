"""Starts what a client asks for in a real PowerShell, as processes of their own, with the stub modules in reach."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from snapshotd.simulator.hypervisor import Hypervisor
from snapshotd.simulator.pwsh.bridge import Bridge
from snapshotd.simulator.pwsh.calls import calls_on
from snapshotd.simulator.pwsh.module import write_modules

_CHUNK: Final = 65536
_NAMES: Final = ("powershell", "pwsh")


def find_powershell(named: Path | str | None) -> Path:
    """Return the program, absolute: a relative path means the directory of now, and never a program on the PATH.

    Args:
        named: where it is said to be; None or empty: nowhere.

    Raises ValueError for what is not there. Whether it runs is seen when the engine is made.
    """
    if not named:
        raise ValueError("no pwsh is on the PATH")
    pwsh = Path(named).resolve()
    if not pwsh.is_file():
        raise ValueError(f"there is no PowerShell at {named}")
    return pwsh


class PwshEngine:
    """Runs PowerShell on a simulated host.

    Args:
        host: the model.
        pwsh: the program.
        directory: for the stub modules and the socket; made if missing.

    Raises ValueError for a program that cannot be run, or is no PowerShell.
    """

    def __init__(self, host: Hypervisor, pwsh: Path, directory: Path) -> None:
        self._pwsh = pwsh
        self._netbios_name = host.name.partition(".")[0][:15].upper()
        self._modules = directory / "modules"
        write_modules(self._modules, pwsh)
        # The host script finds the journals where a host without a named directory has them.
        assert host.journal_directory.name == "snapshotd", host.journal_directory
        self._program_data = host.journal_directory.parent.resolve()
        # Not in the directory: a socket's path is at most 107 bytes long.
        self._sockets = tempfile.TemporaryDirectory(prefix="snapshotd-")
        self._socket = Path(self._sockets.name) / "bridge"
        self._bridge = Bridge(self._socket, calls_on(host))

    def start(self, command_line: str) -> PwshProcess | RefusedProcess:
        """Start what a command line says, if it is PowerShell."""
        program, *arguments = shlex.split(command_line, posix=False)
        name = program.strip('"').replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")
        if name not in _NAMES:
            return RefusedProcess(f"'{program}' is not recognized: the simulated host has PowerShell only.")
        token = secrets.token_hex(16)
        environment = {
            **os.environ,
            "COMPUTERNAME": self._netbios_name,
            "PSModulePath": str(self._modules),
            "ProgramData": str(self._program_data),
            "SNAPSHOTD_BRIDGE": str(self._socket),
            "SNAPSHOTD_BRIDGE_TOKEN": token,
        }
        command = [str(self._pwsh), *(a.strip('"') for a in arguments)]
        return PwshProcess(
            command,
            environment,
            begins=lambda process: self._bridge.admit(token, process),
            ended=lambda: self._bridge.dismiss(token),
        )

    def close(self) -> None:
        """Take no more calls; what runs is its client's to end."""
        self._bridge.close()
        self._sockets.cleanup()


class RefusedProcess:
    """A process that was never started: it writes why, and ends.

    Args:
        reason: what it says on stderr.
    """

    def __init__(self, reason: str) -> None:
        self._output = f"{reason}\r\n".encode()

    def write_stdin(self, data: bytes) -> None:
        """Discard the input."""

    def close_stdin(self) -> None:
        """Do nothing: there is no input to end."""

    def read(self, timeout_s: float) -> tuple[bytes, bytes, int | None]:
        """Return why, and the exit code."""
        del timeout_s
        output, self._output = self._output, b""
        return b"", output, 1

    def kill(self) -> None:
        """Do nothing: there is nothing to kill."""


class PwshProcess:
    """One PowerShell process; also the caller that the model knows it by.

    Args:
        command: the program and its arguments.
        environment: its environment.
        begins: called once before it begins: it may call the model before whoever starts it comes to anything else.
        ended: called once when it has ended.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        begins: Callable[[PwshProcess], None],
        ended: Callable[[], None],
    ) -> None:
        self.killed = False
        begins(self)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._stdout, self._stderr = bytearray(), bytearray()
        self._open = 2
        self._exit_code: int | None = None
        self._ended = ended
        for name, into in (("stdout", self._stdout), ("stderr", self._stderr)):
            threading.Thread(target=self._collect, args=(name, into), name=f"pwsh {name}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its id on this machine."""
        return self._process.pid

    def write_stdin(self, data: bytes) -> None:
        """Pass input on; lost when the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError):
            return

    def close_stdin(self) -> None:
        """End its input."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            return

    def read(self, timeout_s: float) -> tuple[bytes, bytes, int | None]:
        """Wait for output, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._stdout or self._stderr or self._exit_code is not None, timeout_s)
            stdout, stderr = bytes(self._stdout), bytes(self._stderr)
            self._stdout.clear()
            self._stderr.clear()
            return stdout, stderr, self._exit_code

    def kill(self) -> None:
        """End it and what it started, as SIGKILL does."""
        self.killed = True
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _collect(self, name: str, into: bytearray) -> None:
        stream = getattr(self._process, name)
        while chunk := os.read(stream.fileno(), _CHUNK):
            with self._changed:
                into += chunk
                self._changed.notify_all()
        with self._changed:
            self._open -= 1
            last = not self._open
        if last:
            self._finish()

    def _finish(self) -> None:
        """Record its end, once both outputs have ended."""
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
        self._ended()
        with self._changed:
            # A killed process has exit code 1 on Windows (not verified).
            self._exit_code = code if code >= 0 else 1
            self._changed.notify_all()
