r"""The builtin engine: runs the release's own bootstrap and host script, and nothing else, without a PowerShell.

    start(command line) ──► BuiltinProcess: a thread ──► first line: READY or MISMATCH
                                                    └──► each further line ──► HostScript ──► one line

A process that is killed is dead at once: no more output, its mutexes abandoned; whatever its thread still waits for in
the model ends with ScriptKilled. Never imports the host script: bootstrap says what is accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Final

from snapshotd.simulator.host_script import HostScript, Surroundings
from snapshotd.simulator.hypervisor import Hypervisor, ScriptKilled
from snapshotd.simulator.mutexes import NamedMutexes

_KILLED: Final = 1
"""Exit code of a process that was ended from outside, as Windows has it for Stop-Process [not verified]."""


@dataclass(frozen=True, slots=True)
class AcceptedScript:
    """What the engine runs."""

    command_line: str
    """The release's bootstrap as the executor starts it: executable and arguments, joined by blanks."""
    script_sha256: str
    """Of the host script's UTF-8 bytes, in hex; the one that this bootstrap checks."""


class BuiltinEngine:
    """Starts host scripts on one simulated host.

    Args:
        host: the model.
        accepted: what is run.
        durable: write journals through to the disk. A simulated host outlives its processes, and not a power cut of
            the machine it runs on; so this is off unless asked for.
        mutex_wait_s: how long a script waits for a VM's mutex.
        result_wait_s: how long the result of a cmdlet may take to show after the cmdlet has returned.
        second_look_s: how long an observation waits before it looks again for what was begun.
    """

    def __init__(
        self,
        host: Hypervisor,
        accepted: AcceptedScript,
        *,
        durable: bool = False,
        mutex_wait_s: float = 5.0,
        result_wait_s: float = 30.0,
        second_look_s: float = 2.0,
    ) -> None:
        self._accepted = accepted
        self._mutexes = NamedMutexes()
        self._around = Surroundings(
            host=host,
            mutexes=self._mutexes,
            end_process=self._end_process,
            durable=durable,
            mutex_wait_s=mutex_wait_s,
            result_wait_s=result_wait_s,
            second_look_s=second_look_s,
        )
        self._lock = threading.Lock()
        self._running: dict[int, BuiltinProcess] = {}
        self._pids = count(4 * (1000 + secrets.randbelow(10_000)), 4)

    def start(self, command_line: str) -> BuiltinProcess:
        """Start a process with the command line as the client wrote it; a foreign one ends at once with a message."""
        with self._lock:
            process = BuiltinProcess(next(self._pids), self._ended)
            self._running[process.pid] = process
        if command_line.strip() == self._accepted.command_line.strip():
            script = HostScript(self._around, process)
            process.run(script, self._accepted.script_sha256.lower())
        else:
            got, accepted = (_sha256(text.strip()) for text in (command_line, self._accepted.command_line))
            process.end(1, stderr=_only_our_own("command line", got, accepted))
        return process

    def _end_process(self, pid: int, started: str) -> bool:
        with self._lock:
            process = self._running.get(pid)
        if process is None or process.started != started:
            return False
        process.kill()
        return True

    def _ended(self, process: BuiltinProcess) -> None:
        self._mutexes.abandon(process)
        with self._lock:
            self._running.pop(process.pid, None)


