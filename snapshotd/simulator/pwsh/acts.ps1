# What each cmdlet does. An error of one of the things that were named is written, and the others are done, as the real
# cmdlets do: what a caller's -ErrorAction says then decides. Nothing is thrown inside: PowerShell would count each frame
# that it passes as one more error in the caller's -ErrorVariable.

# Gives the function that is its caller the preferences of the script, which a module's functions do not inherit.
function Use-Preference($bound, $context) {
    if (-not $bound.ContainsKey('ErrorAction')) { $ErrorActionPreference = $context.GetVariableValue('ErrorActionPreference') }
    if (-not $bound.ContainsKey('WarningAction')) { $WarningPreference = $context.GetVariableValue('WarningPreference') }
    if (-not $bound.ContainsKey('Confirm')) { $ConfirmPreference = $context.GetVariableValue('ConfirmPreference') }
    if (-not $bound.ContainsKey('WhatIf')) { $WhatIfPreference = $context.GetVariableValue('WhatIfPreference') }
}

function Test-Pattern([string]$name) { [Management.Automation.WildcardPattern]::ContainsWildcardCharacters($name) }

function Write-VmMissing([string]$what, $value, [string]$cmdlet, $context) {
    $id = Get-ErrorId $(if ($cmdlet -eq 'Get-VM') { 'InvalidParameter' } else { 'ObjectNotFound' }) $cmdlet
    # Observed: only Get-VM's error has a target.
    $target = if ($cmdlet -eq 'Get-VM') { $value } else { $null }
    $context.WriteError((New-HyperVError $id "Hyper-V was unable to find a virtual machine with $what `"$value`"." $target))
}

function Write-CheckpointMissing($name, [string]$cmdlet, $context) {
    $context.WriteError((New-HyperVError (Get-ErrorId 'ObjectNotFound' $cmdlet) "Hyper-V was unable to find a checkpoint with name `"$name`"."))
}

# The VM as the host has it; nothing if it is gone, or cannot be read, of which the error is written.
function Find-Vm($id, $context) {
    $answer = Request-Host 'vms' @{ id = ([guid]$id).ToString() } $context
    if ($null -ne $answer) { $answer.ok }
}

function Find-AllVm($context) {
    $answer = Request-Host 'vms' @{} $context
    if ($null -ne $answer) { $answer.ok }
}

function Resolve-VmId($id, [string]$cmdlet, $context) {
    $answer = Request-Host 'vms' @{ id = ([guid]$id).ToString() } $context
    if ($null -eq $answer) { return }
    if (@($answer.ok).Count -eq 0) { Write-VmMissing 'id' $id $cmdlet $context }
    $answer.ok
}

# The VMs as the host has them, by whatever a cmdlet's caller has named them with.
function Resolve-Vm($bound, [string]$cmdlet, $context) {
    if ($bound.ContainsKey('VM')) {
        foreach ($vm in @($bound['VM'])) { Resolve-VmId $vm.Id $cmdlet $context }
        return
    }
    if ($bound.ContainsKey('Id') -and $cmdlet -eq 'Get-VM') { return Resolve-VmId $bound['Id'] $cmdlet $context }
    $answer = Request-Host 'vms' @{} $context
    if ($null -eq $answer) { return }
    $all = @($answer.ok)
    $names = if ($bound.ContainsKey('VMName')) { $bound['VMName'] } elseif ($bound.ContainsKey('Name')) { $bound['Name'] } else { @('*') }
    foreach ($name in $names) {
        $found = @($all | Where-Object { $_.name -like $name })
        if ($found.Count -eq 0 -and -not (Test-Pattern $name)) { Write-VmMissing 'name' $name $cmdlet $context }
        $found
    }
}

# The checkpoints that a caller has named: by object, by id, or by the names of VM and checkpoint.
function Resolve-Checkpoint($bound, [string]$cmdlet, $context) {
    if ($bound.ContainsKey('VMSnapshot')) {
        foreach ($object in @($bound['VMSnapshot'])) {
            foreach ($vm in @(Resolve-VmId $object.VMId $cmdlet $context)) {
                $found = @($vm.checkpoints | Where-Object { $_.id -eq $object.Id.ToString() })
                if ($found.Count -eq 0) { Write-CheckpointMissing $object.Name $cmdlet $context }
                $found
            }
        }
        return
    }
    if ($bound.ContainsKey('Id')) {
        $id = ([guid]$bound['Id']).ToString()
        $found = @(Find-AllVm $context | ForEach-Object { $_.checkpoints } | Where-Object { $_.id -eq $id })
        if ($found.Count -eq 0) { Write-CheckpointMissing $id $cmdlet $context }
        return $found
    }
    $owners = @{}
    foreach ($key in 'VM', 'VMName') { if ($bound.ContainsKey($key)) { $owners[$key] = $bound[$key] } }
    $vms = @(Resolve-Vm $owners $cmdlet $context)
    if ($vms.Count -eq 0) { return }
    $all = @($vms | ForEach-Object { $_.checkpoints })
    if (-not $bound.ContainsKey('Name')) { return $all }
    foreach ($name in @($bound['Name'])) {
        $found = @($all | Where-Object { $_.name -like $name })
        if ($found.Count -eq 0 -and -not (Test-Pattern $name)) { Write-CheckpointMissing $name $cmdlet $context }
        $found
    }
}

# A change of each VM that was named; a warning where it is there already.
function Set-Power($bound, [string]$cmdlet, $context, [string]$call, $more) {
    foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
        if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
        $answer = Request-Host $call (@{ vm = $vm.id } + $more) $context
        if ($null -eq $answer) { continue }
        if (-not $answer.ok) { Write-Warning 'The virtual machine is already in the specified state.' }
        if ($bound['Passthru']) { Find-Vm $vm.id $context | ForEach-Object { ConvertTo-VM $_ } }
    }
}

# Set-VM's parameters that are kept as a property of the VM, by name.
$script:Settings = @{}
foreach ($name in -split ('AutomaticCheckpointsEnabled AutomaticCriticalErrorAction AutomaticCriticalErrorActionTimeout AutomaticStartAction ' +
        'AutomaticStartDelay AutomaticStopAction BatteryPassthroughEnabled EnhancedSessionTransportType GuestControlledCacheTypes ' +
        'HighMemoryMappedIoSpace LockOnDisconnect LowMemoryMappedIoSpace Notes SmartPagingFilePath SnapshotFileLocation')) {
    $script:Settings[$name] = $name
}
$script:Configuration = @{
    NewVMName = 'name'; ProcessorCount = 'cpu_count'; MemoryStartupBytes = 'memory_bytes'
    MemoryMinimumBytes = 'minimum_bytes'; MemoryMaximumBytes = 'maximum_bytes'
}

function Get-VmChange($bound) {
    $changes, $settings = @{}, @{}
    foreach ($name in @($bound.Keys)) {
        $value = if ($bound[$name] -is [Enum]) { [string]$bound[$name] } else { $bound[$name] }
        if ($script:Settings.ContainsKey($name)) { $settings[$script:Settings[$name]] = $value }
        elseif ($script:Configuration.ContainsKey($name)) { $changes[$script:Configuration[$name]] = $value }
    }
    if ($bound['DynamicMemory']) { $changes['dynamic_memory'] = $true }
    if ($bound['StaticMemory']) { $changes['dynamic_memory'] = $false }
    if ($settings.Count -gt 0) { $changes['settings'] = $settings }
    $changes
}

function Set-StubVm($vm, $bound, $context) {
    if ($bound.ContainsKey('CheckpointType')) {
        $answer = Request-Host 'set_checkpoint_type' @{ vm = $vm.id; type = [string]$bound['CheckpointType'] } $context
        if ($null -eq $answer) { return }
    }
    $changes = Get-VmChange $bound
    if ($changes.Count -gt 0) {
        $changes['vm'] = $vm.id
        if ($null -eq (Request-Host 'set_vm' $changes $context)) { return }
    }
    if ($bound['Passthru']) { Find-Vm $vm.id $context | ForEach-Object { ConvertTo-VM $_ } }
}

# Removes all that descends from a checkpoint, the last first; false if one could not be removed.
function Remove-Descendant($checkpoint, $context) {
    foreach ($child in @(Find-Vm $checkpoint.vm_id $context | ForEach-Object { $_.checkpoints } | Where-Object { $_.parent_id -eq $checkpoint.id })) {
        if (-not (Remove-Descendant $child $context)) { return $false }
        if ($null -eq (Request-Host 'remove' @{ checkpoint = $child.id } $context)) { return $false }
    }
    $true
}

function Find-Checkpoint($of, [string]$id, $context) {
    Find-Vm $of $context | ForEach-Object { $_.checkpoints } | Where-Object { $_.id -eq $id } | ForEach-Object { ConvertTo-VMSnapshot $_ }
}

$script:Acts = @{
    'Get-VM' = { param($bound, $cmdlet, $context) Resolve-Vm $bound $cmdlet $context | ForEach-Object { ConvertTo-VM $_ } }
    'Get-VMHost' = { ConvertTo-VMHost (Get-StubHost) }
    'Get-VMSnapshot' = { param($bound, $cmdlet, $context)
        $found = @(Resolve-Checkpoint $bound $cmdlet $context)
        if ($bound.ContainsKey('SnapshotType')) { $found = @($found | Where-Object { $_.snapshot_type -eq [string]$bound['SnapshotType'] }) }
        if ($bound.ContainsKey('ParentOf')) { $found = @($found | Where-Object { $_.id -eq [string]$bound['ParentOf'].ParentSnapshotId }) }
        if ($bound.ContainsKey('ChildOf')) { $found = @($found | Where-Object { $_.parent_id -eq [string]$bound['ChildOf'].Id }) }
        $found | ForEach-Object { ConvertTo-VMSnapshot $_ }
    }
    'Get-VMHardDiskDrive' = { param($bound, $cmdlet, $context)
        $drives = if ($bound.ContainsKey('VMSnapshot')) { Resolve-Checkpoint $bound $cmdlet $context | ForEach-Object { (ConvertTo-VMSnapshot $_).HardDrives } }
        else { Resolve-Vm $bound $cmdlet $context | ForEach-Object { (ConvertTo-VM $_).HardDrives } }
        foreach ($key in 'ControllerType', 'ControllerNumber', 'ControllerLocation') {
            if ($bound.ContainsKey($key)) { $drives = $drives | Where-Object { $_.$key -eq $bound[$key] } }
        }
        $drives
    }
    'Get-VHD' = { param($bound, $cmdlet, $context)
        $paths = @($bound['Path'] | Where-Object { $_ } | ForEach-Object { Get-WholePath $_ $context })
        if ($bound.ContainsKey('VMId')) {
            $paths = @($bound['VMId'] | ForEach-Object { Resolve-VmId $_ $cmdlet $context } | ForEach-Object { $_.drives } | ForEach-Object { $_.path } | Where-Object { $_ })
        }
        foreach ($path in $paths) {
            $answer = Request-Host 'vhd' @{ path = $path } $context
            if ($null -eq $answer) { continue }
            if ($null -ne $answer.ok) { ConvertTo-VHD $answer.ok; continue }
            $context.WriteError((New-HyperVError (Get-ErrorId 'ObjectNotFound' $cmdlet) "The system failed to get information about the virtual hard disk '$path'." $path))
        }
    }
    'Set-VM' = { param($bound, $cmdlet, $context)
        foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
            if ($context.ShouldProcess($vm.name, $cmdlet)) { Set-StubVm $vm $bound $context }
        }
    }
    'Checkpoint-VM' = { param($bound, $cmdlet, $context)
        foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
            $name = if ($bound.ContainsKey('SnapshotName')) { $bound['SnapshotName'] } else { '{0} - ({1:MM/dd/yyyy - hh:mm:ss tt})' -f $vm.name, [DateTime]::Now }
            if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
            $answer = Request-Host 'checkpoint' @{ vm = $vm.id; name = $name } $context
            if ($null -ne $answer -and $bound['Passthru']) { Find-Checkpoint $vm.id $answer.ok $context }
        }
    }
    'Rename-VMSnapshot' = { param($bound, $cmdlet, $context)
        foreach ($checkpoint in @(Resolve-Checkpoint $bound $cmdlet $context)) {
            if (-not $context.ShouldProcess($checkpoint.name, $cmdlet)) { continue }
            $answer = Request-Host 'rename' @{ checkpoint = $checkpoint.id; name = $bound['NewName'] } $context
            if ($null -ne $answer -and $bound['Passthru']) { Find-Checkpoint $checkpoint.vm_id $checkpoint.id $context }
        }
    }
    'Restore-VMSnapshot' = { param($bound, $cmdlet, $context)
        $found = @(Resolve-Checkpoint $bound $cmdlet $context)
        if ($found.Count -gt 1) { $context.WriteError((New-HyperVError (Get-ErrorId 'InvalidParameter' $cmdlet) 'More than one checkpoint matches.')) }
        if ($found.Count -ne 1) {
            if ($found.Count -eq 0 -and $bound['Name'] -and (Test-Pattern $bound['Name'])) { Write-CheckpointMissing $bound['Name'] $cmdlet $context }
            return
        }
        if (-not $context.ShouldProcess($found[0].name, $cmdlet)) { return }
        $answer = Request-Host 'restore' @{ checkpoint = $found[0].id } $context
        if ($null -ne $answer -and $bound['Passthru']) { Find-Checkpoint $found[0].vm_id $found[0].id $context }
    }
    'Remove-VMSnapshot' = { param($bound, $cmdlet, $context)
        foreach ($checkpoint in @(Resolve-Checkpoint $bound $cmdlet $context)) {
            if (-not $context.ShouldProcess($checkpoint.name, $cmdlet)) { continue }
            if ($bound['IncludeAllChildSnapshots'] -and -not (Remove-Descendant $checkpoint $context)) { continue }
            $answer = Request-Host 'remove' @{ checkpoint = $checkpoint.id } $context
            if ($null -ne $answer -and $bound['Passthru']) { ConvertTo-VMSnapshot $checkpoint }
        }
    }
    'Start-VM' = { param($bound, $cmdlet, $context) Set-Power $bound $cmdlet $context 'start' @{} }
    'Resume-VM' = { param($bound, $cmdlet, $context) Set-Power $bound $cmdlet $context 'resume' @{} }
    'Save-VM' = { param($bound, $cmdlet, $context) Set-Power $bound $cmdlet $context 'save' @{} }
    'Suspend-VM' = { param($bound, $cmdlet, $context) Set-Power $bound $cmdlet $context 'suspend' @{} }
    'Restart-VM' = { param($bound, $cmdlet, $context)
        # It asks unless it is forced (documented); that -Confirm:$false will do too is not verified. Its guests are up
        # at once, so there is nothing to -Wait for.
        $forced = $bound['Force'] -or ($bound.ContainsKey('Confirm') -and -not $bound['Confirm']) -or $bound['WhatIf']
        $which = if ($bound.ContainsKey('VM')) { @($bound['VM'] | ForEach-Object { $_.Name }) } else { @($bound['Name']) }
        if (-not $forced -and -not $context.ShouldContinue("Are you sure you want to restart virtual machine `"$($which -join '", "')`"?", 'Confirm')) { return }
        Set-Power $bound $cmdlet $context 'restart' @{}
    }
    'Stop-VM' = { param($bound, $cmdlet, $context)
        $off, $save = [bool]$bound['TurnOff'], [bool]$bound['Save']
        if ($off -and $save) {
            $context.WriteError((New-HyperVError (Get-ErrorId 'InvalidParameter' $cmdlet) '-Save and -TurnOff exclude each other.'))
            return
        }
        if ($save) { return Set-Power $bound $cmdlet $context 'save' @{} }
        Set-Power $bound $cmdlet $context 'stop' @{ turn_off = $off; force = [bool]$bound['Force'] }
    }
}

# Parameters that say what a cmdlet is about, and that nothing here knows: without them it would be about something else.
$script:Unknown = 'ClusterObject', 'VMDriveController', 'DiskNumber', 'Credential'

# Returns what of a call nothing here does; nothing if all of it is done.
function Find-Undone([string]$cmdlet, $bound) {
    if (-not $script:Acts.ContainsKey($cmdlet)) { return $cmdlet }
    foreach ($name in $script:Unknown) {
        # A drive's own number comes with it through the pipeline.
        if ($name -eq 'DiskNumber' -and $bound.ContainsKey('VMHardDiskDrive')) { continue }
        if ($bound.ContainsKey($name)) { return "$cmdlet -$name" }
    }
}

# The machines that a call names: by name, or by a session with it.
function Get-Machine($bound) {
    @($bound['ComputerName']) + @($bound['CimSession'] | ForEach-Object { if ($_.ComputerName) { $_.ComputerName } else { $_ } }) |
        Where-Object { $null -ne $_ } | ForEach-Object { [string]$_ }
}

# Returns whether a call is for this machine. The error of each other one is written: there is none (id inferred).
function Test-Here($bound, [string]$cmdlet, $context) {
    $machines = @(Get-Machine $bound)
    if ($machines.Count -eq 0) { return $true }
    $own = (Get-StubHost).name, $env:COMPUTERNAME, 'localhost', '.'
    foreach ($name in $machines) {
        if ($own -contains $name) { continue }
        $text = "The simulated host cannot reach the computer `"$name`": it knows only itself, $($own[0])."
        $context.WriteError((New-HyperVError (Get-ErrorId 'InvalidParameter' $cmdlet) $text))
    }
    @($machines | Where-Object { $own -contains $_ }).Count -gt 0
}

function Invoke-Stub([string]$cmdlet, $bound, $context) {
    $undone = Find-Undone $cmdlet $bound
    if ($undone) {
        $context.WriteError((New-HyperVError (Get-ErrorId 'NotSupported' $cmdlet) "The simulated host does not do $undone."))
        return
    }
    $act = $script:Acts[$cmdlet]
    if (-not $bound['AsJob']) {
        if (Test-Here $bound $cmdlet $context) { & $act $bound $cmdlet $context }
        return
    }
    # A job cannot ask, so it is asked for once, here.
    if ($context.ShouldProcess($cmdlet)) { & (Join-Path $PSScriptRoot 'jobs.ps1') $cmdlet $bound $context }
}
