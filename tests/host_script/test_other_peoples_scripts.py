"""The idioms of other people's scripts, in a real PowerShell over the model: what they do comes true here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from tests.host_script.other_scripts import Run
from tests.unit.simulator_model.hosts import DB, WEB, host_at, of

pytestmark = pytest.mark.powershell

APP = "11111111-2222-3333-4444-555555555503"
INVENTORY = {
    "host": {"name": "hv01"},
    "vms": [
        {"id": WEB, "name": "web01", "state": "Running", "disks": [{"location": "SCSI:0:0"}]},
        {"id": APP, "name": "web02", "state": "Off", "disks": [{"location": "SCSI:0:0"}]},
        {"id": DB, "name": "db01", "state": "Running", "disks": [{"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}]},
    ],
}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHyperV]:
    with host_at(tmp_path, INVENTORY) as opened:
        yield opened


def names(host: SimulatedHyperV, vm_id: str) -> list[str]:
    """Return the names of a VM's checkpoints."""
    return [str(c["name"]) for c in of(host, vm_id)["checkpoints"]]


ALREADY = "The virtual machine is already in the specified state."
UNKNOWN = "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM"


def test_an_unknown_name_among_others_is_an_error_that_does_not_end_the_script(run: Run) -> None:
    assert run(
        """
        Get-VM web01, nosuch, web02 2>$null | ForEach-Object { $_.Name }
        Get-VM web01, nosuch, web02 2>$null | Out-Null; "ok: $?"
        Get-VM web01 | Out-Null; "ok: $?"
        "errors: $($Error.Count)"
        $Error[0].FullyQualifiedErrorId
        $Error[0].Exception.Message
        "$($Error[0].CategoryInfo)"
        """
    ) == [
        "web01",
        "web02",
        "ok: False",
        "ok: True",
        "errors: 2",
        UNKNOWN,
        'Hyper-V was unable to find a virtual machine with name "nosuch".',
        "InvalidArgument: (nosuch:String) [Get-VM], VirtualizationException",
    ]


def test_error_action_decides_what_an_error_does(run: Run) -> None:
    assert run(
        """
        try { Get-VM nosuch -ErrorAction Stop; 'not here' } catch { "caught $($_.FullyQualifiedErrorId)" }
        try { Get-VM nosuch -ErrorAction Stop }
        catch [Microsoft.HyperV.PowerShell.VirtualizationException] { 'by its type' }
        Get-VM nosuch -ErrorAction SilentlyContinue; "silent: $? $($Error.Count)"
        $Error.Clear(); Get-VM nosuch -ErrorAction Ignore; "ignored: $($Error.Count)"
        Get-VM nosuch, web01, none -ErrorAction SilentlyContinue -ErrorVariable bad | ForEach-Object { $_.Name }
        "bad: $($bad.Count) $($bad[1].FullyQualifiedErrorId)"
        if (-not (Get-VM -Name nosuch -ErrorAction SilentlyContinue)) { 'absent' }
        """
    ) == [
        f"caught {UNKNOWN}",
        "by its type",
        "silent: False 3",
        "ignored: 0",
        "web01",
        f"bad: 2 {UNKNOWN}",
        "absent",
    ]


def test_the_preference_of_whoever_calls_counts_wherever_it_is_set(run: Run) -> None:
    script = """
        function quiet { $ErrorActionPreference = 'SilentlyContinue'; Get-VM nosuch; 'went on' }
        quiet
        & { $ErrorActionPreference = 'Stop'
            try { Get-VM nosuch; 'not here' } catch { "stopped $($_.FullyQualifiedErrorId)" } }
        & { $WarningPreference = 'Stop'; try { Start-VM web01; 'not here' } catch { 'a warning stopped it' } }
        & { $WhatIfPreference = $true; Stop-VM web01 -TurnOff }
        (Get-VM web01).State
        $ErrorActionPreference = 'Stop'
        Get-VM nosuch
        'not here'
        """
    lines = run(script, exit_code=1)
    assert lines[:4] == ["went on", f"stopped {UNKNOWN}", f"WARNING: {ALREADY}", "a warning stopped it"]
    assert "Running" in lines
    assert "not here" not in lines
    assert 'unable to find a virtual machine with name "nosuch"' in " ".join(lines)


