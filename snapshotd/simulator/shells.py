"""Remote shells and the commands in them, as WinRS has them. Never touches HTTP, SOAP text or the model.

A command's output waits in its buffer until a Receive takes it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from snapshotd.simulator import soap
from snapshotd.simulator.needs import Engine, Process
from snapshotd.simulator.network import ConnectionDropped, Drop, LineSplitter, Network

_SLICE_S: Final = 0.5
"""The longest single wait for output, so that a Receive whose connection was cut ends soon."""
_COMMAND_LINE_LIMIT: Final = 8191
"""Characters that cmd.exe takes [documented]."""


@dataclass(frozen=True)
class Quotas:
    """Limits of a host as installed [documented]."""

    shells_per_user: int = 30
    processes_per_shell: int = 25
    operations_per_user: int = 1500
    """An operation is a shell, or a command that was started in one: until the shell is closed, since the end of a
    command does not lower the count [documented: MS-WSMV, note 118; that a shell counts: inferred]."""
    idle_s: float = 7200.0


@dataclass(frozen=True)
class Output:
    """What one Receive returns. The exit code comes with the last of it."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None


@dataclass
class _Command:
    """One process and its output that nobody has taken yet."""

    process: Process
    lines: LineSplitter = field(default_factory=LineSplitter)
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    exit_code: int | None = None
    answer_is_lost: bool = False
    """The next whole line of stdout is never delivered: its connection is cut instead."""
    reading: threading.Lock = field(default_factory=threading.Lock)

    @property
    def has_answer(self) -> bool:
        """Whether a reply can be made of what is here already."""
        if self.exit_code is not None:
            return True
        return b"\n" in self.stdout if self.answer_is_lost else bool(self.stdout or self.stderr)

    def collect(self, wait_s: float) -> None:
        """Take over the process's output; wait for it, at most so long, if there is no answer without it."""
        if self.exit_code is None:
            stdout, stderr, self.exit_code = self.process.read(0.0 if self.has_answer else wait_s)
            self.stdout += stdout
            self.stderr += stderr

    def take(self, limit: int) -> Output | None:
        """Return what a reply has room for; None if there is nothing. Raises ConnectionDropped for a lost answer."""
        if not self.has_answer:
            return None
        if self.answer_is_lost:
            self.answer_is_lost = False
            del self.stdout[: self.stdout.find(b"\n") + 1]
            raise ConnectionDropped
        stdout = bytes(self.stdout[:limit])
        stderr = bytes(self.stderr[: limit - len(stdout)])
        del self.stdout[: len(stdout)], self.stderr[: len(stderr)]
        finished = not self.stdout and not self.stderr
        return Output(stdout, stderr, self.exit_code if finished else None)


@dataclass
class _Shell:
    idle_s: float
    used_at: float
    requests: int = 0
    """How many requests are under way; such a shell is not idle."""
    commands: dict[str, _Command] = field(default_factory=dict)
    started: int = 0
    """How many commands were started in it."""