class BuiltinProcess:
    """One process: its pipes, its life, and the thread that is its script. Used by several threads at once."""

    def __init__(self, pid: int, ended: Callable[[BuiltinProcess], None]) -> None:
        self.pid: Final = pid
        self.started: Final = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._on_end = ended
        self._changed = threading.Condition()
        self._stdin = bytearray()
        self._stdin_closed = False
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._exit_code: int | None = None

    @property
    def killed(self) -> bool:
        """Whether it is dead. A script that still runs in it has no effect any more."""
        return self._exit_code is not None

    def write_stdin(self, data: bytes) -> None:
        """Pass input on; lost when the process has ended."""
        with self._changed:
            self._stdin += data
            self._changed.notify_all()

    def close_stdin(self) -> None:
        """End its input."""
        with self._changed:
            self._stdin_closed = True
            self._changed.notify_all()

    def read(self, timeout_s: float) -> tuple[bytes, bytes, int | None]:
        """Wait for output, at most so many seconds, and take it: stdout, stderr, exit code."""
        with self._changed:
            self._changed.wait_for(lambda: self._stdout or self._stderr or self.killed, timeout_s)
            output = bytes(self._stdout), bytes(self._stderr), self._exit_code
            self._stdout.clear()
            self._stderr.clear()
            return output

    def kill(self) -> None:
        """End it at once, whatever its thread is at; harmless when it has ended."""
        self.end(_KILLED)

    def end(self, exit_code: int, stderr: bytes = b"") -> None:
        """End it with an exit code and a last message; nothing happens when it has ended."""
        with self._changed:
            if self.killed:
                return
            self._stderr += stderr
            self._exit_code = exit_code
            self._changed.notify_all()
        self._on_end(self)

    def pause(self, seconds: float) -> None:
        """Wait. Raises ScriptKilled when it dies meanwhile."""
        with self._changed:
            if self._changed.wait_for(lambda: self.killed, seconds):
                raise ScriptKilled

    @contextmanager
    def living(self) -> Iterator[None]:
        """Keep the process alive inside, so that only a living script writes. Raises ScriptKilled."""
        with self._changed:
            if self.killed:
                raise ScriptKilled
            yield

    def run(self, script: HostScript, accepted_sha256: str) -> None:
        """Run the script in a thread of its own."""
        thread = threading.Thread(
            target=self._live, args=(script, accepted_sha256), name=f"host-script-{self.pid}", daemon=True
        )
        thread.start()

    def _live(self, script: HostScript, accepted_sha256: str) -> None:
        try:
            if not self._load(accepted_sha256):
                return
            while (line := self._next_line()) is not None:
                self._write(script.answer(line))
            self.end(0)
        except ScriptKilled:
            pass  # it has ended: whoever killed it has seen to the rest
        finally:
            # A bug in the script ends the process as an exception ends PowerShell; the thread then shows the bug.
            self.end(1, stderr=b"the host script of the builtin engine failed\r\n")

    def _load(self, accepted_sha256: str) -> bool:
        """Do what the bootstrap does with its first line."""
        line = self._next_line()
        if line is None:
            self.end(0)
            return False
        try:
            got = hashlib.sha256(base64.b64decode(line, validate=True)).hexdigest()
        except binascii.Error as error:
            self.end(1, stderr=f"the first line is not base64: {error}\r\n".encode())
            return False
        if got != accepted_sha256:
            self._write(f"MISMATCH {got}".encode())
            self.end(1, stderr=_only_our_own("host script", got, accepted_sha256))
            return False
        self._write(f"READY {got}".encode())
        return True

    def _next_line(self) -> bytes | None:
        """Wait for a line that is not empty; None: the input has ended. Raises ScriptKilled."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self.killed or self._stdin_closed or b"\n" in self._stdin)
                if self.killed:
                    raise ScriptKilled
                line, _, rest = self._stdin.partition(b"\n")
                self._stdin = rest
                if line.strip():
                    return bytes(line.strip())
                if self._stdin_closed and not self._stdin:
                    return None

    def _write(self, line: bytes) -> None:
        with self.living():
            self._stdout += line + b"\r\n"
            self._changed.notify_all()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _only_our_own(what: str, got: str, accepted: str) -> bytes:
    return (
        f"The builtin engine runs only the host script of its own release. The {what} has SHA-256 {got}; "
        f"{accepted} is accepted. A host simulated with --engine pwsh runs anything.\r\n"
    ).encode()
