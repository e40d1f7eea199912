"""Exports, conversions and jobs by CIM: the functions that the host script calls them by, in a real PowerShell."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.pwsh.engine import PwshEngine
from tests.powershell_engine import pwsh
from tests.unit.simulator_model.hosts import DB, WEB, Script, host_at, truth, until

pytestmark = pytest.mark.powershell

Run = Callable[..., list[str]]
"""Runs a script that has the functions of the host script; returns the lines that it writes."""

HOST_SCRIPT = (Path(__file__).parents[2] / "snapshotd" / "hyperv" / "host.ps1").read_text(encoding="utf-8")
"""It defines functions, and carries out nothing by itself."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHyperV]:
    with host_at(tmp_path / "host") as opened:
        yield opened


@pytest.fixture
def run(host: SimulatedHyperV, tmp_path: Path) -> Iterator[Run]:
    engine = PwshEngine(host, pwsh(), tmp_path / "engine")

    def start(script: str) -> list[str]:
        file = tmp_path / "script.ps1"
        file.write_text(HOST_SCRIPT + script, encoding="utf-8")
        encoded = base64.b64encode(f". '{file}'".encode("utf-16-le")).decode()
        process = engine.start(f"powershell -NoProfile -NonInteractive -OutputFormat Text -EncodedCommand {encoded}")
        process.close_stdin()
        stdout, stderr, code = b"", b"", None
        while code is None:
            out, err, code = process.read(60.0)
            stdout, stderr = stdout + out, stderr + err
        assert (code, stderr) == (0, b""), stderr.decode()
        return [line for line in stdout.decode().splitlines() if line.strip()]

    yield start
    engine.close()


def test_an_export_of_all_is_a_job_that_ends(host: SimulatedHyperV, run: Run, tmp_path: Path) -> None:
    host.durations(export=300)
    host.checkpoint_vm(Script(), DB, "c")
    target = tmp_path / "out & <more>"
    lines = run(f"""
        $id = Start-Export (Get-VM db01) '{target}' $null @()
        $first = Get-JobById $id
        "$($first.state) $($first.type) $($first.error)"
        do {{ Start-Sleep -Milliseconds 50; $last = Get-JobById $id }} while ($last.state -eq 'RUNNING')
        "$($last.state) $($last.percent)"
        Stop-JobById $id
        "$((Get-JobById ('0' + $id)).state)"
    """)
    assert lines == ["RUNNING 62 ", "DONE 100", "GONE"]
    assert sorted(path.name for path in target.iterdir()) == ["Snapshots", "Virtual Hard Disks", "Virtual Machines"]
    assert [line["effect"] for line in truth(tmp_path / "host")][-2:] == ["export_begun", "exported"]


def test_one_disk_of_a_checkpoint_is_exported_without_the_others(
    host: SimulatedHyperV, run: Run, tmp_path: Path
) -> None:
    made = host.checkpoint_vm(Script(), DB, "c")
    target = tmp_path / "out"
    lines = run(f"""
        $checkpoint = Get-VMSnapshot -Id {made}
        "id: $(Start-Export (Get-VM db01) '{target}' $checkpoint @('SCSI:0:0'))"
        try {{ Start-Export (Get-VM db01) '{target}2' $checkpoint @('SCSI:0:9') }} catch {{ $_.FullyQualifiedErrorId }}
    """)
    assert lines == ["id: ", "WmiUnknown,snapshotd"]
    (disk,) = (target / "Virtual Hard Disks").iterdir()
    assert disk.name.startswith(f"db01-{DB[:8]}-1")
    assert json.loads(disk.read_text())["parent"] == ""