@pytest.mark.parametrize(
    ("command", "error_id"),
    [
        ("Start-VM nosuch", "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.StartVM"),
        ("Checkpoint-VM nosuch", "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.CheckpointVM"),
        ("Get-VMSnapshot nosuch", "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.GetVMSnapshot"),
        ("Get-VMSnapshot web01 -Name none", "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.GetVMSnapshot"),
        ("Remove-VMSnapshot web01 none", "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.RemoveVMSnapshot"),
        (
            "Restore-VMSnapshot none web01 -Confirm:$false",
            "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.RestoreVMSnapshot",
        ),
        ("Suspend-VM web02", "InvalidState,Microsoft.HyperV.PowerShell.Commands.SuspendVM"),
        ("Stop-VM web01 -Save -TurnOff", "InvalidParameter,Microsoft.HyperV.PowerShell.Commands.StopVM"),
        ("Set-VM web01 -ProcessorCount 4", "InvalidState,Microsoft.HyperV.PowerShell.Commands.SetVM"),
        ("Restart-VM web02 -Force", "InvalidState,Microsoft.HyperV.PowerShell.Commands.RestartVM"),
        ("Get-VHD /nosuch/disk.vhdx", "ObjectNotFound,Microsoft.Vhd.PowerShell.Cmdlets.GetVHD"),
        ("Merge-VHD x y", "NotSupported,Microsoft.Vhd.PowerShell.Cmdlets.MergeVHD"),
    ],
)
def test_every_cmdlets_error_has_its_id_goes_on_and_stops_if_asked(run: Run, command: str, error_id: str) -> None:
    assert run(
        f"""
        {command} 2>$null; "went on: $?"
        $Error[0].FullyQualifiedErrorId
        try {{ {command} -ErrorAction Stop; 'not here' }} catch {{ "caught $($_.FullyQualifiedErrorId)" }}
        """
    ) == ["went on: False", error_id, f"caught {error_id}"]


def test_one_of_several_that_refuses_does_not_keep_the_others_from_being_done(run: Run, host: SimulatedHyperV) -> None:
    assert run(
        """
        Suspend-VM web*, db01 2>$null; "ok: $?"
        $Error.Count
        Stop-VM web01, nosuch, db01 -TurnOff 2>$null; "ok: $?"
        """
    ) == ["ok: False", "1", "ok: False"]
    assert [of(host, vm)["state"] for vm in (WEB, APP, DB)] == ["Off", "Off", "Off"]


def test_wildcards_and_arrays_name_vms_and_checkpoints(run: Run, host: SimulatedHyperV) -> None:
    assert run(
        """
        "$((Get-VM web*).Name)"
        "$((Get-VM -Name w?b0[2-9], DB*).Name)"
        "none: $(@(Get-VM nosuch*).Count) $?"
        "$((Get-VM).Count) $((Get-VM *).Count)"
        foreach ($n in 'nightly-1', 'nightly-2', 'weekly') { Checkpoint-VM -Name web01, db01 -SnapshotName $n }
        "$((Get-VMSnapshot -VMName web01, db01 -Name nightly*).Count)"
        "$((Get-VMSnapshot *).Count)"
        Remove-VMSnapshot -VMName web* -Name nightly*
        """
    ) == ["web01 web02", "web02 db01", "none: 0 True", "3 3", "4", "6"]
    assert names(host, WEB) == ["weekly"]
    assert names(host, DB) == ["nightly-1", "nightly-2", "weekly"]


