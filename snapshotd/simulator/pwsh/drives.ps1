# What the cmdlets about drives, virtual hard disks, processors and memory do, and the objects that they return.

# Returns whether a call names only what is done here; writes an error for each other thing that it would change.
function Test-Done($bound, [string]$cmdlet, $context, [string[]]$done) {
    $done += -split 'VM VMName VMSnapshot Path Passthru AsJob Confirm WhatIf ErrorAction ErrorVariable WarningAction Verbose Debug ComputerName CimSession'
    $others = @($bound.Keys | Where-Object { $done -notcontains $_ })
    foreach ($name in $others) {
        $context.WriteError((New-HyperVError (Get-ErrorId 'NotSupported' $cmdlet) "The simulated host does not do $cmdlet -$name."))
    }
    $others.Count -eq 0
}

# What hangs on a VM, as an object that a cmdlet was given names it: the VM, as the host has it now.
function Resolve-Part($bound, [string]$key, [string]$cmdlet, $context) {
    if (-not $bound.ContainsKey($key)) { return Resolve-Vm $bound $cmdlet $context }
    foreach ($object in @($bound[$key])) { Resolve-VmId $object.VMId $cmdlet $context }
}

function Find-Drive($vm, $kind, $number, $location, $context) {
    Find-Vm $vm.id $context | ForEach-Object { (ConvertTo-VM $_).HardDrives } |
        Where-Object { "$($_.ControllerType)" -eq "$kind" -and $_.ControllerNumber -eq $number -and $_.ControllerLocation -eq $location }
}

# The first place of a VM where no drive is: of the controllers that were named, or else IDE if it has that and is off, then SCSI.
function Find-Place($vm, $bound) {
    $kinds = if ($null -ne $bound['ControllerType']) { @([string]$bound['ControllerType']) }
    elseif ($vm.generation -eq 1 -and $vm.state -eq 'Off') { 'IDE', 'SCSI' } else { @('SCSI') }
    $taken = @($vm.drives | ForEach-Object { "$($_.type):$($_.number):$($_.location)" })
    foreach ($kind in $kinds) {
        $controllers, $locations = if ($kind -eq 'IDE') { 2, 2 } else { 4, 64 }
        $numbers = if ($null -ne $bound['ControllerNumber']) { @($bound['ControllerNumber']) } else { 0..($controllers - 1) }
        $places = if ($null -ne $bound['ControllerLocation']) { @($bound['ControllerLocation']) } else { 0..($locations - 1) }
        foreach ($number in $numbers) {
            foreach ($location in $places) {
                $chosen = @{ kind = $kind; number = $number; location = $location; place = "${kind}:${number}:${location}" }
                if ($taken -notcontains $chosen.place) { return $chosen }
            }
        }
    }
    $chosen  # taken: the host says so
}

# A path as the cmdlets take it: from the caller's directory on.
function Get-WholePath([string]$path, $context) { $context.GetUnresolvedProviderPathFromPSPath($path) }

# What a processor or a memory has of the VM, or the checkpoint, that it is of.
function Get-Owner($of) {
    $checkpoint = $null -ne $of.vm_id
    $vmId = if ($checkpoint) { $of.vm_id } else { $of.id }
    @{
        VMId = [guid]$vmId; VMName = if ($checkpoint) { $of.vm_name } else { $of.name }; ComputerName = (Get-StubHost).name
        VMSnapshotId = if ($checkpoint) { [guid]$of.id } else { [guid]::Empty }; VMSnapshotName = if ($checkpoint) { $of.name } else { '' }
    }
}

function ConvertTo-VMProcessor($of) {
    $values = Get-Owner $of
    Set-Value $values @{
        Name = 'Processor'; Id = "Microsoft:$($values.VMId)\processor"; Count = $of.cpu_count; Maximum = 100; Reserve = 0; RelativeWeight = 100
    }
    New-HyperVObject 'VMProcessor' $values
}

function ConvertTo-VMMemory($of) {
    $values = Get-Owner $of
    Set-Value $values @{
        Name = 'Memory'; Id = "Microsoft:$($values.VMId)\memory"; Startup = $of.memory_bytes; Minimum = $of.minimum_bytes
        Maximum = $of.maximum_bytes; DynamicMemoryEnabled = [bool]$of.dynamic_memory; Buffer = 20; Priority = 50
    }
    New-HyperVObject 'VMMemory' $values
}