def test_a_job_is_terminated_once_and_tells_its_error(host: SimulatedHyperV, run: Run, tmp_path: Path) -> None:
    host.durations(export=600_000)
    lines = run(f"""
        $id = Start-Export (Get-VM web01) '{tmp_path / "out"}' $null @()
        try {{ Start-Export (Get-VM web01) '{tmp_path / "out"}' $null @() }} catch {{ $_.FullyQualifiedErrorId; "$_" }}
        Stop-JobById $id
        $ended = Get-JobById $id
        "$($ended.state) $($ended.error)"
        Stop-JobById $id
        Stop-JobById 'no such job'
        "$([string](Get-VM web01).State)"
    """)
    busy = "InvalidState,Msvm_VirtualSystemManagementService.ExportSystemDefinition"
    canceled = "FAILED The operation was canceled. (0x800704C7)"
    assert lines == [busy, "ExportSystemDefinition returned 32775.", canceled, "Running"]


def test_a_job_that_is_on_its_way_out_is_not_an_error(host: SimulatedHyperV, run: Run, tmp_path: Path) -> None:
    host.durations(export=600_000, terminate=600_000)
    (job_id,) = run(f"""
        $id = Start-Export (Get-VM web01) '{tmp_path / "out"}' $null @()
        Stop-JobById $id
        Stop-JobById $id
        $id
    """)
    host.durations(terminate=0)
    until(lambda: (job := host.job(job_id)) is not None and job.state == 8)


def test_a_failed_job_and_a_refused_call_are_told_apart(host: SimulatedHyperV, run: Run, tmp_path: Path) -> None:
    (tmp_path / "out" / "Virtual Machines").mkdir(parents=True)
    host.fail("ConvertVirtualHardDisk", "ObjectInUse", "in use")
    lines = run(f"""
        $id = Start-Export (Get-VM web01) '{tmp_path / "out"}' $null @()
        (Get-JobById $id).state
        (Get-JobById $id).error -match '0x80070050'
        $path = (Get-VM db01).HardDrives[0].Path
        try {{ Start-Conversion $path '{tmp_path / "new.vhdx"}' }} catch {{ $_.FullyQualifiedErrorId; "$_" }}
        try {{ Start-Conversion '/nowhere.vhdx' '{tmp_path / "new.vhdx"}' }} catch {{ $_.FullyQualifiedErrorId }}
        $id = Start-Conversion (Get-VM web01).HardDrives[0].Path '{tmp_path / "new.vhdx"}'
        (Get-JobById $id).error -match '0x80070020'
    """)
    convert = "Msvm_ImageManagementService.ConvertVirtualHardDisk"
    assert lines == [
        *("FAILED", "True"),
        *(f"ObjectInUse,{convert}", "ConvertVirtualHardDisk returned 32774."),
        *(f"ObjectNotFound,{convert}", "True"),
    ]


def test_a_conversion_is_a_job_too(host: SimulatedHyperV, run: Run, tmp_path: Path) -> None:
    host.durations(convert=200)
    host.write_disk(DB, "SCSI:0:0", "1", "data")
    target = tmp_path / "O'Neill's \"copy\" & co.vhdx"
    quoted = str(target).replace("'", "''")
    lines = run(f"""
        $id = Start-Conversion (Get-VM db01).HardDrives[0].Path '{quoted}'
        $first = Get-JobById $id
        "$($first.state) $($first.type)"
        do {{ Start-Sleep -Milliseconds 50 }} while ((Get-JobById $id).state -eq 'RUNNING')
        (Get-JobById $id).state
    """)
    assert lines == ["RUNNING 6", "DONE"]
    assert json.loads(target.read_text())["blocks"] == {"1": "data"}


