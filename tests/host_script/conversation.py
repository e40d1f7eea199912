"""A client of kept processes: writes commands to an engine's process and reads its answers."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from importlib.resources import files

from google.protobuf import json_format

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.hyperv.script import command_line, kept
from snapshotd.simulator.builtin import AcceptedScript, BuiltinProcess
from snapshotd.simulator.needs import Engine, Process
from snapshotd.simulator.pwsh.engine import PwshProcess

SCRIPT = (
    (files("snapshotd.hyperv") / "host.ps1")
    .read_bytes()
    .replace(b"$MutexWaitMs = 5000", b"$MutexWaitMs = 400")
    .replace(b"$ResultWaitMs = 30000", b"$ResultWaitMs = 400")
    .replace(b"$SecondLookMs = 2000", b"$SecondLookMs = 100")
)
"""This release's host script, but for three waits that tests have no time for."""
SHA = hashlib.sha256(SCRIPT).hexdigest()
ACCEPTED = AcceptedScript(command_line(kept(SCRIPT)), SHA)
INSTALLATION = "installation-1"
PATIENCE_S = 20.0


class NoLine(Exception):
    """The process ended, or said nothing for too long."""


class Conversation:
    """One kept process and what was read of it."""

    def __init__(self, engine: Engine, script: bytes = SCRIPT) -> None:
        process = engine.start(command_line(kept(script)))
        assert isinstance(process, BuiltinProcess | PwshProcess)
        self.process = process
        self.stdout = b""
        self.stderr = b""
        self.exit_code: int | None = None
        self.process.write_stdin(base64.b64encode(script) + b"\r\n")
        assert self.line() == f"READY {hashlib.sha256(script).hexdigest()}".encode()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def ask(self, command: HostCommand) -> HostAnswer:
        """Send a command and wait for its answer."""
        self.send(command)
        return self.answer()

    def ask_for(self, command: HostCommand, changes: Mapping[str, object]) -> HostAnswer:
        """Send a command with other fields, whatever their types."""
        document = json_format.MessageToDict(command, preserving_proto_field_name=True) | dict(changes)
        self.process.write_stdin(base64.b64encode(json.dumps(document).encode()) + b"\r\n")
        return self.answer()

    def send(self, command: HostCommand) -> None:
        """Send a command and do not wait."""
        document = json_format.MessageToJson(command, preserving_proto_field_name=True, indent=None)
        self.process.write_stdin(base64.b64encode(document.encode()) + b"\r\n")

    def has_answered(self) -> bool:
        """Return whether there is an answer, or the process has ended."""
        self.collect(0.01)
        return b"\n" in self.stdout or self.exit_code is not None

    def answer(self) -> HostAnswer:
        """Wait for an answer."""
        return json_format.Parse(base64.b64decode(self.line(), validate=True), HostAnswer())

    def line(self) -> bytes:
        """Wait for a line of stdout."""
        deadline = time.monotonic() + PATIENCE_S
        while b"\n" not in self.stdout:
            if self.exit_code is not None or time.monotonic() > deadline:
                raise NoLine(f"exit code {self.exit_code}, stderr {self.stderr!r}")
            self.collect(0.1)
        line, _, self.stdout = self.stdout.partition(b"\n")
        return line.removesuffix(b"\r")

    def wait_for_end(self) -> int:
        """Wait for the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self.exit_code is None and time.monotonic() < deadline:
            self.collect(0.1)
        assert self.exit_code is not None
        return self.exit_code

    def collect(self, wait_s: float) -> None:
        """Take what there is."""
        stdout, stderr, self.exit_code = self.process.read(wait_s)
        self.stdout += stdout
        self.stderr += stderr


def read_to_the_end(process: Process) -> tuple[bytes, bytes, int | None]:
    """Collect what a process says until it ends."""
    deadline = time.monotonic() + PATIENCE_S
    stdout, stderr, exit_code = process.read(0)
    while exit_code is None and time.monotonic() < deadline:
        out, err, exit_code = process.read(0.1)
        stdout, stderr = stdout + out, stderr + err
    return stdout, stderr, exit_code
