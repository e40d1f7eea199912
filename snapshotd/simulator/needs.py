"""What the wire needs of an engine and of a model. Implements nothing."""

from __future__ import annotations

from typing import Protocol


class Process(Protocol):
    """One process that an engine started; used by several threads at once."""

    def write_stdin(self, data: bytes) -> None:
        """Pass input on; lost when the process has ended."""

    def close_stdin(self) -> None:
        """End its input."""

    def read(self, timeout_s: float) -> tuple[bytes, bytes, int | None]:
        """Wait for output, at most so many seconds, and take it: stdout, stderr, exit code.

        Returns as soon as there is any. The exit code comes with the last of the output, or after it.
        """

    def kill(self) -> None:
        """End it at once; what reads from it returns. Harmless when it has ended."""


class Engine(Protocol):
    """Starts processes on one simulated host."""

    def start(self, command_line: str) -> Process:
        """Start a process with the command line as the client wrote it."""


class ControlledHost(Protocol):
    """A model. It also has a method for each of MODEL_ACTIONS (running.py)."""

    @property
    def name(self) -> str:
        """The host's name."""

    def restart_host(self) -> object:
        """End jobs and turn VMs off, as a restart does; no shell is left when it is called."""