def test_enums_are_there_by_their_full_names_and_compare_with_words(run: Run) -> None:
    assert run(
        """
        Import-Module Hyper-V
        [Microsoft.HyperV.PowerShell.VMState]::Off
        [int][Microsoft.HyperV.PowerShell.VMState]::Running
        [Microsoft.HyperV.PowerShell.SnapshotType]'Recovery'
        [int][Microsoft.Vhd.PowerShell.VhdType]::Differencing
        [int][Microsoft.Vhd.PowerShell.VhdFormat]::VHDX
        $vhd = Get-VHD (Get-VMHardDiskDrive web01).Path
        [Microsoft.Vhd.PowerShell.VhdFormat]::VHDX -eq $vhd.VhdFormat -and $vhd.VhdFormat -eq 'VHDX'
        $vhd.VhdFormat.GetType().FullName
        $vm = Get-VM web01
        $vm.State -eq [Microsoft.HyperV.PowerShell.VMState]::Running
        $vm.State -eq 'Running'
        $vm.State.GetType().FullName
        $vm.CheckpointType.GetType().FullName
        switch ($vm.State) { ([Microsoft.HyperV.PowerShell.VMState]::Running) { 'switched' } }
        Set-VM web01 -CheckpointType ([Microsoft.HyperV.PowerShell.CheckpointType]::Standard)
        (Get-VM web01).CheckpointType
        [enum]::GetNames([Microsoft.HyperV.PowerShell.CheckpointType]) -join ' '
        """
    ) == [
        *("Off", "2", "Recovery", "4", "3", "True", "Microsoft.Vhd.PowerShell.VhdFormat", "True", "True"),
        "Microsoft.HyperV.PowerShell.VMState",
        "Microsoft.HyperV.PowerShell.CheckpointType",
        *("switched", "Standard", "Disabled Production ProductionOnly Standard"),
    ]


def test_objects_are_of_hyper_vs_types_and_pass_through_typed_parameters(run: Run) -> None:
    assert run(
        """
        function Get-Names([Microsoft.HyperV.PowerShell.VirtualMachine[]]$VM) { $VM.Name -join ' ' }
        Get-Names (Get-VM web*)
        $vm = Get-VM web01
        $vm -is [Microsoft.HyperV.PowerShell.VirtualMachine]
        $vm -is [Microsoft.HyperV.PowerShell.VirtualMachineBase]
        $made = Checkpoint-VM -VM $vm -SnapshotName one -Passthru
        $made -is [Microsoft.HyperV.PowerShell.VMSnapshot]
        $vm.HardDrives[0].GetType().FullName
        $vm.PSObject.TypeNames[0]
        try { Get-VMSnapshot -VM $made; 'not here' } catch { $_.FullyQualifiedErrorId }
        """
    ) == [
        *("web01 web02", "True", "True", "True"),
        "Microsoft.HyperV.PowerShell.HardDiskDrive",
        "Microsoft.HyperV.PowerShell.VirtualMachine",
        "ParameterArgumentTransformationError,Get-VMSnapshot",
    ]


def test_pipelines_go_by_object(run: Run, host: SimulatedHyperV) -> None:
    assert run(
        """
        Get-VM | Where-Object State -eq Running | Checkpoint-VM -SnapshotName x
        Get-VM | Where-Object { $_.State -eq 'Off' } | Start-VM -Passthru |
            ForEach-Object { "$($_.Name) $($_.State)" }
        'web01', 'db01' | Get-VM | Checkpoint-VM -SnapshotName y
        $vm = Get-VM web01
        "$((Get-VMSnapshot -VM $vm).Name)"
        Get-VM | Get-VMSnapshot | Where-Object Name -like x | Remove-VMSnapshot
        Get-VMSnapshot -VM $vm | Rename-VMSnapshot -NewName z
        Get-VM | Get-VMHardDiskDrive | Get-VHD | Group-Object VhdType | ForEach-Object { "$($_.Name) $($_.Count)" }
        (Get-VM db01).HardDrives | Get-VHD | Measure-Object | ForEach-Object { $_.Count }
        (Get-VHD -VMId $vm.Id).Path -eq $vm.HardDrives[0].Path
        Get-VM | Sort-Object Name | Select-Object -First 1 -ExpandProperty Name
        Get-VMSnapshot db01 | Restore-VMSnapshot -Confirm:$false -Passthru | ForEach-Object { $_.Name }
        Get-VM | Stop-VM -TurnOff -Force -WarningAction SilentlyContinue -WarningVariable already
        "$already"
        """
    ) == ["web02 Running", "x y", "Dynamic 1", "Differencing 3", "2", "True", "db01", "y", ALREADY]
    assert (names(host, WEB), names(host, APP), names(host, DB)) == (["z"], [], ["y"])
    assert [of(host, vm)["state"] for vm in (WEB, APP, DB)] == ["Off", "Off", "Off"]


