"""Other people's scripts about drives, virtual hard disks, processors and memory, in a real PowerShell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from tests.host_script.other_scripts import Run
from tests.unit.simulator_model.hosts import DB, WEB, host_at, of, truth

pytestmark = pytest.mark.powershell

OLD = "11111111-2222-3333-4444-555555555504"
INVENTORY = {
    "host": {"name": "hv01", "switches": ["lan"]},
    "vms": [
        {"id": WEB, "name": "web01", "state": "Running", "disks": [{"location": "SCSI:0:0"}]},
        {"id": DB, "name": "db01", "state": "Off", "disks": [{"location": "SCSI:0:0"}, {"location": "SCSI:0:2"}]},
        {"id": OLD, "name": "old01", "state": "Off", "disks": [{"location": "IDE:0:0"}]},
    ],
}
DRIVE = "Microsoft.HyperV.PowerShell.Commands.{}VMHardDiskDrive"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHyperV]:
    with host_at(tmp_path, INVENTORY) as opened:
        yield opened


def test_a_disk_is_made_attached_moved_detached_and_deleted(run: Run, host: SimulatedHyperV, tmp_path: Path) -> None:
    assert run(
        f"""
        Set-Location {tmp_path}
        $made = New-VHD -Path data.vhdx -SizeBytes 2GB -Dynamic -AsJob | Wait-Job | Receive-Job
        "$($made.Path) $($made.VhdType) $($made.VhdFormat) $($made.Size) $($made.DiskIdentifier.Length)"
        Get-VM web01 | Add-VMHardDiskDrive -Path data.vhdx
        "attached: $((Get-VHD data.vhdx).Attached)"
        Add-VMHardDiskDrive -VMName db01 -ControllerType SCSI -ControllerNumber 1 -ControllerLocation 5 `
            -Path data.vhdx -Passthru | ForEach-Object {{ "$($_.VMName) $($_.Name) $($_.Path)" }}
        $drive = Get-VMHardDiskDrive db01 -ControllerNumber 1
        $drive | Set-VMHardDiskDrive -ToControllerNumber 0 -ToControllerLocation 9 -Passthru |
            ForEach-Object {{ $_.Name }}
        Get-VMHardDiskDrive db01 | Where-Object ControllerLocation -eq 9 | Remove-VMHardDiskDrive
        Remove-VMHardDiskDrive -VMName web01 -ControllerType SCSI -ControllerNumber 0 -ControllerLocation 1
        Get-VMHardDiskDrive web01, db01 | ForEach-Object {{ $_.ControllerLocation }}
        Remove-Item data.vhdx
        "there: $(Test-VHD {tmp_path}/data.vhdx 2>$null)"
        """
    ) == [
        f"{tmp_path}/data.vhdx Dynamic VHDX {2 << 30} 36",
        "attached: True",
        f"db01 Hard Drive on SCSI controller number 1 at location 5 {tmp_path}/data.vhdx",
        "Hard Drive on SCSI controller number 0 at location 9",
        *("0", "0", "2"),
        "there: False",
    ]
    effects = [(e["effect"], e["vm"], e["detail"].get("location")) for e in truth(tmp_path)]
    assert effects == [
        ("disk_created", "", None),
        ("drive_added", WEB, "SCSI:0:1"),
        ("drive_added", DB, "SCSI:1:5"),
        ("drive_removed", DB, "SCSI:1:5"),
        ("drive_added", DB, "SCSI:0:9"),
        ("drive_removed", DB, "SCSI:0:9"),
        ("drive_removed", WEB, "SCSI:0:1"),
        ("file_deleted", "", None),
    ]
    assert list(of(host, WEB)["disks"]) == ["SCSI:0:0"]


def test_a_drive_goes_to_the_first_place_that_is_free(run: Run, tmp_path: Path) -> None:
    assert run(
        f"""
        1..4 | ForEach-Object {{ [void](New-VHD {tmp_path}/$_.vhdx 4MB) }}
        (Add-VMHardDiskDrive db01 -Path {tmp_path}/1.vhdx -Passthru).Name
        (Add-VMHardDiskDrive old01 -Path {tmp_path}/2.vhdx -Passthru).Name
        (Add-VMHardDiskDrive old01 SCSI -Path {tmp_path}/3.vhdx -Passthru).Name
        (Add-VMHardDiskDrive old01 IDE 1 -Path {tmp_path}/4.vhdx -Passthru).Name
        """
    ) == [
        f"Hard Drive on {at}"
        for at in (
            "SCSI controller number 0 at location 1",
            "IDE controller number 0 at location 1",
            "SCSI controller number 0 at location 0",
            "IDE controller number 1 at location 0",
        )
    ]


def test_what_cannot_be_attached_or_detached_is_an_error_that_goes_on(run: Run, tmp_path: Path) -> None:
    assert run(
        f"""
        $ErrorActionPreference = 'SilentlyContinue'
        [void](New-VHD {tmp_path}/x.vhdx 4MB)
        Add-VMHardDiskDrive db01 SCSI 0 0 {tmp_path}/x.vhdx
        Add-VMHardDiskDrive db01 SCSI 0 5 {tmp_path}/none.vhdx
        Add-VMHardDiskDrive db01 IDE 0 1 {tmp_path}/x.vhdx
        Add-VMHardDiskDrive db01 -DiskNumber 1
        Add-VMHardDiskDrive db01 -Path {tmp_path}/x.vhdx -MaximumIOPS 7
        Add-VMHardDiskDrive db01
        Remove-VMHardDiskDrive db01 SCSI 0 7
        New-VHD {tmp_path}/x.vhdx 4MB
        [array]::Reverse(($ids = @($Error | ForEach-Object {{ $_.FullyQualifiedErrorId }}))); $ids
        """
    ) == [
        f"OperationFailed,{DRIVE.format('Add')}",
        f"OperationFailed,{DRIVE.format('Add')}",
        f"InvalidParameter,{DRIVE.format('Add')}",
        f"NotSupported,{DRIVE.format('Add')}",
        f"NotSupported,{DRIVE.format('Add')}",
        f"NotSupported,{DRIVE.format('Add')}",
        f"ObjectNotFound,{DRIVE.format('Remove')}",
        "OperationFailed,Microsoft.Vhd.PowerShell.Cmdlets.NewVHD",
    ]


def test_disks_of_all_kinds_are_made_and_resized(run: Run, tmp_path: Path) -> None:
    own = f"{tmp_path}/state/disks/{WEB}/web01-11111111-0.vhdx"
    assert run(
        f"""
        [void](New-VHD {tmp_path}/a.vhdx -SizeBytes 8MB -Fixed)
        [void](New-VHD -Path {tmp_path}/b.vhdx -ParentPath {tmp_path}/a.vhdx -Differencing)
        Get-VHD {tmp_path}/a.vhdx, {tmp_path}/b.vhdx |
            ForEach-Object {{ "$($_.VhdType) $($_.FileSize -eq $_.Size) $($_.ParentPath)" }}
        (Resize-VHD {tmp_path}/a.vhdx -SizeBytes 16MB -Passthru).Size
        (Resize-VHD {tmp_path}/a.vhdx -ToMinimumSize -Passthru).Size
        (Get-VHD {tmp_path}/a.vhdx).MinimumSize
        Resize-VHD {tmp_path}/b.vhdx 32MB -ErrorAction SilentlyContinue; $Error[0].FullyQualifiedErrorId
        Get-VM web01 | ForEach-Object {{ Get-VHD -VMId $_.Id }} | Resize-VHD -SizeBytes 3GB
        (Get-VHD -VMId (Get-VM web01).Id).Size
        Get-VM web01 | Get-VMHardDiskDrive | Resize-VHD -SizeBytes 4GB -WhatIf | Out-Null
        (Get-VHD -VMId (Get-VM web01).Id).Size / 1GB
        """
    )[:9] == [
        "Fixed True ",
        f"Differencing False {tmp_path}/a.vhdx",
        *(str(16 << 20), str(3 << 20), str(3 << 20)),
        "OperationFailed,Microsoft.Vhd.PowerShell.Cmdlets.ResizeVHD",
        str(3 << 30),
        f'What if: Performing the operation "Resize-VHD" on target "{own}".',
        "3",
    ]


def test_processors_and_memory_are_read_and_set(run: Run, host: SimulatedHyperV) -> None:
    assert run(
        """
        Get-VMProcessor db01, web01 | ForEach-Object { "$($_.VMName) $($_.Count)" }
        Set-VMProcessor -VMName db01 -Count 6
        (Get-VM db01 | Set-VMProcessor -Count 4 -Passthru).Count
        Get-VMProcessor db01 | Set-VMProcessor -Count 5
        Get-VM db01 | Set-VMMemory -StartupBytes 2GB -DynamicMemoryEnabled $true -MinimumBytes 1GB -MaximumBytes 8GB
        $memory = Get-VMMemory db01
        "$($memory.Startup) $($memory.DynamicMemoryEnabled) $($memory.Minimum) $($memory.Maximum)"
        $vm = Get-VM db01
        "$($vm.ProcessorCount) $($vm.MemoryStartup) $($vm.MemoryMinimum) $($vm.MemoryMaximum)"
        $ErrorActionPreference = 'SilentlyContinue'
        Set-VMProcessor web01 -Count 4
        Set-VMMemory db01 -MinimumBytes 4GB
        Set-VMProcessor db01 -Reserve 10
        Set-VMMemory web01 -StartupBytes 8GB
        [array]::Reverse(($ids = @($Error | ForEach-Object { $_.FullyQualifiedErrorId }))); $ids
        (Get-VMMemory web01).Startup
        """
    ) == [
        "db01 2",
        "web01 2",
        "4",
        f"{2 << 30} True {1 << 30} {8 << 30}",
        f"5 {2 << 30} {1 << 30} {8 << 30}",
        "InvalidState,Microsoft.HyperV.PowerShell.Commands.SetVMProcessor",
        "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.SetVMMemory",
        "NotSupported,Microsoft.HyperV.PowerShell.Commands.SetVMProcessor",
        str(8 << 30),
    ]
    assert of(host, DB)["offering"]["cpu_count"] == 5


def test_a_checkpoint_tells_what_the_vm_had_at_its_moment(run: Run) -> None:
    assert run(
        """
        Checkpoint-VM db01 before
        Set-VMProcessor db01 -Count 6
        Set-VM db01 -MemoryStartupBytes 1GB -DynamicMemory -MemoryMinimumBytes 1GB -MemoryMaximumBytes 2GB
        $c = Get-VMSnapshot db01
        "$($c.ProcessorCount) $($c.MemoryStartup / 1GB) $($c.DynamicMemoryEnabled)"
        (Get-VMProcessor -VMSnapshot $c).Count; (Get-VMMemory -VMSnapshot $c).VMSnapshotName
        $vm = Get-VM db01; "$($vm.ProcessorCount) $($vm.MemoryStartup / 1GB) $($vm.DynamicMemoryEnabled)"
        $c | Restore-VMSnapshot -Confirm:$false
        $vm = Get-VM db01; "$($vm.ProcessorCount) $($vm.MemoryStartup / 1GB) $($vm.DynamicMemoryEnabled)"
        """
    ) == ["2 4 False", "2", "before", "6 1 True", "2 4 False"]


def test_vms_are_made_and_removed(run: Run, host: SimulatedHyperV, tmp_path: Path) -> None:
    assert run(
        f"""
        Set-Location {tmp_path}
        $vm = New-VM -Name app01 -MemoryStartupBytes 2GB -Generation 2 -NewVHDPath app.vhdx -NewVHDSizeBytes 8GB
        "$($vm.Name) $($vm.State) $($vm.Generation) $($vm.MemoryStartup / 1GB) $($vm.HardDrives[0].Path)"
        $plain = New-VM app02 | Rename-VM -NewName app03 -Passthru
        "$($plain.Generation) $($plain.MemoryStartup / 1MB) $($plain.HardDrives.Count) $($plain.ProcessorCount)"
        Start-VM $vm; Checkpoint-VM $vm one
        Remove-VM $vm -Force 2>$null; "$? $($Error[0].FullyQualifiedErrorId)"
        Stop-VM $vm -TurnOff
        (New-VM app02 -SwitchName lan).NetworkAdapters.SwitchName
        New-VM app04 -SwitchName none 2>$null; $Error[0].FullyQualifiedErrorId
        (Get-VM app01, app02, app03 | Remove-VM -Force -Passthru).Name
        Get-VM | ForEach-Object {{ $_.Name }}
        Test-Path app.vhdx
        try {{ Remove-VM db01 }} catch {{ 'it would have asked' }}
        """
    ) == [
        f"app01 Off 2 2 {tmp_path}/app.vhdx",
        "1 512 0 1",
        "False InvalidState,Microsoft.HyperV.PowerShell.Commands.RemoveVM",
        "lan",
        "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.NewVM",
        *("app01", "app02", "app03"),
        *("db01", "old01", "web01"),
        "True",
        "it would have asked",
    ]
    assert [vm.name for vm in host.vms()] == ["db01", "old01", "web01"]


def test_integration_services_are_as_the_guest_is(run: Run, host: SimulatedHyperV) -> None:
    host.set_guest("web01", shutdown_service=False)
    assert run(
        """
        Get-VMIntegrationService web01 | ForEach-Object { "$($_.Name): $($_.Enabled) $($_.PrimaryStatusDescription)" }
        Get-VM db01 | Get-VMIntegrationService -Name Shutdown, V* | ForEach-Object { "$($_.VMName) $($_.Name)" }
        (Get-VMIntegrationService web01 Heartbeat).PrimaryOperationalStatus -eq 'Ok'
        ((Get-VM web01).VMIntegrationService | Where-Object Name -eq 'VSS').PrimaryStatusDescription
        Get-VMIntegrationService web01 none 2>$null; $Error[0].FullyQualifiedErrorId
        """
    ) == [
        "Heartbeat: True OK",
        "Key-Value Pair Exchange: True OK",
        "Shutdown: True No Contact",
        "Time Synchronization: True OK",
        "VSS: True OK",
        "Guest Service Interface: False ",
        "db01 Shutdown",
        "db01 VSS",
        "True",
        "OK",
        "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.GetVMIntegrationService",
    ]


def test_a_vm_that_a_script_keeps_tells_its_state_as_it_is_now(run: Run) -> None:
    assert run(
        """
        $vm = Get-VM db01; $all = @(Get-VM db01, web01)
        "$($vm.State) $($vm.State.GetType().Name)"
        Start-VM $vm
        "$($vm.State) $($vm.State -eq [Microsoft.HyperV.PowerShell.VMState]::Running) $($all.State)"
        $all | Where-Object State -eq 'Running' | ForEach-Object { $_.Name }
        Stop-VM $vm -TurnOff
        while ($vm.State -ne 'Off') { Start-Sleep -Milliseconds 50 }
        $vm | Select-Object Name, State | ForEach-Object { "$($_.Name) $($_.State)" }
        Remove-VM $vm -Force
        "$($vm.State)"
        $Error.Count
        """
    ) == ["Off VMState", "Running True Running Running", "db01", "web01", "db01 Off", "Off", "0"]


def test_automatic_checkpoints_are_as_a_script_has_set_them_or_as_the_host_does(
    run: Run, host: SimulatedHyperV
) -> None:
    host.admin("set_automatic_checkpoints", "db01", value=True)
    assert run(
        """
        (Get-VM db01).AutomaticCheckpointsEnabled
        Start-VM db01; @(Get-VMSnapshot db01).Count; Stop-VM db01 -TurnOff
        Set-VM db01 -AutomaticCheckpointsEnabled $false
        (Get-VM db01).AutomaticCheckpointsEnabled
        Start-VM db01; @(Get-VMSnapshot db01).Count; Stop-VM db01 -TurnOff
        """
    ) == ["True", "1", "False", "0"]
    host.admin("set_automatic_checkpoints", "db01", value=True)
    assert run("(Get-VM db01).AutomaticCheckpointsEnabled") == ["True"]
