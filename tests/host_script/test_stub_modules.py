"""What only a PowerShell can show: objects without a property, and other modules on the host."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer
from snapshotd.simulator.needs import Engine
from snapshotd.simulator.pwsh.types import make_types
from tests.host_script.conversation import Conversation
from tests.host_script.engines import engine_on
from tests.host_script.host_commands import look, observe
from tests.host_script.recording_host import WEB, RecordingHost
from tests.powershell_engine import pwsh

pytestmark = pytest.mark.powershell


@pytest.fixture
def engine(host: RecordingHost, tmp_path: Path) -> Iterator[Engine]:
    """Its own, whose modules a test may change."""
    yield from engine_on("pwsh", host, tmp_path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("VMSnapshot", "ParentSnapshotId"),
        ("VirtualMachine", "CheckpointType"),
        ("VirtualMachine", "OperationalStatus"),
        ("HardDiskDrive", "DiskNumber"),
    ],
)
def test_a_property_that_is_missing_is_not_read_as_nothing(
    kind: str, name: str, engine: Engine, talk: Callable[[], Conversation], host: RecordingHost, tmp_path: Path
) -> None:
    assert engine is not None  # has written the modules
    reflected = json.loads(files("snapshotd.simulator.pwsh").joinpath("hyperv-cmdlets.json").read_text())
    for of in {kind, "VirtualMachineBase"}:
        reflected["classes"][of].pop(name, None)
    directory = tmp_path / "modules" / "Hyper-V"
    (directory / "Types.dll").write_bytes(make_types(pwsh(), reflected))
    text = (directory / "Hyper-V.psm1").read_text(encoding="utf-8")
    makes = "function New-HyperVObject([string]$class, $values) {\n"
    assert makes in text
    (directory / "Hyper-V.psm1").write_text(text.replace(makes, f"{makes}    $values.Remove('{name}')\n"))
    host.take(WEB, "first")
    script = talk()
    for command in (look(), observe(1)):
        answer = script.ask(command)
        assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "PropertyMissing,snapshotd")
        assert name in answer.error.message


def test_another_modules_cmdlets_of_the_same_name_are_not_called(
    engine: Engine, talk: Callable[[], Conversation], tmp_path: Path
) -> None:
    assert engine is not None  # has written the modules
    module = tmp_path / "modules" / "Another"
    module.mkdir()
    functions = "\n".join(f"function {name} {{ throw 'another module' }}" for name in ("Get-VM", "Get-VMHost"))
    (module / "Another.psm1").write_text(functions)
    exported = "FunctionsToExport = @('Get-VM', 'Get-VMHost')"
    (module / "Another.psd1").write_text(f"@{{ RootModule = 'Another.psm1'; ModuleVersion = '1.0'; {exported} }}")
    answer = talk().ask(look())
    assert (answer.verdict, answer.host.name) == (HostAnswer.REPORTED, "hv01")