@pytest.mark.parametrize(
    ("piped", "name"),
    [
        ("[pscustomobject]@{ Name = 'web02' }", "@{Name=web02}"),
        ("('Name', 'web02' | ConvertFrom-Csv)", "@{Name=web02}"),
        ("(Get-VM web02 | Select-Object Name)", "@{Name=web02}"),
        ("1", "1"),
        ("@{ Name = 'web02' }", "System.Collections.Hashtable"),
    ],
)
def test_an_object_that_is_no_vm_names_one_that_is_not_there(
    run: Run, host: SimulatedHyperV, piped: str, name: str
) -> None:
    unknown = f'Hyper-V was unable to find a virtual machine with name "{name}".'
    assert run(
        f"""
        {piped} | Get-VM -ErrorAction SilentlyContinue | ForEach-Object {{ $_.Name }}
        {piped} | Stop-VM -TurnOff -ErrorAction SilentlyContinue
        $Error | ForEach-Object {{ "$($_.FullyQualifiedErrorId) $_" }}
        """
    ) == [f"ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.StopVM {unknown}", f"{UNKNOWN} {unknown}"]
    assert [of(host, vm)["state"] for vm in (WEB, APP, DB)] == ["Running", "Off", "Running"]


@pytest.mark.parametrize(
    ("call", "what", "where"),
    [
        (
            "[pscustomobject]@{ PSTypeName = 'Microsoft.FailoverClusters.PowerShell.ClusterObject' } | Get-VM",
            *("Get-VM -ClusterObject", "Microsoft.HyperV.PowerShell.Commands.GetVM"),
        ),
        (
            "[Microsoft.HyperV.PowerShell.VMDriveController]::new() | Get-VMHardDiskDrive",
            *("Get-VMHardDiskDrive -VMDriveController", "Microsoft.HyperV.PowerShell.Commands.GetVMHardDiskDrive"),
        ),
        ("Get-VHD -DiskNumber 1", "Get-VHD -DiskNumber", "Microsoft.Vhd.PowerShell.Cmdlets.GetVHD"),
    ],
)
def test_what_is_named_in_a_way_that_is_not_done_here_is_an_error_and_not_everything(
    run: Run, call: str, what: str, where: str
) -> None:
    assert run(
        f"""
        Import-Module Hyper-V
        $ErrorActionPreference = 'SilentlyContinue'
        "$(@({call}).Count) $($Error.Count) $($Error[0].FullyQualifiedErrorId)"
        "$($Error[0])"
        """
    ) == [f"0 1 NotSupported,{where}", f"The simulated host does not do {what}."]