def test_objects_are_found_by_filters_queries_and_associations(host: SimulatedHyperV, run: Run) -> None:
    made = host.checkpoint_vm(Script(), WEB, "c")
    lines = run(rf"""
        $space = 'root/virtualization/v2'
        (Get-CimInstance -Namespace $space Msvm_ComputerSystem -Filter "ElementName = 'WEB01'").Name
        (Get-CimInstance -Namespace $space Msvm_ComputerSystem -Filter "Name LIKE '%502' OR Name='no'").ElementName
        @(Get-CimInstance -Namespace $space -ClassName Msvm_ComputerSystem).Count
        $query = "SELECT * FROM Msvm_ComputerSystem WHERE Caption <> 'Virtual Machine'"
        (Get-CimInstance -Namespace $space -Query $query).ElementName
        $web = Get-CimInstance -Namespace $space Msvm_ComputerSystem -Filter "Name = '{WEB}'"
        ($web | Get-CimAssociatedInstance -Association Msvm_SnapshotOfVirtualSystem).InstanceID
        ($web | Get-CimInstance).ElementName
        $own = Get-CimAssociatedInstance $web -Association Msvm_SettingsDefineState
        $disk = Get-CimAssociatedInstance $own -ResultClassName Msvm_StorageAllocationSettingData
        @($disk.HostResource)[0] -eq (Get-VM web01).HardDrives[0].Path
        $filter = "InstanceID = '$($disk.InstanceID.Replace('\', '\\'))'"
        $same = Get-CimInstance -Namespace $space Msvm_StorageAllocationSettingData -Filter $filter
        $same.InstanceID -eq $disk.InstanceID
    """)  # noqa: S608  (a query, and no SQL)
    assert lines == [WEB.upper(), "db01", "3", "hv01", f"Microsoft:{made.upper()}", "web01", "True", "True"]


def test_jobs_are_found_by_what_they_are_called_also_after_their_end(
    host: SimulatedHyperV, run: Run, tmp_path: Path
) -> None:
    host.durations(convert=600_000, merge=600_000, export=600_000)
    made = host.checkpoint_vm(Script(), WEB, "c")
    host.remove_snapshot(Script(), made)
    lines = run(rf"""
        $space = @{{ Namespace = 'root/virtualization/v2' }}
        $converts = Start-Conversion (Get-VM db01).HardDrives[0].Path '{tmp_path / "new.vhdx"}'
        $export = Find-Job (Start-Export (Get-VM db01) '{tmp_path / "out"}' $null @())
        Get-CimInstance @space Msvm_ConcreteJob | ForEach-Object {{ "$($_.JobType) $($_.ElementName)" }} | Sort-Object
        foreach ($name in 'Name', 'ElementName', 'Caption') {{
            (Get-CimInstance @space Msvm_ConcreteJob -Filter "$name LIKE '%export%' AND JobState = 4").JobType
        }}
        (Get-CimInstance @space Msvm_ConcreteJob -Filter "ElementName = 'Exporting virtual machine'").Name
        (Get-CimAssociatedInstance $export -ResultClassName Msvm_ComputerSystem).ElementName
        Get-CimInstance @space Msvm_StorageJob -Filter "NOT (JobState = 7 OR Name = 'x')" | ForEach-Object {{ $_.Name }}
        $merge = Get-CimInstance @space Msvm_ConcreteJob -Filter 'JobType = 50'
        ($merge | Get-CimInstance).InstanceID -eq $merge.InstanceID
        Stop-JobById $export.InstanceID
        $ended = Get-CimInstance @space CIM_ConcreteJob -Filter "JobState = 8"
        "$($ended.Name): $($ended.ErrorDescription)"
        (Get-CimInstance @space Msvm_ComputerSystem -Filter 'EnabledState = 3').ElementName
    """)
    assert lines == [
        *("50 Merging virtual hard disks", "62 Exporting virtual machine"),
        *("62", "62", "62", "Exporting virtual machine", "db01"),
        *("Converting virtual hard disk", "True"),
        *("Exporting virtual machine: The operation was canceled. (0x800704C7)", "db01"),
    ]


