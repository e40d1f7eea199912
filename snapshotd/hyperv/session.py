"""One kept PowerShell process on a host; each command is a line (docs/host-protocol.md, 'The kept process').

    start ──► READY ──► run ──► run ──► … ──► close
                         └─ any failure: ended, thrown away, never used again

One thread at a time uses a session. It never repeats a command: what may have been sent counts as sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.hyperv.answer import decode_answer, encode_command
from snapshotd.hyperv.no_answer import (
    AuthenticationFailed,
    CertificateRefused,
    ConnectionLost,
    DeadlineExceeded,
    HostRefused,
    HostUnreachable,
    MalformedAnswer,
    StaleSession,
    in_words,
)
from snapshotd.hyperv.sign_in import Sign, at_once
from snapshotd.hyperv.transport import (
    CertificateNotTaken,
    HostTransport,
    NothingSent,
    Output,
    RequestRefused,
    SignInRefused,
    TransportError,
)

_log = logging.getLogger(__name__)

_LARGEST_LINE = 64 * 1024 * 1024
"""The most bytes of one answer. A report of thousands of VMs has some megabytes."""

_STDERR_KEPT = 2000
"""How many bytes of stderr are kept for diagnosis."""

_LONGEST_WAIT_S = 20.0
"""Seconds of one wait. The deadline is checked after each."""

_ABORTED = "this executor cut off the session before a command was sent."

_SIGNED_IN_TOO_EARLY = frozenset({"RightsMissing,snapshotd"})
"""Errors that a new sign-in may mend: an account has the groups that it had when it signed in [documented]."""

_BOM = b"\xef\xbb\xbf"
_FAILED = b"FAILED "
"""How the bootstrap's last line begins; why it failed follows."""


@dataclass(frozen=True)
class KeptScript:
    """How to start the kept process, and what it writes when it is ready."""

    executable: str
    arguments: tuple[str, ...]
    first_line: bytes
    """The host script in base64, without line end."""
    ready: bytes
    """`READY <sha256>`, without line end."""


class _ProcessEnded(Exception):
    """The process ended; the text says how."""


