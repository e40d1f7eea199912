"""A host that cannot load the host script refuses at once, with the words of PowerShell; nobody waits for it."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.hyperv.no_answer import HostRefused
from snapshotd.hyperv.script import kept
from snapshotd.hyperv.session import HostSession, KeptScript
from snapshotd.hyperv.transport import Output
from snapshotd.simulator.needs import Engine, Process
from tests.host_script.conversation import PATIENCE_S, SCRIPT
from tests.host_script.engines import engine_on
from tests.host_script.recording_host import RecordingHost

pytestmark = pytest.mark.powershell


class OnThisMachine:
    """A transport to an engine's process, without a wire."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._process: Process | None = None

    def open(self, deadline: float) -> None:
        """Do nothing: there is nobody to sign in to."""

    def start(self, executable: str, arguments: tuple[str, ...], deadline: float) -> None:
        """Start the process."""
        self._process = self._engine.start(" ".join([executable, *arguments]))

    @property
    def process(self) -> Process:
        """The process, once it was started."""
        assert self._process is not None
        return self._process

    def write(self, data: bytes, deadline: float) -> None:
        """Write to its stdin."""
        self.process.write_stdin(data)

    def read(self, wait_s: float) -> Output:
        """Return output."""
        return Output(*self.process.read(wait_s))

    def terminate(self) -> None:
        """End it."""
        self.process.kill()

    def close(self) -> None:
        """End it."""
        self.process.kill()

    def abort(self) -> None:
        """Do nothing."""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    return tmp_path / "modules"


@pytest.fixture
def engine(host: RecordingHost, tmp_path: Path) -> Iterator[Engine]:
    yield from engine_on("pwsh", host, tmp_path)


def refusal(engine: Engine, script: KeptScript) -> str:
    """Start a session, which the host is to refuse; return the words."""
    session = HostSession(OnThisMachine(engine), script)
    try:
        with pytest.raises(HostRefused) as refused:
            session.start(time.monotonic() + PATIENCE_S / 2)
    finally:
        session.close()
    return str(refused.value)


def beginning(bootstrap_line: str) -> KeptScript:
    """Return the kept script, whose bootstrap begins with a line."""
    script = kept(SCRIPT)
    text = base64.b64decode(script.arguments[-1]).decode("utf-16-le")
    text = text.replace("begin {", "begin {\n" + bootstrap_line, 1)
    arguments = (*script.arguments[:-1], base64.b64encode(text.encode("utf-16-le")).decode())
    return KeptScript(script.executable, arguments, script.first_line, script.ready)


def test_a_host_without_the_hyper_v_module(engine: Engine, modules: Path) -> None:
    shutil.rmtree(modules / "Hyper-V")
    said = refusal(engine, kept(SCRIPT))
    assert said.startswith("PowerShell cannot load the host script: The specified module 'Hyper-V' was not loaded")
    assert "(Modules_ModuleNotFound,Microsoft.PowerShell.Commands.ImportModuleCommand)" in said


def test_a_module_that_fails_while_it_loads(engine: Engine, modules: Path) -> None:
    for file in (modules / "Hyper-V").rglob("*.psm1"):
        file.write_text("throw 'the provider\n is not registered'", encoding="utf-8")
    assert "the provider is not registered" in refusal(engine, kept(SCRIPT))


@pytest.mark.parametrize("mode", ["ConstrainedLanguage", "RestrictedLanguage", "NoLanguage"])
def test_an_account_whose_language_mode_is_not_the_full_one(engine: Engine, mode: str) -> None:
    said = refusal(engine, beginning(f"$ExecutionContext.SessionState.LanguageMode = '{mode}'"))
    assert f"LanguageMode is {mode}; FullLanguage is needed" in said


def test_a_script_that_does_not_parse(engine: Engine) -> None:
    assert "Missing closing" in refusal(engine, kept(b"function Broken {"))