@pytest.mark.parametrize(
    "call",
    [
        "Stop-VM web01 -TurnOff -ComputerName hv99",
        "Stop-VM web01 -TurnOff -ComputerName hv01.elsewhere",
        "Stop-VM web01 -TurnOff -CimSession hv99",
        "Stop-VM web01 -TurnOff -CimSession ([pscustomobject]@{ ComputerName = 'hv99' })",
        "Checkpoint-VM web01 -ComputerName hv99",
        "Get-VM -ComputerName hv99",
        "Get-VM -CimSession 1",
        "'hv99' | Get-VMHost",
        "Get-VHD -Path x -ComputerName hv99",
    ],
)
def test_a_call_for_another_machine_is_an_error_and_does_nothing_here(
    run: Run, host: SimulatedHyperV, call: str
) -> None:
    assert run(
        f"""
        $ErrorActionPreference = 'SilentlyContinue'
        "$(@({call}).Count) $($Error.Count) $($Error[0].FullyQualifiedErrorId.Split(',')[0])"
        $Error[0].Exception.Message -match 'cannot reach the computer "(hv99|hv01.elsewhere|1)"'
        """
    ) == ["0 1 InvalidParameter", "True"]
    assert (of(host, WEB)["state"], names(host, WEB)) == ("Running", [])


def test_a_call_for_this_machine_is_done_once_whatever_it_is_called(run: Run, host: SimulatedHyperV) -> None:
    assert run(
        """
        foreach ($name in 'HV01', 'localhost', '.', $env:COMPUTERNAME) { (Get-VM web01 -ComputerName $name).Name }
        (Get-VM web01 -CimSession hv01).Name
        ('hv01' | Get-VMHost).Name
        Checkpoint-VM web01 -SnapshotName one -ComputerName hv99, localhost, hv01 -ErrorAction SilentlyContinue
        $Error.Count
        (Stop-VM web01 -TurnOff -ComputerName hv99 -AsJob | Wait-Job).State
        """
    ) == ["web01", "web01", "web01", "web01", "web01", "hv01", "1", "Failed"]
    assert (of(host, WEB)["state"], names(host, WEB)) == ("Running", ["one"])


def test_credentials_of_another_account_are_refused_and_not_left_out(run: Run, host: SimulatedHyperV) -> None:
    assert run(
        """
        $other = [pscredential]::new('other', [securestring]::new())
        Stop-VM web01 -TurnOff -ComputerName hv01 -Credential $other -ErrorAction SilentlyContinue
        "$($Error.Count) $($Error[0].FullyQualifiedErrorId)"
        """
    ) == ["1 NotSupported,Microsoft.HyperV.PowerShell.Commands.StopVM"]
    assert of(host, WEB)["state"] == "Running"


def test_checkpoints_are_a_tree_with_names(run: Run) -> None:
    assert run(
        """
        Checkpoint-VM web01 one; Checkpoint-VM web01 two; Checkpoint-VM web01 three
        Get-VMSnapshot web01 | ForEach-Object { "$($_.Name) after '$($_.ParentSnapshotName)'" }
        (Get-VM web01).ParentSnapshotName
        $one, $two, $three = Get-VMSnapshot web01
        (Get-VMSnapshot -ParentOf $three).Name
        (Get-VMSnapshot -ChildOf $one).Name
        (Get-VMSnapshot -ParentOf (Get-VM web01)).Name
        $two.ParentSnapshotId -eq $one.Id
        $two.CreationTime -le [DateTime]::Now
        Test-Path -LiteralPath $two.Path
        $two.ComputerName
        Remove-VMSnapshot -VMSnapshot $two -IncludeAllChildSnapshots
        (Get-VMSnapshot web01).Name
        """
    ) == [
        *("one after ''", "two after 'one'", "three after 'two'", "three", "two", "two", "three"),
        *("True", "True", "True", "hv01", "one"),
    ]


