"""One PowerShell process on a host, kept and fed a command a line (docs/host-protocol.md, 'The kept process').

    start ──► READY ──► run ──► run ──► … ──► close
                         └─ any failure: ended, thrown away, never used again

A session is used by one thread at a time. It never repeats a command: what may have been sent was sent.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.hyperv.answer import decode_answer, encode_command
from snapshotd.hyperv.no_answer import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    HostRefused,
    HostUnreachable,
    MalformedAnswer,
    StaleSession,
    in_words,
)
from snapshotd.hyperv.transport import (
    HostTransport,
    NothingSent,
    Output,
    RequestRefused,
    SignInRefused,
    TransportError,
)

_log = logging.getLogger(__name__)

_LARGEST_LINE = 64 * 1024 * 1024
"""Bytes of one answer: a report of a host's thousands of VMs is some megabytes."""

_STDERR_KEPT = 2000
"""Bytes of stderr kept for diagnosis."""

_LONGEST_WAIT_S = 20.0
"""Seconds of one wait; the deadline is looked at in between."""

_ABORTED = "the session was cut off by this executor before a command was sent."

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class KeptScript:
    """How the kept process is started and what it says when it is ready."""

    executable: str
    arguments: tuple[str, ...]
    first_line: bytes
    """The host script as base64, without line end."""
    ready: bytes
    """`READY <sha256>`, without line end."""


class _ProcessEnded(Exception):
    """The process ended; the text says how."""


class HostSession:
    """One kept process.

    Args:
        transport: the way to it, not started yet.
        script: what runs there.
    """

    def __init__(self, transport: HostTransport, script: KeptScript) -> None:
        self._transport = transport
        self._script = script
        self._pending = b""
        self._stderr = b""
        self._ended = False
        self._aborted = False
        self.usable = False
        """It is started, and nothing has gone wrong."""

    def start(self, deadline: float) -> None:
        """Connect, sign in, and load the host script.

        Args:
            deadline: by the monotonic clock, seconds.

        Raises HostUnreachable, AuthenticationFailed, HostRefused; ConnectionLost if it was aborted meanwhile. Each
        means that no command was sent.
        """
        try:
            self._transport.start(self._script.executable, self._script.arguments)
            self._transport.write(self._script.first_line + b"\r\n")
            line = self._read_line(deadline)
        except SignInRefused as error:
            raise AuthenticationFailed(str(error)) from error
        except RequestRefused as error:
            raise HostRefused(str(error)) from error
        except (_ProcessEnded, MalformedAnswer) as error:
            raise HostRefused(f"PowerShell did not start the host script: {error}") from error
        except TransportError as error:
            if self._aborted:
                raise ConnectionLost(_ABORTED) from error
            raise HostUnreachable(in_words(error)) from error
        except DeadlineExceeded as error:
            raise HostUnreachable("the host script was not ready in time; no command was sent.") from error
        # Whether a byte order mark comes first with codepage 65001 is not verified on Windows; it would be no fault.
        if line.removeprefix(_BOM).strip() != self._script.ready:
            raise HostRefused(f"the host script was not accepted: {line[:200]!a}")
        self.usable = True

    def run(self, command: HostCommand, deadline: float) -> HostAnswer:
        """Carry one command to the script and its answer back.

        Args:
            command: what to do.
            deadline: by the monotonic clock, seconds; the script is ended then.

        Raises StaleSession when the session was gone before anything was sent, and not by `abort`; ConnectionLost,
        DeadlineExceeded, MalformedAnswer when the outcome is unknown. After any of them the session is to be closed.
        """
        assert self.usable, "a session that failed is never used again"
        assert not self._pending, "an answer's surplus ends the session"
        line = encode_command(command)
        self.usable = False
        try:
            self._transport.write(line)
        except NothingSent as error:
            if self._aborted:
                # Whoever aborts wants nothing more to be done: no other session may carry the command instead.
                raise ConnectionLost(_ABORTED) from error
            raise StaleSession(str(error)) from error
        except TransportError as error:
            raise ConnectionLost(f"while the command was sent: {in_words(error)}") from error
        try:
            answer = decode_answer(self._read_line(deadline))
        except _ProcessEnded as error:
            raise ConnectionLost(f"the script ended before it answered: {error}") from error
        except TransportError as error:
            raise ConnectionLost(f"while the answer was awaited: {in_words(error)}") from error
        except DeadlineExceeded:
            self._terminate()
            raise
        if self._pending.strip():
            raise MalformedAnswer(f"more than one line for one command: {self._pending[:200]!a}")
        self._pending = b""
        self.usable = not self._ended
        return answer

    def close(self) -> None:
        """End the process and give the shell back. Never raises for a host that is gone."""
        self.usable = False
        self._transport.close()

    def abort(self) -> None:
        """Cut the connection; a `start` or `run` in another thread ends with ConnectionLost."""
        self._aborted = True
        self._transport.abort()

    def _read_line(self, deadline: float) -> bytes:
        """Read up to a line's end. Raises _ProcessEnded, DeadlineExceeded, MalformedAnswer, TransportError."""
        pieces = [self._pending]
        size = len(self._pending)
        while b"\n" not in pieces[-1]:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise DeadlineExceeded("the script had not answered at its deadline, and was ended.")
            output = self._transport.read(min(remaining, _LONGEST_WAIT_S))
            self._note_stderr(output)
            pieces.append(output.stdout)
            size += len(output.stdout)
            if size > _LARGEST_LINE:
                raise MalformedAnswer(f"an answer of more than {_LARGEST_LINE} bytes")
            self._ended = output.exit_code is not None
            if self._ended and b"\n" not in output.stdout:
                raise _ProcessEnded(f"exit code {output.exit_code}. {self._stderr.decode('utf-8', 'replace')}".strip())
        line, _, self._pending = b"".join(pieces).partition(b"\n")
        return line

    def _note_stderr(self, output: Output) -> None:
        """Keep the end of stderr, for the message if the process ends; alone it is no failure."""
        if output.stderr:
            _log.debug("stderr of the host script: %s", ascii(output.stderr[:_STDERR_KEPT]))
            self._stderr = (self._stderr + output.stderr)[-_STDERR_KEPT:]

    def _terminate(self) -> None:
        try:
            self._transport.terminate()
        except TransportError as error:
            # Deleting the shell, which follows, ends the process as well.
            _log.info("the script could not be signalled to end: %s", error)