function Find-Owner($bound, [string]$cmdlet, $context) {
    if ($bound.ContainsKey('VMSnapshot')) { Resolve-Checkpoint $bound $cmdlet $context } else { Resolve-Vm $bound $cmdlet $context }
}

function Find-Vhd([string]$path, $context) {
    $answer = Request-Host 'vhd' @{ path = $path } $context
    if ($null -ne $answer -and $null -ne $answer.ok) { ConvertTo-VHD $answer.ok }
}

# Carries out a change of a part of each VM that was named.
function Set-Part($bound, [string]$key, [string]$cmdlet, $context, [string]$call, $changes, $convert) {
    foreach ($vm in @(Resolve-Part $bound $key $cmdlet $context)) {
        if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
        if ($null -eq (Request-Host $call (@{ vm = $vm.id } + $changes) $context)) { continue }
        if ($bound['Passthru']) { Find-Vm $vm.id $context | ForEach-Object { & $convert $_ } }
    }
}

$script:DriveActs = @{
    'Add-VMHardDiskDrive' = { param($bound, $cmdlet, $context)
        if (-not (Test-Done $bound $cmdlet $context 'ControllerType', 'ControllerNumber', 'ControllerLocation', 'AllowUnverifiedPaths')) { return }
        if (-not $bound.ContainsKey('Path')) {
            $context.WriteError((New-HyperVError (Get-ErrorId 'NotSupported' $cmdlet) 'The simulated host does no drive without a disk: name a Path.'))
            return
        }
        foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
            if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
            $at = Find-Place $vm $bound
            $answer = Request-Host 'add_drive' @{ vm = $vm.id; location = $at.place; path = Get-WholePath $bound['Path'] $context } $context
            if ($null -ne $answer -and $bound['Passthru']) { Find-Drive $vm $at.kind $at.number $at.location $context }
        }
    }
    'Remove-VMHardDiskDrive' = { param($bound, $cmdlet, $context)
        $drives = if ($bound.ContainsKey('VMHardDiskDrive')) { @($bound['VMHardDiskDrive']) }
        else {
            foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
                $drive = Find-Drive $vm $bound['ControllerType'] $bound['ControllerNumber'] $bound['ControllerLocation'] $context
                if ($null -eq $drive) {
                    $text = "Hyper-V was unable to find a hard disk drive of `"$($vm.name)`" at that place."
                    $context.WriteError((New-HyperVError (Get-ErrorId 'ObjectNotFound' $cmdlet) $text))
                }
                $drive
            }
        }
        foreach ($drive in @($drives | Where-Object { $null -ne $_ })) {
            if (-not $context.ShouldProcess($drive.VMName, $cmdlet)) { continue }
            $place = '{0}:{1}:{2}' -f $drive.ControllerType, $drive.ControllerNumber, $drive.ControllerLocation
            $answer = Request-Host 'remove_drive' @{ vm = $drive.VMId.ToString(); location = $place } $context
            if ($null -ne $answer -and $bound['Passthru']) { $drive }
        }
    }
    'Set-VMHardDiskDrive' = { param($bound, $cmdlet, $context)
        $done = -split 'VMHardDiskDrive DiskNumber ControllerType ControllerNumber ControllerLocation ToControllerType ToControllerNumber ToControllerLocation AllowUnverifiedPaths'
        if (-not (Test-Done $bound $cmdlet $context $done)) { return }
        $drives = if ($bound.ContainsKey('VMHardDiskDrive')) { @($bound['VMHardDiskDrive']) }
        else {
            foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
                Find-Drive $vm $bound['ControllerType'] $bound['ControllerNumber'] $bound['ControllerLocation'] $context
            }
        }
        if (@($drives).Count -eq 0) { $context.WriteError((New-HyperVError (Get-ErrorId 'ObjectNotFound' $cmdlet) 'Hyper-V was unable to find a hard disk drive at that place.')) }
        foreach ($drive in @($drives)) {
            if (-not $context.ShouldProcess($drive.VMName, $cmdlet)) { continue }
            $now = '{0}:{1}:{2}' -f $drive.ControllerType, $drive.ControllerNumber, $drive.ControllerLocation
            $kind = if ($null -ne $bound['ToControllerType']) { $bound['ToControllerType'] } else { $drive.ControllerType }
            $number = if ($null -ne $bound['ToControllerNumber']) { $bound['ToControllerNumber'] } else { $drive.ControllerNumber }
            $location = if ($null -ne $bound['ToControllerLocation']) { $bound['ToControllerLocation'] } else { $drive.ControllerLocation }
            $path = if ($bound.ContainsKey('Path')) { Get-WholePath $bound['Path'] $context } else { $drive.Path }
            $vm = @{ id = $drive.VMId.ToString() }
            # A host changes the drive as it is; here it is taken off and put on again.
            if ($null -eq (Request-Host 'remove_drive' @{ vm = $vm.id; location = $now } $context)) { continue }
            if ($null -eq (Request-Host 'add_drive' @{ vm = $vm.id; location = "${kind}:${number}:${location}"; path = $path } $context)) {
                [void](Request-Host 'add_drive' @{ vm = $vm.id; location = $now; path = $drive.Path } $context)
                continue
            }
            if ($bound['Passthru']) { Find-Drive $vm $kind $number $location $context }
        }
    }
    'New-VHD' = { param($bound, $cmdlet, $context)
        if (-not (Test-Done $bound $cmdlet $context 'SizeBytes', 'ParentPath', 'Differencing', 'Dynamic', 'Fixed', 'BlockSizeBytes', 'LogicalSectorSizeBytes', 'PhysicalSectorSizeBytes')) { return }
        foreach ($given in @($bound['Path'])) {
            $path = Get-WholePath $given $context
            if (-not $context.ShouldProcess($path, $cmdlet)) { continue }
            $parent = if ($bound.ContainsKey('ParentPath')) { Get-WholePath $bound['ParentPath'] $context } else { '' }
            $size = if ($bound.ContainsKey('SizeBytes')) { $bound['SizeBytes'] } else { 0 }
            $answer = Request-Host 'new_vhd' @{ path = $path; size_bytes = $size; parent = $parent; fixed = [bool]$bound['Fixed'] } $context
            if ($null -ne $answer) { Find-Vhd $path $context }
        }
    }
    'Resize-VHD' = { param($bound, $cmdlet, $context)
        foreach ($given in @($bound['Path'])) {
            $path = Get-WholePath $given $context
            if (-not $context.ShouldProcess($path, $cmdlet)) { continue }
            $size = $bound['SizeBytes']
            if ($bound['ToMinimumSize']) {
                $found = Find-Vhd $path $context
                $size = if ($null -ne $found) { $found.MinimumSize } else { 0 }
            }
            $answer = Request-Host 'resize_vhd' @{ path = $path; size_bytes = $size } $context
            if ($null -ne $answer -and $bound['Passthru']) { Find-Vhd $path $context }
        }
    }
    'Test-VHD' = { param($bound, $cmdlet, $context)
        foreach ($given in @($bound['Path'])) {
            $path = Get-WholePath $given $context
            if ($null -ne (Find-Vhd $path $context)) { $true; continue }
            $context.WriteError((New-HyperVError (Get-ErrorId 'ObjectNotFound' $cmdlet) "The system failed to get information about the virtual hard disk '$path'." $path))
            $false
        }
    }
    'Get-VMProcessor' = { param($bound, $cmdlet, $context) Find-Owner $bound $cmdlet $context | ForEach-Object { ConvertTo-VMProcessor $_ } }
    'Get-VMMemory' = { param($bound, $cmdlet, $context) Find-Owner $bound $cmdlet $context | ForEach-Object { ConvertTo-VMMemory $_ } }
    'Set-VMProcessor' = { param($bound, $cmdlet, $context)
        if (-not (Test-Done $bound $cmdlet $context 'VMProcessor', 'Count')) { return }
        if ($bound.ContainsKey('Count')) { Set-Part $bound 'VMProcessor' $cmdlet $context 'set_processor' @{ count = $bound['Count'] } { ConvertTo-VMProcessor $args[0] } }
    }
    'Set-VMMemory' = { param($bound, $cmdlet, $context)
        if (-not (Test-Done $bound $cmdlet $context 'VMMemory', 'StartupBytes', 'DynamicMemoryEnabled', 'MinimumBytes', 'MaximumBytes')) { return }
        $names = @{ StartupBytes = 'startup_bytes'; DynamicMemoryEnabled = 'dynamic'; MinimumBytes = 'minimum_bytes'; MaximumBytes = 'maximum_bytes' }
        $changes = @{}
        foreach ($name in $names.Keys) { if ($bound.ContainsKey($name)) { $changes[$names[$name]] = $bound[$name] } }
        Set-Part $bound 'VMMemory' $cmdlet $context 'set_memory' $changes { ConvertTo-VMMemory $args[0] }
    }
}
foreach ($name in $script:DriveActs.Keys) { $script:Acts[$name] = $script:DriveActs[$name] }