class HostSession:
    """One kept process.

    Args:
        transport: the way to it, not started yet.
        script: the script to run there.
        sign: makes the sign-in, if it is allowed.
    """

    def __init__(self, transport: HostTransport, script: KeptScript, sign: Sign = at_once) -> None:
        self._transport = transport
        self._script = script
        self._sign = sign
        self._pending = b""
        self._stderr = b""
        self._ended = False
        self._aborted = False
        self.usable = False
        """The session has started, and nothing has gone wrong."""

    def start(self, deadline: float, *, asked_s: float | None = None) -> None:
        """Connect, sign in, and load the host script.

        Args:
            deadline: seconds of the monotonic clock.
            asked_s: since when a person asks for it (monotonic), or None.

        Raises HostUnreachable, AuthenticationFailed, HostRefused and DeadlineExceeded, and ConnectionLost if it was
        aborted meanwhile. Each means that no command was sent.
        """
        self._sign(lambda: self._told(lambda: self._transport.open(deadline)), asked_s, deadline)
        self._told(lambda: self._load(deadline))
        self.usable = True

    def _told(self, part: Callable[[], None]) -> None:
        """Carry out a part of the start. Raise what a failure of it means."""
        try:
            part()
        except SignInRefused as error:
            raise AuthenticationFailed(str(error)) from error
        except CertificateNotTaken as error:
            raise CertificateRefused(str(error)) from error
        except RequestRefused as error:
            raise HostRefused(str(error)) from error
        except TransportError as error:
            if self._aborted:
                raise ConnectionLost(_ABORTED) from error
            raise HostUnreachable(in_words(error)) from error

    def _load(self, deadline: float) -> None:
        try:
            self._transport.start(self._script.executable, self._script.arguments, deadline)
            self._transport.write(self._script.first_line + b"\r\n", deadline)
            line = self._read_line(deadline)
        except (_ProcessEnded, MalformedAnswer) as error:
            raise HostRefused(f"PowerShell did not start the host script: {error}") from error
        except DeadlineExceeded as error:
            said = f" PowerShell says: {self._said}" if self._said else ""
            raise HostUnreachable(f"the host script was not ready in time; no command was sent.{said}") from error
        # A byte order mark may come first with codepage 65001 (not verified on Windows). It does no harm.
        line = line.removeprefix(_BOM).strip()
        if line.startswith(_FAILED):
            why = line.removeprefix(_FAILED).decode("utf-8", "replace")
            raise HostRefused(
                f"PowerShell cannot load the host script: {why}. It needs the module Hyper-V and the full language. "
                "To see for yourself, sign in to the host as this account, and run Import-Module Hyper-V in PowerShell."
            )
        if line != self._script.ready:
            raise HostRefused(f"the host did not accept the host script: {line[:200]!a}")

    def run(self, command: HostCommand, deadline: float) -> HostAnswer:
        """Send one command to the script, and return its answer.

        Args:
            command: the command.
            deadline: seconds of the monotonic clock; the script is ended then.

        Raises StaleSession if the session was gone before anything was sent, and not through `abort`. Raises
        ConnectionLost, DeadlineExceeded or MalformedAnswer if the outcome is unknown. Then the session must be closed.
        """
        assert self.usable, "a session that failed must not be used again"
        assert not self._pending, "surplus output of an answer ends the session"
        line = encode_command(command)
        self.usable = False
        try:
            self._transport.write(line, deadline)
        except NothingSent as error:
            if self._aborted:
                # After an abort, no other session may carry the command instead.
                raise ConnectionLost(_ABORTED) from error
            raise StaleSession(str(error)) from error
        except TransportError as error:
            raise ConnectionLost(f"the connection failed while the command was sent: {in_words(error)}") from error
        try:
            answer = decode_answer(self._read_line(deadline))
        except _ProcessEnded as error:
            raise ConnectionLost(f"the script ended before it answered: {error}") from error
        except TransportError as error:
            raise ConnectionLost(f"the connection failed before the answer came: {in_words(error)}") from error
        except DeadlineExceeded:
            self._terminate()
            raise
        if self._pending.strip():
            raise MalformedAnswer(f"the answer has more than one line: {self._pending[:200]!a}")
        self._pending = b""
        self.usable = not self._ended and answer.error.id not in _SIGNED_IN_TOO_EARLY
        return answer

    def close(self) -> None:
        """End the process and delete the shell. Never raises for a host that is gone."""
        self.usable = False
        self._transport.close()

    def abort(self) -> None:
        """Cut the connection; a `start` or `run` in another thread ends with ConnectionLost."""
        self._aborted = True
        self._transport.abort()

    def _read_line(self, deadline: float) -> bytes:
        """Return the next line. Raises _ProcessEnded, DeadlineExceeded, MalformedAnswer and TransportError."""
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
                raise MalformedAnswer(f"the answer has more than {_LARGEST_LINE} bytes")
            self._ended = output.exit_code is not None
            if self._ended and b"\n" not in output.stdout:
                raise _ProcessEnded(f"exit code {output.exit_code}. {self._said}".strip())
        line, _, self._pending = b"".join(pieces).partition(b"\n")
        return line

    @property
    def _said(self) -> str:
        """The end of stderr, in one line."""
        return " ".join(self._stderr.decode("utf-8", "replace").split())

    def _note_stderr(self, output: Output) -> None:
        """Keep the end of stderr, for the message if the process ends. Output on stderr alone is no failure."""
        if output.stderr:
            _log.debug("stderr of the host script: %s", ascii(output.stderr[:_STDERR_KEPT]))
            self._stderr = (self._stderr + output.stderr)[-_STDERR_KEPT:]

    def _terminate(self) -> None:
        try:
            self._transport.terminate()
        except TransportError as error:
            # Deleting the shell comes next, and ends the process too.
            _log.info("could not signal the script to end: %s", error)