def test_uptime_counts_while_a_vm_runs_and_what_a_vm_tells_of_itself_is_there(run: Run) -> None:
    assert run(
        """
        $vm = Get-VM web01
        $vm.Uptime.GetType().FullName
        $vm.Uptime.TotalMilliseconds -gt 0
        (Get-VM web02).Uptime -eq [TimeSpan]::Zero
        while ((Get-VM web01).Uptime -le $vm.Uptime) { }
        Get-VM | Where-Object { $_.Uptime.TotalSeconds -gt 0 } | ForEach-Object { $_.Name }
        $paths = 'Path ConfigurationLocation SnapshotFileLocation CheckpointFileLocation SmartPagingFilePath'
        foreach ($name in -split $paths) { if (-not (Test-Path -LiteralPath $vm.$name)) { "no $name" } }
        $all = -split ('Id VMId Name VMName State Status CPUUsage MemoryAssigned MemoryStartup Version Generation ' +
            'ProcessorCount CreationTime Notes ComputerName CheckpointType Heartbeat AutomaticStartAction ' +
            'AutomaticStopAction DynamicMemoryEnabled')
        $missing = foreach ($name in $all) { if ($null -eq $vm.$name) { $name } }
        "missing:$missing"
        "$($vm.MemoryAssigned / 1GB) GB, $((Get-VM web02).MemoryAssigned)"
        """
    ) == ["System.TimeSpan", "True", "True", "db01", "web01", "missing:", "4 GB, 0"]


def test_restart_vm_resets_a_guest_and_asks_first(run: Run, host: SimulatedHyperV) -> None:
    before = of(host, WEB)["memory"]
    assert run(
        """
        try { Restart-VM web01 -ErrorAction Stop; 'not here' } catch { 'cannot ask' }
        $was = (Get-VM web01).Uptime
        Restart-VM web01 -Force -Passthru | ForEach-Object { $_.State }
        Get-VM db01 | Restart-VM -Force -Wait -For Heartbeat -Timeout 60
        'web01', 'db01' | Restart-VM -Confirm:$false
        """
    ) == ["cannot ask", "Running"]
    assert of(host, WEB)["memory"] != before
    assert [of(host, vm)["state"] for vm in (WEB, DB)] == ["Running", "Running"]


def test_set_vm_changes_what_it_names(run: Run) -> None:
    assert run(
        """
        function Show($vm, [string[]]$names) { "$($vm.Name) $(foreach ($name in $names) { $vm.$name })" }
        Set-VM web02 -ProcessorCount 8 -MemoryStartupBytes 2GB -Notes 'by hand' -AutomaticStartAction Start
        Set-VM web02 -AutomaticCheckpointsEnabled $true
        Show (Get-VM web02) ProcessorCount, MemoryStartup, Notes, AutomaticStartAction, AutomaticCheckpointsEnabled
        Get-VM web* | Set-VM -AutomaticStopAction ShutDown -Passthru | ForEach-Object { Show $_ AutomaticStopAction }
        Set-VM web02 -DynamicMemory -MemoryMinimumBytes 1GB -MemoryMaximumBytes 4GB -CheckpointType Disabled
        Show (Get-VM web02) DynamicMemoryEnabled, MemoryMinimum, MemoryMaximum, CheckpointType
        Set-VM web02 -NewVMName web03; (Get-VM web*).Name -join ' '
        $null = Set-VM web01 -Notes changed -WhatIf
        Show (Get-VM web01) Notes
        """
    ) == [
        "web02 8 2147483648 by hand Start True",
        *("web01 ShutDown", "web02 ShutDown"),
        "web02 True 1073741824 4294967296 Disabled",
        "web01 web03",
        'What if: Performing the operation "Set-VM" on target "web01".',
        "web01 ",
    ]


