# Speaks with the simulated host over a unix socket, and makes Hyper-V's objects of what it says.

$script:Link = $null

# Returns the host's answer: what it was asked for in ok, or else an error with id and message.
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
    ConvertFrom-Json $line
}

# Asks the host to do something; writes its error if it refuses. Returns the answer, or nothing.
function Request-Host([string]$call, $arguments, $context) {
    $answer = Invoke-Host $call $arguments
    if ($null -eq $answer.error) { return $answer }
    $context.WriteError((New-HyperVError $answer.error.id $answer.error.message))
}

function Get-StubHost {
    if ($null -eq $script:HostFacts) { $script:HostFacts = (Invoke-Host 'host' @{}).ok }
    $script:HostFacts
}
$script:HostFacts = $null

function ConvertTo-Guid($text) { if ($text) { [guid]$text } else { $null } }

function ConvertTo-LocalTime($time) {
    if (-not $time) { return [DateTime]::MinValue }
    if ($time -isnot [DateTime]) { $time = [DateTimeOffset]::Parse($time).UtcDateTime }
    $time.ToLocalTime()
}

function ConvertTo-Drive($drive, $owner) {
    New-HyperVObject 'HardDiskDrive' @{
        ControllerType = $drive.type; ControllerNumber = $drive.number; ControllerLocation = $drive.location
        Path = [string]$drive.path; DiskNumber = if ($drive.pass_through) { 1 } else { $null }
        SupportPersistentReservations = [bool]$drive.shared; Name = "Hard Drive on $($drive.type) controller number $($drive.number) at location $($drive.location)"
        VMId = [guid]$owner.vm_id; VMName = $owner.vm_name; Id = "Microsoft:$($owner.vm_id)\$($drive.type):$($drive.number):$($drive.location)"
        VMSnapshotId = [guid]$owner.snapshot_id; VMSnapshotName = $owner.snapshot_name; ComputerName = (Get-StubHost).name; PoolName = 'Primordial'
        # Set-VMHardDiskDrive takes it by its name from the pipeline, and never an empty one.
        CimSession = [pscustomobject]@{ ComputerName = (Get-StubHost).name }
    }
}

# What a VM and a checkpoint have both. Nobody has network adapters or the like here.
function Get-Common($of, $drives, $owner) {
    @{
        Name = $of.name; CreationTime = ConvertTo-LocalTime $of.created_at; Path = $of.folder; ComputerName = (Get-StubHost).name
        HardDrives = @($drives | ForEach-Object { ConvertTo-Drive $_ $owner }); DVDDrives = @(); NetworkAdapters = @(Get-Adapter $of); VMIntegrationService = @()
        FibreChannelHostBusAdapters = @(); Generation = $of.generation; Version = '10.0'; Notes = ''
        ProcessorCount = $of.cpu_count; MemoryStartup = $of.memory_bytes; MemoryMinimum = $of.minimum_bytes; MemoryMaximum = $of.maximum_bytes
        DynamicMemoryEnabled = [bool]$of.dynamic_memory
    }
}

# A VM with a switch has one adapter. Hyper-V's class of it is not known here.
function Get-Adapter($of) {
    if ($of.switch) { [pscustomobject]@{ PSTypeName = 'Microsoft.HyperV.PowerShell.VMNetworkAdapter'; Name = 'Network Adapter'; SwitchName = $of.switch } }
}

function Set-Value([hashtable]$values, $more) { foreach ($name in $more.Keys) { $values[$name] = $more[$name] } }

function ConvertTo-VMSnapshot($checkpoint) {
    $owner = @{
        vm_id = $checkpoint.vm_id; vm_name = $checkpoint.vm_name; snapshot_id = $checkpoint.id; snapshot_name = $checkpoint.name
    }
    $parent = ConvertTo-Guid $checkpoint.parent_id
    $values = Get-Common $checkpoint $checkpoint.drives $owner
    Set-Value $values @{
        Id = [guid]$checkpoint.id; VMId = [guid]$checkpoint.vm_id; VMName = $checkpoint.vm_name
        ParentSnapshotId = $parent; ParentCheckpointId = $parent
        ParentSnapshotName = $checkpoint.parent_name; ParentCheckpointName = $checkpoint.parent_name
        SnapshotType = $checkpoint.snapshot_type; State = if ($checkpoint.has_memory) { 'Saved' } else { 'Off' }
        IsAutomaticCheckpoint = [bool]$checkpoint.automatic; SizeOfSystemFiles = [long]$checkpoint.system_files_bytes
    }
    New-HyperVObject 'VMSnapshot' $values
}

