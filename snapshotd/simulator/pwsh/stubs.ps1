# What the stub cmdlets do: they ask the simulated host over a unix socket, and give objects with Hyper-V's own properties.
# An error is thrown as a record of its own: only that keeps the FullyQualifiedErrorId that the real cmdlet gives.

$script:Link = $null

function Invoke-Host([string]$call, $arguments) {
    if ($null -eq $script:Link) {
        $socket = New-Object Net.Sockets.Socket ([Net.Sockets.AddressFamily]::Unix), ([Net.Sockets.SocketType]::Stream), ([Net.Sockets.ProtocolType]::Unspecified)
        $socket.Connect((New-Object Net.Sockets.UnixDomainSocketEndPoint $env:SNAPSHOTD_BRIDGE))
        $stream = New-Object Net.Sockets.NetworkStream $socket, $true
        $plain = New-Object Text.UTF8Encoding $false
        $script:Link = @{ in = New-Object IO.StreamReader $stream, $plain; out = New-Object IO.StreamWriter $stream, $plain }
    }
    $request = ConvertTo-Json @{ token = $env:SNAPSHOTD_BRIDGE_TOKEN; call = $call; arguments = $arguments } -Compress -Depth 5
    $script:Link.out.Write($request + "`n")
    $script:Link.out.Flush()
    $line = $script:Link.in.ReadLine()
    if ($null -eq $line) { throw 'the simulated host has closed the bridge' }
    $answer = ConvertFrom-Json $line
    if ($null -ne $answer.error) { throw (New-HyperVError $answer.error.id $answer.error.message) }
    $answer.ok
}

function New-HyperVError([string]$id, [string]$message) {
    $exception = New-Object InvalidOperationException $message
    New-Object Management.Automation.ErrorRecord $exception, $id, 'NotSpecified', $null
}

function Get-ErrorId([string]$id, [string]$cmdlet) { '{0},Microsoft.HyperV.PowerShell.Commands.{1}' -f $id, $cmdlet.Replace('-', '') }

# An object with every property of its class, and the values given.
function New-HyperVObject([string]$class, $values, [string[]]$bases) {
    $all = [ordered]@{}
    foreach ($name in $script:Properties[$class]) { $all[$name] = $null }
    foreach ($name in $values.Keys) { $all[$name] = $values[$name] }
    $object = [pscustomobject]$all
    foreach ($base in $bases) { $object.PSObject.TypeNames.Insert(0, "Microsoft.HyperV.PowerShell.$base") }
    $object.PSObject.TypeNames.Insert(0, "Microsoft.HyperV.PowerShell.$class")
    $object
}

function ConvertTo-Guid($text) { if ($text) { [guid]$text } else { $null } }

function ConvertTo-Drive($drive, $owner) {
    New-HyperVObject 'HardDiskDrive' @{
        ControllerType = [ControllerType]$drive.type; ControllerNumber = [int]$drive.number; ControllerLocation = [int]$drive.location
        Path = [string]$drive.path; DiskNumber = if ($drive.pass_through) { 1 } else { $null }
        SupportPersistentReservations = [bool]$drive.shared; Name = 'Hard Drive'; IsDeleted = $false
        VMId = [guid]$owner.vm_id; VMName = $owner.vm_name; Id = "$($owner.vm_id)\$($drive.type):$($drive.number):$($drive.location)"
    } @()
}

function ConvertTo-VMSnapshot($checkpoint) {
    $owner = @{ vm_id = $checkpoint.vm_id; vm_name = $checkpoint.vm_name }
    $made = if ($checkpoint.created_at -is [DateTime]) { $checkpoint.created_at } else { [DateTimeOffset]::Parse($checkpoint.created_at).UtcDateTime }
    New-HyperVObject 'VMSnapshot' @{
        Id = [guid]$checkpoint.id; VMId = [guid]$checkpoint.vm_id; VMName = $checkpoint.vm_name; Name = $checkpoint.name
        ParentSnapshotId = ConvertTo-Guid $checkpoint.parent_id; CreationTime = $made.ToLocalTime()
        SnapshotType = [SnapshotType]$checkpoint.snapshot_type; State = if ($checkpoint.has_memory) { [VMState]::Saved } else { [VMState]::Off }
        IsAutomaticCheckpoint = [bool]$checkpoint.automatic; IsDeleted = $false; SizeOfSystemFiles = [long]$checkpoint.system_files_bytes
        HardDrives = @($checkpoint.drives | ForEach-Object { ConvertTo-Drive $_ $owner })
    } @('VirtualMachineBase')
}

