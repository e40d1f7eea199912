"""The PowerShell process that test after test uses: to start one and load the script takes most of the time of a test.

It works for the recording host of the test that runs, in one directory, which is emptied before each test. A process
that a test has ended, or of which it has left an answer unread, is not used again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.simulator.hypervisor import Hypervisor
from snapshotd.simulator.pwsh.engine import PwshEngine
from tests.host_script.conversation import Conversation, NoLine
from tests.host_script.recording_host import RecordingHost
from tests.powershell_engine import pwsh

_NO_PROTOCOL = 999_999


class Stand:
    """What the tests of a worker share.

    Args:
        directory: for all of it.
    """

    def __init__(self, directory: Path) -> None:
        self._place, self._engines = directory / "place", directory / "engine"
        self._place.mkdir()
        self._engines.mkdir()
        self._engine: PwshEngine | None = None
        self._spare: Conversation | None = None
        self.host = RecordingHost(self._place / "snapshotd")
        """That of the test that runs."""

    def new_host(self) -> RecordingHost:
        """Return a host for the next test; nothing of the former one is left."""
        shutil.rmtree(self._place)
        self._place.mkdir()
        self.host = RecordingHost(self._place / "snapshotd")
        return self.host

    def engine(self) -> PwshEngine:
        """Return the engine on whichever host is that of the test; the test is skipped if there is no PowerShell."""
        if self._engine is None:
            self._engine = PwshEngine(cast("Hypervisor", _Current(self)), pwsh(), self._engines)
        return self._engine

    def take(self) -> Conversation:
        """Return a process that waits for a command: the one that was given back, or a new one."""
        taken, self._spare = self._spare or Conversation(self.engine()), None
        return taken

    def give_back(self, conversation: Conversation) -> None:
        """Keep a process for the next test, or end it if it is not as it was when it was taken."""
        try:
            answer = conversation.ask(HostCommand(protocol=_NO_PROTOCOL))
        except (NoLine, ValueError):
            answer = HostAnswer()
        idle = str(_NO_PROTOCOL) in answer.error.message and not (conversation.stdout or conversation.stderr)
        if idle and self._spare is None:
            self._spare = conversation
        else:
            conversation.process.kill()

    def close(self) -> None:
        """End everything."""
        if self._spare is not None:
            self._spare.process.kill()
        if self._engine is not None:
            self._engine.close()


class _Current:
    """Stands for the host of the test that runs."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever a host has)
        return getattr(self._stand.host, name)