def test_as_job_gives_a_job_that_is_waited_for_and_received(run: Run, host: SimulatedHyperV) -> None:
    host.durations(checkpoint=300)
    assert run(
        """
        $job = Checkpoint-VM web01 -SnapshotName slow -Passthru -AsJob
        "$($job -is [Management.Automation.Job]) $($job.State -ne 'Completed') $((Get-VMSnapshot web01).Count)"
        ($job | Wait-Job).State
        Receive-Job $job | ForEach-Object { "$($_.Name) $($_ -is [Microsoft.HyperV.PowerShell.VMSnapshot])" }
        $jobs = Get-VM | Start-VM -AsJob 3>$null
        "$($jobs.Count) $(($jobs | Wait-Job -Timeout 60).State)"
        "$((Get-VM).State)"
        $bad = Start-VM nosuch, web01 -AsJob | Wait-Job
        $bad.State
        Receive-Job $bad -ErrorAction SilentlyContinue -ErrorVariable errors -WarningAction SilentlyContinue
        $errors[0].FullyQualifiedErrorId
        Get-Job | Remove-Job; @(Get-Job).Count
        $none = Checkpoint-VM web01 -AsJob -WhatIf; "$($null -eq $none)"
        """
    ) == [
        *("True True 0", "Completed", "slow True", "3 Completed Completed Completed", "Running Running Running"),
        *("Failed", "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.StartVM", "0"),
        *('What if: Performing the operation "Checkpoint-VM" on target "Checkpoint-VM".', "True"),
    ]
    assert names(host, WEB) == ["slow"]


def test_a_host_tells_what_it_has_and_where_it_keeps_its_vms(run: Run) -> None:
    assert run(
        """
        $about = Get-VMHost
        $about.Name, $about.ComputerName -join ' '
        $vms = Get-VM
        $about.LogicalProcessorCount -ge ($vms.ProcessorCount | Measure-Object -Maximum).Maximum
        $about.MemoryCapacity -gt ($vms.MemoryAssigned | Measure-Object -Sum).Sum
        foreach ($vm in $vms) {
            $at = [IO.Path]::GetFullPath($vm.Path)
            "$([IO.Path]::GetDirectoryName($at) -eq $about.VirtualMachinePath)"
            foreach ($disk in $vm.HardDrives.Path) { $disk.StartsWith("$($about.VirtualHardDiskPath)/") }
        }
        """
    ) == ["hv01 hv01", "True", "True", *["True"] * 7]


def test_a_job_that_failed_says_so_however_its_errors_are_received(run: Run) -> None:
    assert run(
        """
        foreach ($n in 1..5) {
            $job = Start-VM nosuch -AsJob
            Receive-Job $job -Wait -ErrorAction SilentlyContinue
            $job.State
        }
        foreach ($action in 'SilentlyContinue', 'Ignore', 'Stop') {
            $job = Start-VM nosuch, none -AsJob -ErrorAction $action -ErrorVariable mine
            Receive-Job $job -Wait -ErrorAction SilentlyContinue -ErrorVariable received
            "$($job.State) $($mine.Count) $($received.Count)"
        }
        $job = Start-VM web02 -AsJob; Receive-Job $job -Wait; $job.State
        """
    ) == [*["Failed"] * 5, *["Failed 0 2"] * 3, "Completed"]


def test_the_tables_have_hyper_vs_columns(run: Run) -> None:
    lines = run(
        """
        Checkpoint-VM web01 one; Checkpoint-VM web01 two
        Get-VM web0* | Out-String -Width 200
        Get-VMSnapshot web01 | Out-String -Width 200
        Get-VMHardDiskDrive db01 | Out-String -Width 200
        """
    )
    assert [line.split() for line in lines if line.startswith(("Name", "VMName"))] == [
        ["Name", "State", "CPUUsage(%)", "MemoryAssigned(M)", "Uptime", "Status", "Version"],
        ["VMName", "Name", "SnapshotType", "CreationTime", "ParentSnapshotName"],
        ["VMName", "ControllerType", "ControllerNumber", "ControllerLocation", "DiskNumber", "Path"],
    ]
    rows = [line.split() for line in lines]
    assert ["web02", "Off", "0", "0", "00:00:00", "Operating", "normally", "10.0"] in rows
    assert next(row[:4] for row in rows if row[0] == "web01") == ["web01", "Running", "0", "4096"]
    assert [(row[1], row[-1]) for row in rows if row[:1] == ["web01"] and row[2] == "Standard"][1] == ("two", "one")
    assert [row[:4] for row in rows if row[0] == "db01"] == [["db01", "SCSI", "0", "0"], ["db01", "SCSI", "0", "1"]]