function ConvertTo-VM($vm) {
    $owner = @{ vm_id = $vm.id; vm_name = $vm.name }
    # The enum has 23769 for what the host calls 32769, so that one prints as a number (source read).
    $status = @($vm.secondary_status | ForEach-Object { if ($_ -eq 'ApplyingSnapshot') { 32769 } else { [VMOperationalStatus]$_ } })
    $first = if ($status.Count -gt 0) { $status[0] } else { $null }
    $parent = @($vm.checkpoints | Where-Object { $_.id -eq $vm.parent_snapshot_id })
    New-HyperVObject 'VirtualMachine' @{
        Id = [guid]$vm.id; VMId = [guid]$vm.id; Name = $vm.name; VMName = $vm.name; State = [VMState]$vm.state
        Status = if ($status.Count -gt 0) { 'Working' } else { 'Operating normally' }
        CheckpointType = [CheckpointType]$vm.checkpoint_type; ParentSnapshotId = ConvertTo-Guid $vm.parent_snapshot_id
        ParentSnapshotName = if ($parent.Count -gt 0) { $parent[0].name } else { $null }
        ParentCheckpointId = ConvertTo-Guid $vm.parent_snapshot_id
        PrimaryOperationalStatus = if ($status.Count -gt 0) { [VMOperationalStatus]::InService } else { [VMOperationalStatus]::Ok }
        SecondaryOperationalStatus = $first
        OperationalStatus = @(if ($status.Count -gt 0) { [VMOperationalStatus]::InService; $status } else { [VMOperationalStatus]::Ok })
        ProcessorCount = [long]$vm.cpu_count; MemoryStartup = [long]$vm.memory_bytes; IsDeleted = $false; Generation = 2
        ReplicationMode = if ($vm.replica) { [VMReplicationMode]::Replica } else { [VMReplicationMode]::None }
        FibreChannelHostBusAdapters = @(if ($vm.fibre_channel) { [pscustomobject]@{ Name = 'Fibre Channel Adapter' } })
        HardDrives = @($vm.drives | ForEach-Object { ConvertTo-Drive $_ $owner })
        AutomaticCheckpointsEnabled = [bool]$vm.automatic_checkpoints; ComputerName = (Get-StubHost).name
    } @('VirtualMachineBase')
}

function Get-StubHost {
    if ($null -eq $script:HostFacts) { $script:HostFacts = Invoke-Host 'host' @{} }
    $script:HostFacts
}
$script:HostFacts = $null

