"""A recording host, the engine on it, a process that has loaded the host script, and what runs other people's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.needs import Engine
from snapshotd.simulator.pwsh.engine import PwshEngine
from tests.host_script.conversation import Conversation
from tests.host_script.engines import BOTH, engine_on
from tests.host_script.kept_processes import Stand
from tests.host_script.other_scripts import Run, running_on
from tests.host_script.recording_host import RecordingHost


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    shared = Stand(tmp_path_factory.mktemp("stand"))
    yield shared
    shared.close()


@pytest.fixture
def host(stand: Stand) -> RecordingHost:
    return stand.new_host()


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, host: RecordingHost, stand: Stand, tmp_path: Path) -> Iterator[Engine]:
    """Both engines over one host: what one does, the other has to do."""
    if request.param == "pwsh" and host is stand.host:
        yield stand.engine()
    else:
        yield from engine_on(request.param, host, tmp_path)


@pytest.fixture
def talk(engine: Engine) -> Iterator[Callable[[], Conversation]]:
    """Start processes that have loaded the script; all are ended with the test."""
    started: list[Conversation] = []

    def start() -> Conversation:
        started.append(Conversation(engine))
        return started[-1]

    yield start
    for conversation in started:
        conversation.process.kill()


@pytest.fixture
def script(engine: Engine, stand: Stand, talk: Callable[[], Conversation]) -> Iterator[Conversation]:
    """A process that has loaded the script, and may have carried out commands of other tests."""
    if not isinstance(engine, PwshEngine) or engine is not stand.engine():
        yield talk()
        return
    kept = stand.take()
    yield kept
    stand.give_back(kept)


@pytest.fixture
def run(host: SimulatedHyperV, tmp_path: Path) -> Iterator[Run]:
    """Run other people's scripts on a host of the test's own."""
    with running_on(host, tmp_path / "engine") as start:
        yield start