class Shells:
    """All shells of one host.

    Args:
        engine: starts the processes.
        network: says which command's answer is lost.
        quotas: limits.
        start_s: seconds that a process takes to start.
    """

    def __init__(self, engine: Engine, network: Network, quotas: Quotas, start_s: float = 0.0) -> None:
        self._engine = engine
        self._network = network
        self._quotas = quotas
        self._start_s = start_s
        self._lock = threading.Lock()
        self._shells: dict[str, _Shell] = {}

    @property
    def quotas(self) -> Quotas:
        """The limits as they are now."""
        return self._quotas

    @quotas.setter
    def quotas(self, quotas: Quotas) -> None:
        with self._lock:
            self._quotas = quotas

    @property
    def open_shells(self) -> int:
        """How many shells there are."""
        with self._lock:
            return len(self._shells)

    @property
    def running_processes(self) -> int:
        """How many commands there are that have not been seen to end."""
        with self._lock:
            commands = [command for shell in self._shells.values() for command in shell.commands.values()]
        return sum(command.exit_code is None for command in commands)

    def create(self, idle_s: float | None) -> str:
        """Open a shell and return its id. Raises WsmanFault over the quota."""
        with self._lock:
            if len(self._shells) >= self._quotas.shells_per_user:
                raise soap.too_many_shells(self._quotas.shells_per_user)
            self._check_operations()
            shell_id = _new_id()
            self._shells[shell_id] = _Shell(self._quotas.idle_s if idle_s is None else idle_s, time.monotonic())
            return shell_id

    def start(self, shell_id: str, command_line: str) -> str:
        """Start a command and return its id. Raises WsmanFault without the shell, or over the quota."""
        with self._used(shell_id) as shell:
            if len(shell.commands) >= self._quotas.processes_per_shell:
                raise soap.too_many_processes(self._quotas.processes_per_shell)
            with self._lock:
                self._check_operations()
                shell.started += 1
            if self._start_s:
                time.sleep(self._start_s)
            if len(command_line) > _COMMAND_LINE_LIMIT:
                command = _Command(_TooLong())
            else:
                command = _Command(self._engine.start(command_line))
            command_id = _new_id()
            with self._lock:
                there = self._shells.get(shell_id) is shell
                if there:
                    shell.commands[command_id] = command
        if not there:
            command.process.kill()
            raise soap.aborted()
        return command_id

    def send(self, shell_id: str, command_id: str, data: bytes, *, end: bool) -> None:
        """Write to a command's stdin. Raises WsmanFault without it, ConnectionDropped before a lost command."""
        with self._used(shell_id) as shell:
            command = self._command(shell, command_id)
            drop = self._network.judge(command.lines.feed(data))
            if drop is Drop.BEFORE:
                raise ConnectionDropped
            if drop is Drop.AFTER:
                command.answer_is_lost = True
            if data:
                command.process.write_stdin(data)
            if end:
                command.process.close_stdin()

    def receive(
        self, shell_id: str, command_id: str, timeout_s: float, limit: int, connected: Callable[[], bool]
    ) -> Output:
        """Wait for output and return it.

        Args:
            shell_id: the shell.
            command_id: the command in it.
            timeout_s: the longest wait, seconds.
            limit: bytes of output that the reply has room for.
            connected: tells whether somebody still waits for the reply; output is not taken for nobody.

        Raises WsmanFault without shell or command, at the time-out, and when the command is ended meanwhile;
        ConnectionDropped instead of an answer that is to be lost.
        """
        deadline = time.monotonic() + timeout_s
        with self._used(shell_id) as shell:
            command = self._command(shell, command_id)
            while True:
                left = deadline - time.monotonic()
                with command.reading:
                    command.collect(max(0.0, min(left, _SLICE_S)))
                    if not connected():
                        raise ConnectionDropped
                    if not self._has(shell_id, command_id):
                        raise soap.aborted()
                    output = command.take(limit)
                if output is not None:
                    return output
                if left <= 0:
                    raise soap.timed_out()

    def signal(self, shell_id: str, command_id: str) -> None:
        """End a command and forget it. Raises WsmanFault without it."""
        with self._used(shell_id) as shell:
            command = self._command(shell, command_id)
            with self._lock:
                shell.commands.pop(command_id, None)
            command.process.kill()

    def delete(self, shell_id: str) -> None:
        """Close a shell and end what runs in it. Raises WsmanFault without it."""
        with self._lock:
            shell = self._shells.pop(shell_id, None)
        if shell is None:
            raise soap.no_such_shell(shell_id)
        self._end(shell)

    def end_idle(self) -> None:
        """Close the shells that nobody has used for as long as they may idle."""
        now = time.monotonic()
        with self._lock:
            idle = [
                key for key, shell in self._shells.items() if not shell.requests and now - shell.used_at >= shell.idle_s
            ]
            shells = [self._shells.pop(key) for key in idle]
        for shell in shells:
            self._end(shell)

    def end_all(self) -> None:
        """Close every shell, as a restart of the host does."""
        with self._lock:
            shells = list(self._shells.values())
            self._shells.clear()
        for shell in shells:
            self._end(shell)

    def kill_processes(self) -> int:
        """Kill every process, and leave the shells; return how many there were."""
        with self._lock:
            commands = [command for shell in self._shells.values() for command in shell.commands.values()]
        running = [command for command in commands if command.exit_code is None]
        for command in running:
            command.process.kill()
        return len(running)

    def _check_operations(self) -> None:
        """Check that there is room for one more operation. The lock is held. Raises WsmanFault."""
        operations = sum(1 + shell.started for shell in self._shells.values())
        if operations >= self._quotas.operations_per_user:
            raise soap.too_many_operations(self._quotas.operations_per_user)

    @staticmethod
    def _end(shell: _Shell) -> None:
        for command in list(shell.commands.values()):
            command.process.kill()

    @contextmanager
    def _used(self, shell_id: str) -> Iterator[_Shell]:
        """Return a shell, which does not idle meanwhile."""
        with self._lock:
            shell = self._shells.get(shell_id)
            if shell is None:
                raise soap.no_such_shell(shell_id)
            shell.requests += 1
        try:
            yield shell
        finally:
            with self._lock:
                shell.requests -= 1
                shell.used_at = time.monotonic()

    def _has(self, shell_id: str, command_id: str) -> bool:
        with self._lock:
            shell = self._shells.get(shell_id)
            return shell is not None and command_id in shell.commands

    @staticmethod
    def _command(shell: _Shell, command_id: str) -> _Command:
        command = shell.commands.get(command_id)
        if command is None:
            raise soap.no_such_command(command_id)
        return command


class _TooLong:
    """What cmd.exe does when its command line is too long [observed]: a message and exit code 1."""

    def write_stdin(self, data: bytes) -> None:
        """Discard the input."""

    def close_stdin(self) -> None:
        """Do nothing: nobody reads the input."""

    def read(self, timeout_s: float) -> tuple[bytes, bytes, int | None]:  # noqa: ARG002  (never waits)
        """Return the message."""
        return b"", b"The command line is too long.\r\n", 1

    def kill(self) -> None:
        """Do nothing: it has ended already."""


def _new_id() -> str:
    return str(uuid.uuid4()).upper()
