"""Other people's scripts about exports, imports and conversions, in a real PowerShell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from tests.host_script.other_scripts import Run, running_on
from tests.unit.simulator_model.hosts import DB, INVENTORY, WEB, Script, host_at, of, truth

pytestmark = pytest.mark.powershell

VMS = [{**vm, "switch": "lan"} for vm in INVENTORY["vms"]]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHyperV]:
    with host_at(tmp_path / "host", {"host": {"name": "hv01"}, "vms": VMS}) as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SimulatedHyperV]:
    """Return another host, without VMs and switches."""
    with host_at(tmp_path / "other", {"host": {"name": "hv02"}, "vms": []}) as opened:
        yield opened


def test_vms_and_checkpoints_are_exported_and_waited_for(run: Run, host: SimulatedHyperV, tmp_path: Path) -> None:
    host.durations(export=100)
    host.checkpoint_vm(Script(), DB, "nightly")
    lines = run(
        f"""
        Set-Location {tmp_path}
        Get-VM | Export-VM -Path out -Passthru | ForEach-Object {{ $_.Name }}
        Export-VMSnapshot -VMName db01 -Name nightly -Path one -Passthru | ForEach-Object {{ $_.Name }}
        Export-VM db01 -Path out 2>$null; $Error[0].FullyQualifiedErrorId; "$($Error[0])" -match '0x80070050'
        Export-VM nosuch -Path out -ErrorAction SilentlyContinue; $Error[0].FullyQualifiedErrorId
        """
    )
    failed = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.ExportVM"
    unknown = "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.ExportVM"
    assert lines == ["db01", "web01", "nightly", failed, "True", unknown]
    assert json.loads(next((tmp_path / "out/web01").glob("*/*.vmcx")).read_text())["machine"]["state"] == "Saved"
    disks = [path.name for path in (tmp_path / "one/db01/Virtual Hard Disks").iterdir()]
    assert len(disks) == 2
    assert all(name.endswith(".vhdx") for name in disks)


def test_an_exported_vm_is_compared_with_another_host_and_imported_there(
    host: SimulatedHyperV, other: SimulatedHyperV, run: Run, tmp_path: Path
) -> None:
    for vm, snapshots in ((WEB, 0), (DB, 0)):
        host.export_vm(Script(), vm, str(tmp_path / "out"), snapshots=snapshots, capture_live_state=0)
    (vmcx,) = (tmp_path / "out/db01").glob("*/*.vmcx")
    assert run(
        f"""
        (Get-VM db01).NetworkAdapters[0].SwitchName
        Compare-VM -Path '{vmcx}' 2>$null; $Error[0].FullyQualifiedErrorId
        $report = Compare-VM -Path '{vmcx}' -Copy -GenerateNewId
        "$($report.VM.Name) $($report.VM.Id -ne '{DB}') $(@($report.Incompatibilities).Count) $($report.OperationType)"
        """
    ) == [
        "lan",
        "OperationFailed,Microsoft.HyperV.PowerShell.Commands.CompareVM",
        "db01 True 0 ImportVirtualMachine",
    ]
    with running_on(other, tmp_path / "engine2") as run_there:
        lines = run_there(
            f"""
            $report = Compare-VM -Path '{vmcx}' -Register
            $report.Incompatibilities | ForEach-Object {{ "$($_.MessageId) $($_.Message)" }}
            Import-VM -CompatibilityReport $report 2>$null; $Error[0].FullyQualifiedErrorId
            [IO.File]::WriteAllText('{vmcx}', [IO.File]::ReadAllText('{vmcx}').Replace('"lan"', '""'))
            $vm = Import-VM -CompatibilityReport (Compare-VM -CompatibilityReport $report)
            "$($vm.Name) $($vm.Id) $($vm.State)"
            Import-VM '{vmcx}' 2>$null; "$($Error[0])" -match 'same identifier'
            Import-VM '{vmcx}' -Copy 2>$null; "$($Error[0])" -match 'same identifier'
            $report = Compare-VM '{vmcx}' -Copy -GenerateNewId -VhdDestinationPath '{tmp_path}/vhds'
            $copy = Import-VM -CompatibilityReport $report
            "$($copy.Id -eq $report.VM.Id) $($copy.Id -ne $vm.Id) $(@(Get-VM db01).Count)"
            $copy.HardDrives | ForEach-Object {{ Split-Path $_.Path }}
            $copy = Import-VM '{vmcx}' -Copy -GenerateNewId -VirtualMachinePath '{tmp_path}/vms'
            "$($copy.Path) $(Split-Path $copy.HardDrives[0].Path)"
            Import-VM '{vmcx}' -Copy -SnapshotFilePath /x 2>$null; $Error[0].FullyQualifiedErrorId
            Import-VM /nowhere.vmcx 2>$null; $Error[0].FullyQualifiedErrorId
            """
        )
    cmdlet = "Microsoft.HyperV.PowerShell.Commands.ImportVM"
    assert lines == [
        "33012 Could not find Ethernet switch 'lan'.",
        f"OperationFailed,{cmdlet}",
        f"db01 {DB} Off",
        *("True", "True"),
        *("True True 2", f"{tmp_path}/vhds", f"{tmp_path}/vhds"),
        f"{tmp_path}/vms {tmp_path}/vms",
        f"NotSupported,{cmdlet}",
        f"ObjectNotFound,{cmdlet}",
    ]
    assert [line["effect"] for line in truth(tmp_path / "other")] == ["vm_imported"] * 3


def test_a_disk_is_converted(run: Run, host: SimulatedHyperV, tmp_path: Path) -> None:
    host.durations(convert=100)
    host.write_disk(DB, "SCSI:0:0", "1", "data")
    (source,) = of(host, DB)["disks"]["SCSI:0:0"]["chain"]
    lines = run(
        f"""
        Set-Location {tmp_path}
        $made = Convert-VHD '{source}' new.vhdx -Passthru
        "$($made.VhdType) $($made.DiskIdentifier -ne (Get-VHD '{source}').DiskIdentifier)"
        Convert-VHD new.vhdx newer.vhdx -VHDType Dynamic -DeleteSource
        Test-Path new.vhdx
        Convert-VHD '{source}' newer.vhdx 2>$null; "$($Error[0])" -match '0x80070050'; $Error[0].FullyQualifiedErrorId
        Convert-VHD '{source}' fixed.vhdx -VHDType Fixed 2>$null; $Error[0].FullyQualifiedErrorId
        Convert-VHD nosuch.vhdx x.vhdx 2>$null; $Error[0].FullyQualifiedErrorId
        """
    )
    cmdlet = "Microsoft.Vhd.PowerShell.Cmdlets.ConvertVHD"
    assert lines == [
        *("Dynamic True", "False", "True"),
        *(f"OperationFailed,{cmdlet}", f"NotSupported,{cmdlet}", f"ObjectNotFound,{cmdlet}"),
    ]
    assert json.loads((tmp_path / "newer.vhdx").read_text())["blocks"] == {"1": "data"}
