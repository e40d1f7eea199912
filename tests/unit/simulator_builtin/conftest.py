"""A recording host, the engine on it, and a process that has loaded the host script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshotd.simulator.builtin import BuiltinEngine
from tests.unit.simulator_builtin.conversation import ACCEPTED, Conversation
from tests.unit.simulator_builtin.recording_host import RecordingHost


@pytest.fixture
def host(tmp_path: Path) -> RecordingHost:
    return RecordingHost(tmp_path / "journal")


@pytest.fixture
def engine(host: RecordingHost) -> BuiltinEngine:
    return BuiltinEngine(host, ACCEPTED, mutex_wait_s=0.05, result_wait_s=0.2)


@pytest.fixture
def talk(engine: BuiltinEngine) -> Iterator[Callable[[], Conversation]]:
    """Start processes that have loaded the script; all are ended with the test."""
    started: list[Conversation] = []

    def start() -> Conversation:
        started.append(Conversation(engine))
        return started[-1]

    yield start
    for conversation in started:
        conversation.process.kill()


@pytest.fixture
def script(talk: Callable[[], Conversation]) -> Conversation:
    return talk()