WRONG = {
    "Get-CimInstance Msvm_ComputerSystem": "HRESULT 0x8004100e",
    "Get-CimInstance -Namespace $space Msvm_Nothing": "HRESULT 0x80041010",
    "Get-CimInstance -Namespace $space Msvm_ComputerSystem -Filter 'Name ='": "HRESULT 0x80041017",
    "Get-CimInstance -Namespace $space Msvm_ComputerSystem -Filter \"Colour = 'red'\"": "HRESULT 0x80041017",
    "Get-CimInstance -Namespace $space Msvm_ComputerSystem -Filter \"(Name = 'x'\"": "HRESULT 0x80041017",
    "Invoke-CimMethod $service Nothing": "HRESULT 0x8004102e",
    "Invoke-CimMethod $service ExportSystemDefinition @{ ComputerSystem = 'web01' }": "HRESULT 0x80041005",
    "Invoke-CimMethod $service ExportSystemDefinition @{ Directory = 'web01' }": "HRESULT 0x8004102f",
    "Invoke-CimMethod $job RequestStateChange @{ RequestedState = 4 }": "HRESULT 0x80041005",
    "$gone | Get-CimInstance": "HRESULT 0x80041002",
    "Invoke-CimMethod $gone RequestStateChange @{ RequestedState = [uint16]4 }": "HRESULT 0x80041002",
}


def test_what_makes_no_sense_is_an_error_of_the_cmdlet(host: SimulatedHyperV, run: Run, tmp_path: Path) -> None:
    host.durations(export=600_000, job_kept=0)
    tries = "\n".join(f"try {{ {call}; 'none' }} catch {{ $_.FullyQualifiedErrorId }}" for call in WRONG)
    lines = run(f"""
        $space = 'root\\virtualization\\v2'
        $service = Get-CimInstance -Namespace $space -ClassName Msvm_VirtualSystemManagementService
        $gone = Find-Job (Start-Export (Get-VM web01) '{tmp_path / "one"}' $null @())
        Stop-JobById $gone.InstanceID
        $job = Find-Job (Start-Export (Get-VM db01) '{tmp_path / "two"}' $null @())
        {tries}
    """)
    assert [line.split(",")[0] for line in lines] == list(WRONG.values())


SETTINGS = {
    "<INSTANCE CLASSNAME='Msvm_VirtualSystemExportSettingData'>": 32773,
    "<INSTANCE CLASSNAME='Msvm_VirtualHardDiskSettingData'></INSTANCE>": 32773,
    "<INSTANCE CLASSNAME='Msvm_VirtualSystemExportSettingData'>"
    "<PROPERTY NAME='CopyVmStorage' TYPE='string'><VALUE>TRUE</VALUE></PROPERTY></INSTANCE>": 32773,
    "<INSTANCE CLASSNAME='Msvm_VirtualSystemExportSettingData'>"
    "<PROPERTY NAME='CopySnapshotConfiguration' TYPE='uint8'><VALUE>256</VALUE></PROPERTY></INSTANCE>": 32773,
    "<INSTANCE CLASSNAME='Msvm_VirtualSystemExportSettingData'>"
    "<PROPERTY NAME='CopySnapshotConfiguration' TYPE='uint8'><VALUE>2</VALUE></PROPERTY>"
    "<PROPERTY NAME='SnapshotVirtualSystem' TYPE='string'><VALUE>Microsoft:x</VALUE></PROPERTY></INSTANCE>": 32773,
    "<INSTANCE CLASSNAME='Msvm_VirtualSystemExportSettingData'>"
    "<PROPERTY NAME='CopySnapshotConfiguration' TYPE='uint8'></PROPERTY></INSTANCE>": 0,
}


def test_settings_are_read_to_the_letter(run: Run, tmp_path: Path) -> None:
    calls = "\n".join(
        f"""$settings = @{{ ComputerSystem = $web; ExportDirectory = '{tmp_path}/out'; ExportSettingData = "{text}" }}
            (Invoke-CimMethod $service ExportSystemDefinition $settings).ReturnValue"""
        for text in SETTINGS
    )
    lines = run(f"""
        $space = 'root/virtualization/v2'
        $service = Get-CimInstance -Namespace $space -ClassName Msvm_VirtualSystemManagementService
        $web = Get-CimInstance -Namespace $space Msvm_ComputerSystem -Filter "ElementName = 'web01'"
        {calls}
    """)
    assert lines == [str(code) for code in SETTINGS.values()]
