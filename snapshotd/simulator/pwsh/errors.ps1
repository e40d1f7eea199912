# Errors as Hyper-V's cmdlets write them, and objects of Hyper-V's classes.

# The types are in a file beside the module. A second runspace of the process has them already.
if ($null -eq ('Microsoft.HyperV.PowerShell.VirtualizationException' -as [type])) {
    [void][Reflection.Assembly]::LoadFrom((Join-Path $PSScriptRoot 'Types.dll'))
}

$script:TypesOf = @{}

function Get-HyperVType([string]$name) {
    $found = $script:TypesOf[$name]
    if ($null -eq $found) { $found = $script:TypesOf[$name] = [Management.Automation.LanguagePrimitives]::ConvertTo($name, [type]) }
    $found
}

# PowerShell ends the id of an error that a function writes with the function's name, where a cmdlet has the name of its
# class. An error that came from another machine keeps its id in this field, and is shown with that.
$script:WholeId = [Management.Automation.ErrorRecord].GetField('_serializedFullyQualifiedErrorId', 'NonPublic, Instance')
if ($null -eq $script:WholeId) { throw 'This PowerShell keeps the ids of errors in another way: use another version for the simulated host.' }

# By the first part of the id. Observed: InvalidParameter, ObjectNotFound. The others are inferred.
$script:Categories = @{
    InvalidParameter = 'InvalidArgument'; ObjectNotFound = 'ObjectNotFound'; InvalidState = 'InvalidOperation'
    AccessDenied = 'PermissionDenied'; ObjectInUse = 'ResourceBusy'; OutOfMemory = 'ResourceUnavailable'
    OperationTimeout = 'OperationTimeout'; NotSupported = 'NotImplemented'
}

# Returns a record whose FullyQualifiedErrorId is the one given, whoever writes it.
function New-HyperVError([string]$id, [string]$message, $target) {
    $category = $script:Categories[$id.Split(',')[0]]
    if ($null -eq $category) { $category = 'NotSpecified' }
    $exception = [Microsoft.HyperV.PowerShell.VirtualizationException]::new($message)
    $record = [Management.Automation.ErrorRecord]::new($exception, $id, $category, $target)
    $script:WholeId.SetValue($record, $id)
    $record
}

function Get-ErrorId([string]$id, [string]$cmdlet) {
    $namespace = if ($cmdlet -like '*-VHD') { 'Microsoft.Vhd.PowerShell.Cmdlets' } else { 'Microsoft.HyperV.PowerShell.Commands' }
    '{0},{1}.{2}' -f $id, $namespace, $cmdlet.Replace('-', '')
}

# An object of one of Hyper-V's classes, with the values given.
function New-HyperVObject([string]$class, $values) {
    [Management.Automation.LanguagePrimitives]::ConvertTo($values, (Get-HyperVType "Microsoft.HyperV.PowerShell.$class"))
}