# The VMs as the host has them, by whatever a cmdlet's caller has named them with.
function Resolve-Vm($bound, [string]$cmdlet) {
    if ($bound.ContainsKey('VM')) {
        return @($bound['VM'] | ForEach-Object { Get-VmById $_.Id $cmdlet })
    }
    if ($bound.ContainsKey('Id') -and $cmdlet -eq 'Get-VM') { return @(Get-VmById $bound['Id'] $cmdlet) }
    $all = @(Invoke-Host 'vms' @{})
    $names = if ($bound.ContainsKey('VMName')) { $bound['VMName'] } elseif ($bound.ContainsKey('Name')) { $bound['Name'] } else { @('*') }
    foreach ($name in $names) {
        $found = @($all | Where-Object { $_.name -like $name })
        if ($found.Count -eq 0 -and -not [Management.Automation.WildcardPattern]::ContainsWildcardCharacters($name)) {
            $id = if ($cmdlet -eq 'Get-VM') { 'InvalidParameter' } else { 'ObjectNotFound' }
            throw (New-HyperVError (Get-ErrorId $id $cmdlet) "Hyper-V was unable to find a virtual machine with name `"$name`".")
        }
        $found
    }
}

function Get-VmById($id, [string]$cmdlet) {
    $found = @(Invoke-Host 'vms' @{ id = ([guid]$id).ToString() })
    if ($found.Count -eq 0) {
        $short = if ($cmdlet -eq 'Get-VM') { 'InvalidParameter' } else { 'ObjectNotFound' }
        throw (New-HyperVError (Get-ErrorId $short $cmdlet) "Hyper-V was unable to find a virtual machine with id `"$id`".")
    }
    $found[0]
}

# The checkpoints that a caller has named: by object, by id, or by the names of VM and checkpoint.
function Resolve-Checkpoint($bound, [string]$cmdlet) {
    if ($bound.ContainsKey('VMSnapshot')) {
        foreach ($object in @($bound['VMSnapshot'])) {
            $vm = Get-VmById $object.VMId $cmdlet
            $found = @($vm.checkpoints | Where-Object { $_.id -eq $object.Id.ToString() })
            if ($found.Count -eq 0) { throw (New-NotFound $object.Name $cmdlet) }
            $found
        }
        return
    }
    if ($bound.ContainsKey('Id')) {
        $found = @(Invoke-Host 'vms' @{} | ForEach-Object { $_.checkpoints } | Where-Object { $_.id -eq ([guid]$bound['Id']).ToString() })
        if ($found.Count -eq 0) { throw (New-NotFound $bound['Id'] $cmdlet) }
        return $found
    }
    $owners = @{}
    foreach ($key in 'VM', 'VMName') { if ($bound.ContainsKey($key)) { $owners[$key] = $bound[$key] } }
    $vms = @(Resolve-Vm $owners $cmdlet)
    $all = @($vms | ForEach-Object { $_.checkpoints })
    if (-not $bound.ContainsKey('Name')) { return $all }
    foreach ($name in @($bound['Name'])) {
        $found = @($all | Where-Object { $_.name -like $name })
        if ($found.Count -eq 0) { throw (New-NotFound $name $cmdlet) }
        $found
    }
}

function New-NotFound($name, [string]$cmdlet) {
    New-HyperVError (Get-ErrorId 'ObjectNotFound' $cmdlet) "Hyper-V was unable to find a checkpoint with name `"$name`"."
}

# A change of each VM that was named; a warning where it is there already.
function Set-Power($bound, [string]$cmdlet, $context, [scriptblock]$change) {
    foreach ($vm in @(Resolve-Vm $bound $cmdlet)) {
        if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
        if (-not (& $change $vm)) { $context.WriteWarning('The virtual machine is already in the specified state.') }
        if ($bound['Passthru']) { ConvertTo-VM (Get-VmById $vm.id $cmdlet) }
    }
}

$script:Acts = @{
    'Get-VM' = { param($bound, $cmdlet) @(Resolve-Vm $bound $cmdlet) | ForEach-Object { ConvertTo-VM $_ } }
    'Get-VMHost' = { New-HyperVObject 'VMHost' @{ Name = (Get-StubHost).name; ComputerName = (Get-StubHost).name; IsDeleted = $false } @() }
    'Get-VMSnapshot' = { param($bound, $cmdlet)
        $found = @(Resolve-Checkpoint $bound $cmdlet)
        if ($bound.ContainsKey('SnapshotType')) { $found = @($found | Where-Object { [SnapshotType]$_.snapshot_type -eq $bound['SnapshotType'] }) }
        if ($bound.ContainsKey('ParentOf')) { $found = @($found | Where-Object { $_.id -eq [string]$bound['ParentOf'].ParentSnapshotId }) }
        if ($bound.ContainsKey('ChildOf')) { $found = @($found | Where-Object { $_.parent_id -eq [string]$bound['ChildOf'].Id }) }
        $found | ForEach-Object { ConvertTo-VMSnapshot $_ }
    }
    'Get-VMHardDiskDrive' = { param($bound, $cmdlet)
        if ($bound.ContainsKey('VMSnapshot')) { return @(Resolve-Checkpoint $bound $cmdlet) | ForEach-Object { (ConvertTo-VMSnapshot $_).HardDrives } }
        @(Resolve-Vm $bound $cmdlet) | ForEach-Object { (ConvertTo-VM $_).HardDrives }
    }
    'Get-VHD' = { param($bound, $cmdlet)
        foreach ($path in @($bound['Path'])) {
            $file = Invoke-Host 'vhd' @{ path = $path }
            if ($null -eq $file) {
                $id = 'ObjectNotFound,Microsoft.Vhd.PowerShell.Cmdlets.GetVHD'
                throw (New-HyperVError $id "The system failed to get information about the virtual hard disk '$path'.")
            }
            [pscustomobject]@{
                PSTypeName = 'Microsoft.Vhd.PowerShell.VirtualHardDisk'; Path = $file.path; VhdFormat = 'VHDX'
                VhdType = if ($file.parent_path) { [VhdType]::Differencing } else { [VhdType]::Dynamic }
                FileSize = [uint64]$file.file_bytes; Size = [uint64]$file.size_bytes; ParentPath = [string]$file.parent_path; Attached = $false
            }
        }
    }
    'Set-VM' = { param($bound, $cmdlet, $context)
        foreach ($vm in @(Resolve-Vm $bound $cmdlet)) {
            if (-not $bound.ContainsKey('CheckpointType')) { throw (New-HyperVError (Get-ErrorId 'NotSupported' $cmdlet) 'The simulated host changes nothing but CheckpointType.') }
            if ($context.ShouldProcess($vm.name, $cmdlet)) { [void](Invoke-Host 'set_checkpoint_type' @{ vm = $vm.id; type = [string]$bound['CheckpointType'] }) }
        }
    }
    'Checkpoint-VM' = { param($bound, $cmdlet, $context)
        foreach ($vm in @(Resolve-Vm $bound $cmdlet)) {
            $name = if ($bound.ContainsKey('SnapshotName')) { $bound['SnapshotName'] } else { '{0} - ({1:MM/dd/yyyy - hh:mm:ss tt})' -f $vm.name, [DateTime]::Now }
            if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
            $id = Invoke-Host 'checkpoint' @{ vm = $vm.id; name = $name }
            if ($bound['Passthru']) { @((Get-VmById $vm.id $cmdlet).checkpoints | Where-Object { $_.id -eq $id }) | ForEach-Object { ConvertTo-VMSnapshot $_ } }
        }
    }
    'Rename-VMSnapshot' = { param($bound, $cmdlet, $context)
        foreach ($checkpoint in @(Resolve-Checkpoint $bound $cmdlet)) {
            if ($context.ShouldProcess($checkpoint.name, $cmdlet)) { [void](Invoke-Host 'rename' @{ checkpoint = $checkpoint.id; name = $bound['NewName'] }) }
        }
    }
    'Restore-VMSnapshot' = { param($bound, $cmdlet, $context)
        $found = @(Resolve-Checkpoint $bound $cmdlet)
        if ($found.Count -eq 0) { throw (New-NotFound $bound['Name'] $cmdlet) }
        if ($found.Count -gt 1) { throw (New-HyperVError (Get-ErrorId 'InvalidParameter' $cmdlet) 'More than one checkpoint matches.') }
        if ($context.ShouldProcess($found[0].name, $cmdlet)) { [void](Invoke-Host 'restore' @{ checkpoint = $found[0].id }) }
    }
    'Remove-VMSnapshot' = { param($bound, $cmdlet, $context)
        foreach ($checkpoint in @(Resolve-Checkpoint $bound $cmdlet)) {
            if (-not $context.ShouldProcess($checkpoint.name, $cmdlet)) { continue }
            if ($bound['IncludeAllChildSnapshots']) { Remove-Descendant $checkpoint $cmdlet }
            [void](Invoke-Host 'remove' @{ checkpoint = $checkpoint.id })
        }
    }
    'Start-VM' = { param($bound, $cmdlet, $context) Set-Power $bound $cmdlet $context { param($vm) Invoke-Host 'start' @{ vm = $vm.id } } }
    'Resume-VM' = { param($bound, $cmdlet, $context) Set-Power $bound $cmdlet $context { param($vm) Invoke-Host 'resume' @{ vm = $vm.id } } }
    'Save-VM' = { param($bound, $cmdlet, $context) Set-Power $bound $cmdlet $context { param($vm) Invoke-Host 'save' @{ vm = $vm.id } } }
    'Suspend-VM' = { param($bound, $cmdlet, $context) Set-Power $bound $cmdlet $context { param($vm) Invoke-Host 'suspend' @{ vm = $vm.id } } }
    'Stop-VM' = { param($bound, $cmdlet, $context)
        $off, $save = [bool]$bound['TurnOff'], [bool]$bound['Save']
        if ($off -and $save) { throw (New-HyperVError (Get-ErrorId 'InvalidParameter' $cmdlet) '-Save and -TurnOff exclude each other.') }
        $force = [bool]$bound['Force']
        Set-Power $bound $cmdlet $context {
            param($vm)
            if ($save) { Invoke-Host 'save' @{ vm = $vm.id } } else { Invoke-Host 'stop' @{ vm = $vm.id; turn_off = $off; force = $force } }
        }
    }
}

function Remove-Descendant($checkpoint, [string]$cmdlet) {
    $vm = Get-VmById $checkpoint.vm_id $cmdlet
    foreach ($child in @($vm.checkpoints | Where-Object { $_.parent_id -eq $checkpoint.id })) {
        Remove-Descendant $child $cmdlet
        [void](Invoke-Host 'remove' @{ checkpoint = $child.id })
    }
}

function Invoke-Stub([string]$cmdlet, $bound, $context) {
    $act = $script:Acts[$cmdlet]
    if ($null -eq $act) { throw (New-HyperVError (Get-ErrorId 'NotSupported' $cmdlet) "The simulated host does not do $cmdlet.") }
    & $act $bound $cmdlet $context
}