function ConvertTo-VM($vm) {
    # The enum has 23769 for what the host calls 32769, so that one prints as a number (source read).
    $word = Get-HyperVType 'Microsoft.HyperV.PowerShell.VMOperationalStatus'
    $status = @($vm.secondary_status | ForEach-Object { if ($_ -eq 'ApplyingSnapshot') { [Enum]::ToObject($word, 32769) } else { [Enum]::Parse($word, $_) } })
    $busy = $status.Count -gt 0
    $primary = [Enum]::Parse($word, $(if ($busy) { 'InService' } else { 'Ok' }))
    $on = 'Running', 'Paused' -contains $vm.state
    $values = Get-Common $vm $vm.drives @{ vm_id = $vm.id; vm_name = $vm.name; snapshot_id = [guid]::Empty; snapshot_name = '' }
    Set-Value $values @{
        Id = [guid]$vm.id; VMId = [guid]$vm.id; VMName = $vm.name
        Status = if ($busy) { 'Working' } else { 'Operating normally' }
        PrimaryStatusDescription = 'Operating normally'; StatusDescriptions = @('Operating normally')
        CheckpointType = $vm.checkpoint_type; ParentSnapshotId = ConvertTo-Guid $vm.parent_snapshot_id
        ParentCheckpointId = ConvertTo-Guid $vm.parent_snapshot_id
        ParentSnapshotName = $vm.parent_snapshot_name; ParentCheckpointName = $vm.parent_snapshot_name
        PrimaryOperationalStatus = $primary; SecondaryOperationalStatus = if ($busy) { $status[0] } else { $null }
        OperationalStatus = @($primary; $status)
        AutomaticCheckpointsEnabled = [bool]$vm.automatic_checkpoints
        Uptime = [TimeSpan]::FromMilliseconds([Math]::Floor(1000 * $vm.uptime_s))
        MemoryAssigned = if ($on) { $vm.memory_bytes } else { 0 }; MemoryDemand = if ($on) { $vm.memory_bytes } else { 0 }
        MemoryStatus = if ($on) { 'OK' } else { '' }; Heartbeat = if ($vm.state -eq 'Running') { 'OkApplicationsUnknown' } else { $null }
        ReplicationMode = if ($vm.replica) { 'Replica' } else { 'None' }; IntegrationServicesState = ''; Groups = @()
        ConfigurationLocation = $vm.folder; SnapshotFileLocation = $vm.folder; CheckpointFileLocation = $vm.folder; SmartPagingFilePath = $vm.folder
        AutomaticStartAction = 'StartIfRunning'; AutomaticStopAction = 'Save'; AutomaticCriticalErrorAction = 'Pause'
        AutomaticCriticalErrorActionTimeout = 30; LockOnDisconnect = 'Off'; VirtualMachineType = 'RealizedVirtualMachine'
        VirtualMachineSubType = "Generation$($vm.generation)"; NumaNodesCount = 1; NumaSocketCount = 1
    }
    if ($vm.fibre_channel) { $values.FibreChannelHostBusAdapters = @([pscustomobject]@{ Name = 'Fibre Channel Adapter' }) }
    foreach ($setting in $vm.settings.PSObject.Properties) { $values[$setting.Name] = $setting.Value }
    $values.CheckpointFileLocation = $values.SnapshotFileLocation
    New-VmObject $values $vm.state
}

# A VM that a script keeps tells its State as it is when it is asked, as the real object does (not verified): scripts wait by
# it. One that the host does not have (any more) tells what it was when the object was made. A member of each object, since
# one of the type (Update-TypeData) would not find the functions of this module.
function New-VmObject($values, [string]$state) {
    $made = New-HyperVObject 'VirtualMachine' $values
    $made.State = $state
    foreach ($name in $script:LiveMembers.Keys) {
        $made.PSObject.Properties.Add([Management.Automation.PSScriptProperty]::new($name, $script:LiveMembers[$name]))
    }
    $made
}
$script:StateField = (Get-HyperVType 'Microsoft.HyperV.PowerShell.VirtualMachine').GetField('State')
$script:LiveMembers = @{
    State = {
        $answer = Invoke-Host 'state' @{ id = $this.Id.ToString() }
        if ($answer.ok) { return [Enum]::Parse($script:StateField.FieldType, $answer.ok) }
        $script:StateField.GetValue($this.PSObject.BaseObject)
    }
    VMIntegrationService = {
        (Invoke-Host 'vms' @{ id = $this.Id.ToString() }).ok | ForEach-Object { ConvertTo-Services $_ }
    }
}

function ConvertTo-VMHost($facts) {
    New-HyperVObject 'VMHost' @{
        Name = $facts.name; ComputerName = $facts.name; FullyQualifiedDomainName = $facts.name
        LogicalProcessorCount = $facts.logical_processors; MemoryCapacity = $facts.memory_bytes
        VirtualMachinePath = $facts.folder; VirtualHardDiskPath = $facts.folder
    }
}

function ConvertTo-VHD($file) {
    [pscustomobject]@{
        PSTypeName = 'Microsoft.Vhd.PowerShell.VirtualHardDisk'; ComputerName = (Get-StubHost).name; Path = $file.path
        VhdFormat = [Enum]::Parse((Get-HyperVType 'Microsoft.Vhd.PowerShell.VhdFormat'), $(if ($file.path -match '\.a?vhd$') { 'VHD' } else { 'VHDX' }))
        VhdType = [Enum]::Parse((Get-HyperVType 'Microsoft.Vhd.PowerShell.VhdType'), $file.vhd_type)
        FileSize = [uint64]$file.file_bytes; Size = [uint64]$file.size_bytes; ParentPath = [string]$file.parent_path; Attached = [bool]$file.attached
        MinimumSize = [uint64]$file.minimum_bytes; DiskIdentifier = $file.identifier
    }
}
