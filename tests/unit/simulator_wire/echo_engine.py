"""An engine whose processes answer at once, for tests of the wire. Knows no Hyper-V and no PowerShell.

What it runs: `echo WORDS` writes WORDS and ends, `big N` writes N bytes and ends, `serve` answers each line of stdin
until the end of stdin. All end with exit code 0; anything else is not recognized, with exit code 1.
"""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field


@dataclass
class EchoProcess:
    """One process; its output waits in it."""

    engine: EchoEngine
    changed: threading.Condition = field(default_factory=threading.Condition)
    stdin: bytes = b""
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    killed: bool = False

    def write_stdin(self, data: bytes) -> None:
        with self.changed:
            self.stdin += data
            while b"\n" in self.stdin:
                line, _, self.stdin = self.stdin.partition(b"\n")
                self._answer(line.strip())
            self.changed.notify_all()

    def _answer(self, line: bytes) -> None:
        """quiet: nothing; exit N: ends; warn X: X on stderr; a HostCommand: its effect, and a line; else the line."""
        word, _, rest = line.partition(b" ")
        if word == b"quiet":
            return
        if word == b"exit":
            self.exit_code = int(rest)
        elif word == b"warn":
            self.stderr += rest + b"\r\n"
        else:
            kind = _kind(line)
            if kind:
                self.engine.effects.append(kind)
            self.stdout += (b"did " + kind.encode() if kind else line) + b"\r\n"

    def close_stdin(self) -> None:
        with self.changed:
            self.exit_code = 0
            self.changed.notify_all()

    def read(self, timeout_s: float) -> tuple[bytes, bytes, int | None]:
        with self.changed:
            self.changed.wait_for(lambda: self.stdout or self.stderr or self.exit_code is not None, timeout_s)
            output = self.stdout, self.stderr, self.exit_code
            self.stdout = self.stderr = b""
            return output

    def kill(self) -> None:
        with self.changed:
            self.killed = True
            if self.exit_code is None:
                self.exit_code = 1
            self.changed.notify_all()


@dataclass
class EchoEngine:
    """Starts them, and remembers what was started and done."""

    command_lines: list[str] = field(default_factory=list)
    processes: list[EchoProcess] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)

    def start(self, command_line: str) -> EchoProcess:
        process = EchoProcess(self)
        self.command_lines.append(command_line)
        self.processes.append(process)
        word, _, rest = command_line.partition(" ")
        if word == "echo":
            process.stdout, process.exit_code = rest.encode() + b"\r\n", 0
        elif word == "big":
            process.stdout, process.exit_code = b"x" * int(rest), 0
        elif word != "serve":
            process.stderr, process.exit_code = f"{word} is not recognized".encode(), 1
        return process


def host_command(kind: str, action: str = "") -> bytes:
    """Write the line of stdin that carries a HostCommand."""
    named: dict[str, object] = {action: {}} if action else {}
    return base64.b64encode(json.dumps({"protocol": 1, "kind": kind, **named}).encode()) + b"\r\n"


def effect(action: str) -> bytes:
    """Write the line of stdin that carries an effect."""
    return host_command("EFFECT", action)


def _kind(line: bytes) -> str:
    """Return the kind of a command, and of an effect the action; empty for a line that carries none."""
    try:
        document = json.loads(base64.b64decode(line, validate=True))
        return str(next(reversed(document)) if document["kind"] == "EFFECT" else document["kind"])
    except (ValueError, LookupError, TypeError):
        return ""
