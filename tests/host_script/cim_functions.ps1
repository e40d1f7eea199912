# How a host is asked for exports, conversions and jobs (docs/host-protocol.md, 'Jobs of the hypervisor'). Windows
# PowerShell 5.1; needs New-Failure of the host script. Tried against stubs only, never against a real host.

$WmiSpace = 'root\virtualization\v2'
# What a method returns when it refuses, and the error that a cmdlet has for it (source read). Any other: OperationFailed.
$WmiErrors = @{
    32768 = 'OperationFailed'; 32769 = 'AccessDenied'; 32770 = 'NotSupported'; 32772 = 'OperationTimeout'
    32773 = 'InvalidParameter'; 32774 = 'ObjectInUse'; 32775 = 'InvalidState'; 32778 = 'OutOfMemory'
    32779 = 'ObjectNotFound'; 32789 = 'ObjectNotFound'
}
# JobState (documented): new, starting, running, suspended, shutting down; completed, and with warnings. Others: failed.
$JobsRunning = 2, 3, 4, 5, 6
$JobsDone = 7, 32768

# The text of an instance (CIM DTD 2.0), made by hand: it has no other parts than these (source read), and what would
# write it is not the same in each PowerShell. A property is a name, its type, and its value; an array has a list.
function ConvertTo-Embedded([string]$class, [object[]]$properties) {
    $text = '<INSTANCE CLASSNAME="' + $class + '">'
    foreach ($property in $properties) {
        $name, $type, $value = $property[0], $property[1], $property[2]
        $values = @($value | ForEach-Object { '<VALUE>' + [Security.SecurityElement]::Escape([string]$_) + '</VALUE>' }) -join ''
        $text += if ($value -is [array]) {
            "<PROPERTY.ARRAY NAME=`"$name`" TYPE=`"$type`"><VALUE.ARRAY>$values</VALUE.ARRAY></PROPERTY.ARRAY>"
        }
        else { "<PROPERTY NAME=`"$name`" TYPE=`"$type`">$values</PROPERTY>" }
    }
    $text + '</INSTANCE>'
}

function ConvertTo-WqlText([string]$text) { $text.Replace('\', '\\').Replace("'", "\'") }

# The one object of WMI's; it is an error if it is not there, or if there are several.
function Get-WmiOne([string]$class, [string]$filter) {
    $found = @(Get-CimInstance -Namespace $WmiSpace -ClassName $class -Filter $filter)
    if ($found.Count -eq 1) { return $found[0] }
    throw (New-Failure 'WmiUnknown,snapshotd' "WMI has $($found.Count) objects of $class where $filter.")
}

# Calls a method that may begin a job. Returns the job's InstanceID, or '' if all is done already.
function Start-WmiMethod($object, [string]$class, [string]$method, $arguments) {
    $result = Invoke-CimMethod -InputObject $object -MethodName $method -Arguments $arguments -Confirm:$false
    $code = [int]$result.ReturnValue
    if ($code -eq 0) { return '' }
    # The job is a reference: it has the keys of the job, and nothing else (source read).
    if ($code -eq 4096 -and $null -ne $result.Job -and $result.Job.InstanceID) { return [string]$result.Job.InstanceID }
    if ($code -eq 4096) { throw (New-Failure 'JobUnknown,snapshotd' "$method has begun a job, and does not say which.") }
    $id = if ($WmiErrors.ContainsKey($code)) { $WmiErrors[$code] } else { 'OperationFailed' }
    throw (New-Failure "$id,$class.$method" "$method returned $code.")
}

# The path of an object, as methods take it in a text.
function Get-WmiPath($object) {
    $system = $object.CimSystemProperties
    $key = ([string]$object.InstanceID).Replace('\', '\\').Replace('"', '\"')
    '\\{0}\{1}:{2}.InstanceID="{3}"' -f $system.ServerName, $system.Namespace.Replace('/', '\'), $system.ClassName, $key
}

# The ids by which an export leaves disks out: those of the disks that a checkpoint, or a VM, has at these places
# ('SCSI:0:1'). Found by the files, since what stands for a place in an id is not documented.
function Get-DiskId($settings, $drives, [string[]]$places) {
    $class = 'Msvm_StorageAllocationSettingData'
    $all = @(Get-CimAssociatedInstance -InputObject $settings -ResultClassName $class -Association Msvm_VirtualSystemSettingDataComponent)
    foreach ($place in $places) {
        $drive = @($drives | Where-Object { "$($_.ControllerType):$($_.ControllerNumber):$($_.ControllerLocation)" -eq $place })
        $found = @($all | Where-Object { $drive.Count -eq 1 -and @($_.HostResource).Count -eq 1 -and @($_.HostResource)[0] -eq $drive[0].Path })
        if ($found.Count -ne 1) { throw (New-Failure 'WmiUnknown,snapshotd' "WMI has $($found.Count) disks at $place.") }
        [string]$found[0].InstanceID
    }
}

# Begins an export of a VM with all its checkpoints ($checkpoint: nothing), or of one checkpoint, whose disks become new
# files without parent, but for the places that are excluded. Returns the job's id, or '' if it is complete already.
function Start-Export($vm, [string]$directory, $checkpoint, [string[]]$excluded) {
    $class = 'Msvm_VirtualSystemManagementService'
    $system = Get-WmiOne 'Msvm_ComputerSystem' "Name = '$([string]$vm.Id)'"
    $service = Get-WmiOne $class "Name = 'vmms'"
    $properties = @(
        , @('CopySnapshotConfiguration', 'uint8', $(if ($null -eq $checkpoint) { 0 } else { 2 }))
        , @('CopyVmStorage', 'boolean', 'TRUE')
        , @('CopyVmRuntimeInformation', 'boolean', 'TRUE')
        , @('CreateVmExportSubdirectory', 'boolean', 'FALSE')
        , @('CaptureLiveState', 'uint8', 0)
    )
    if ($null -ne $checkpoint) {
        # That a checkpoint's id is in that of its settings is inferred: an error if there are none of that id.
        $settings = Get-WmiOne 'Msvm_VirtualSystemSettingData' "InstanceID = 'Microsoft:$([string]$checkpoint.Id)'"
        $properties += , @('SnapshotVirtualSystem', 'string', (Get-WmiPath $settings))
        if (@($excluded).Count -gt 0) {
            # Both since Windows Server 2019 (documented as 1709): an older host refuses them, or does not know them (inferred).
            $ids = [object[]]@(Get-DiskId $settings (Get-VMHardDiskDrive -VMSnapshot $checkpoint) $excluded)
            $properties += , @('ExcludedVirtualHardDisks', 'string', $ids)
            $properties += , @('DisableDifferentialOfIgnoredStorage', 'boolean', 'TRUE')
        }
    }
    $text = ConvertTo-Embedded 'Msvm_VirtualSystemExportSettingData' $properties
    Start-WmiMethod $service $class 'ExportSystemDefinition' @{ ComputerSystem = $system; ExportDirectory = $directory; ExportSettingData = $text }
}

# Begins to make a dynamic VHDX without parent of a disk that no running VM uses. Returns as Start-Export does.
function Start-Conversion([string]$source, [string]$target) {
    $class = 'Msvm_ImageManagementService'
    $service = @(Get-CimInstance -Namespace $WmiSpace -ClassName $class)
    if ($service.Count -ne 1) { throw (New-Failure 'WmiUnknown,snapshotd' "WMI has $($service.Count) objects of $class.") }
    # All that must be set; 0 is the default of the two sizes, and no ParentPath is none (documented).
    $text = ConvertTo-Embedded 'Msvm_VirtualHardDiskSettingData' @(
        , @('Path', 'string', $target)
        , @('Type', 'uint16', 3)
        , @('Format', 'uint16', 3)
        , @('BlockSize', 'uint32', 0)
        , @('LogicalSectorSize', 'uint32', 0)
    )
    Start-WmiMethod $service[0] $class 'ConvertVirtualHardDisk' @{ SourcePath = $source; VirtualDiskSettingData = $text }
}

# The job's object; nothing if the host does not know it, or not any more. A conversion's is of a class of its own.
function Find-Job([string]$jobId) {
    foreach ($class in 'Msvm_ConcreteJob', 'Msvm_StorageJob') {
        $found = @(Get-CimInstance -Namespace $WmiSpace -ClassName $class -Filter "InstanceID = '$(ConvertTo-WqlText $jobId)'")
        if ($found.Count -gt 0) { return $found[0] }
    }
}

# What has become of a job: RUNNING, DONE, FAILED, or GONE.
function Get-JobById([string]$jobId) {
    $job = Find-Job $jobId
    if ($null -eq $job) { return [pscustomobject]@{ id = $jobId; type = 0; state = 'GONE'; percent = 0; error = '' } }
    $number = [int]$job.JobState
    $state = if ($JobsRunning -contains $number) { 'RUNNING' } elseif ($JobsDone -contains $number) { 'DONE' } else { 'FAILED' }
    $why = if ($state -eq 'FAILED') { [string]$job.ErrorDescription } else { '' }
    [pscustomobject]@{ id = $jobId; type = [int]$job.JobType; state = $state; percent = [int]$job.PercentComplete; error = $why }
}

# Terminates a job. It may go on for a moment, so ask for it again. One that has ended, or is gone, is left alone.
function Stop-JobById([string]$jobId) {
    $job = Find-Job $jobId
    if ($null -eq $job -or (Get-JobById $jobId).state -ne 'RUNNING') { return }
    try { $result = Invoke-CimMethod -InputObject $job -MethodName RequestStateChange -Arguments @{ RequestedState = [uint16]4 } -Confirm:$false }
    catch {
        if ((Get-JobById $jobId).state -ne 'RUNNING') { return }
        throw
    }
    $code = [int]$result.ReturnValue
    if ($code -eq 0 -or $code -eq 4096 -or (Get-JobById $jobId).state -ne 'RUNNING') { return }
    # It may be on its way out already: it was terminated twice.
    if ([int](Find-Job $jobId).JobState -eq 6) { return }
    $id = if ($WmiErrors.ContainsKey($code)) { $WmiErrors[$code] } else { 'OperationFailed' }
    throw (New-Failure "$id,CIM_ConcreteJob.RequestStateChange" "RequestStateChange returned $code.")
}
