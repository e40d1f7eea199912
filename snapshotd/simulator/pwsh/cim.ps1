# The CIM cmdlets, over WMI's objects as the simulated host has them (wmi.py). A CimInstance cannot be made where there is
# no Windows, so objects of that name stand for it.

$Space = 'root/virtualization/v2'
# The types of properties, where they matter to scripts.
$Types = @{
    JobState = [uint16]; JobType = [uint16]; PercentComplete = [uint16]; ErrorCode = [uint16]; HostResource = [string[]]
    EnabledState = [uint16]
}
# The parameters of the methods: a value of another type is refused, as on a host, where nothing is converted (documented).
$Methods = @{
    ExportSystemDefinition = @{ ComputerSystem = 'reference'; ExportDirectory = [string]; ExportSettingData = [string] }
    ConvertVirtualHardDisk = @{ SourcePath = [string]; VirtualDiskSettingData = [string] }
    RequestStateChange = @{ RequestedState = [uint16]; TimeoutPeriod = [TimeSpan] }
}

# The bridge to the simulated host is the stub of Hyper-V's.
Import-Module Hyper-V
$HyperV = Get-Module Hyper-V

# Asks the host; the error is written if it refuses. Returns what it answers, or nothing.
function Request-Wmi([string]$call, $arguments, $context) {
    (& $HyperV { param($call, $arguments, $context) Request-Host $call $arguments $context } $call $arguments $context).ok
}

function Write-CimError([string]$code, [string]$message, [string]$cmdlet, $context) {
    $id = "HRESULT $code,Microsoft.Management.Infrastructure.CimCmdlets.${cmdlet}Command"
    $context.WriteError((& $HyperV { param($id, $message) New-HyperVError $id $message } $id $message))
}

function ConvertTo-Cim($document) {
    $values = [ordered]@{}
    foreach ($property in $document.PSObject.Properties) {
        if ($property.Name -eq '__CLASS') { continue }
        $type = $Types[$property.Name]
        $values[$property.Name] = if ($null -eq $type -or $null -eq $property.Value) { $property.Value } else { $property.Value -as $type }
    }
    $class = $document.__CLASS
    $values.CimClass = [pscustomobject]@{ CimClassName = $class }
    $values.CimSystemProperties = [pscustomobject]@{ Namespace = $Space; ServerName = (& $HyperV { (Get-StubHost).name }); ClassName = $class }
    $object = [pscustomobject]$values
    $object.PSObject.TypeNames.Insert(0, 'Microsoft.Management.Infrastructure.CimInstance')
    $object.PSObject.TypeNames.Insert(0, "Microsoft.Management.Infrastructure.CimInstance#$Space/$class")
    $object
}

function Test-Cim($object) { $null -ne $object -and $object.PSObject.TypeNames -contains 'Microsoft.Management.Infrastructure.CimInstance' }

# What the host knows an instance by.
function ConvertFrom-Cim($object) {
    $plain = @{ __CLASS = $object.CimSystemProperties.ClassName }
    foreach ($key in 'Name', 'InstanceID') { if ($null -ne $object.PSObject.Properties[$key]) { $plain[$key] = [string]$object.$key } }
    $plain
}

# Returns whether a namespace is the one that is simulated; writes the error if not.
function Test-Space([string]$namespace, [string]$cmdlet, $context) {
    if ($namespace.Replace('\', '/').Trim('/') -eq $Space) { return $true }
    if ($namespace -eq '') { $namespace = 'root/cimv2' }
    Write-CimError '0x8004100e' "Invalid namespace: the simulated host has only $Space, and not $namespace." $cmdlet $context
    $false
}

function Get-CimInstance {
    [CmdletBinding(DefaultParameterSetName = 'ClassName')]
    param(
        [Parameter(ParameterSetName = 'ClassName', Mandatory = $true, Position = 0)][string]$ClassName,
        [Parameter(ParameterSetName = 'InputObject', Mandatory = $true, Position = 0, ValueFromPipeline = $true)][psobject]$InputObject,
        [Parameter(ParameterSetName = 'Query', Mandatory = $true)][string]$Query,
        [string]$QueryDialect, [string]$Namespace, [Parameter(ParameterSetName = 'ClassName')][string]$Filter,
        [Alias('SelectProperties')][string[]]$Property, [switch]$KeyOnly, [switch]$Shallow, [uint32]$OperationTimeoutSec
    )
    process {
        # As Use-Preference does for Hyper-V's.
        if (-not $PSBoundParameters.ContainsKey('ErrorAction')) { $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference') }
        $asked = @{ class = $ClassName; filter = $Filter; query = $Query }
        if ($PSCmdlet.ParameterSetName -eq 'InputObject') { $asked = @{ instance = ConvertFrom-Cim $InputObject } }
        elseif (-not (Test-Space $Namespace 'GetCimInstance' $PSCmdlet)) { return }
        foreach ($found in @(Request-Wmi 'wmi' $asked $PSCmdlet)) { if ($null -ne $found) { ConvertTo-Cim $found } }
    }
}

function Get-CimAssociatedInstance {
    [CmdletBinding()]
    param(
        [Parameter(Position = 0, Mandatory = $true, ValueFromPipeline = $true)][Alias('CimInstance')]$InputObject,
        [Parameter(Position = 1)][string]$Association, [string]$ResultClassName, [string]$Namespace, [switch]$KeyOnly, [uint32]$OperationTimeoutSec
    )
    process {
        if (-not $PSBoundParameters.ContainsKey('ErrorAction')) { $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference') }
        $asked = @{ instance = ConvertFrom-Cim $InputObject; association = $Association; result_class = $ResultClassName }
        foreach ($found in @(Request-Wmi 'wmi_associated' $asked $PSCmdlet)) { if ($null -ne $found) { ConvertTo-Cim $found } }
    }
}

# Returns the arguments as the host takes them; writes the error, and returns nothing, if they do not fit.
function ConvertTo-Argument([string]$method, $arguments, $context) {
    $known, $plain = $Methods[$method], @{}
    foreach ($name in @(if ($null -ne $arguments) { $arguments.Keys })) {
        $value, $type = $arguments[$name], $(if ($null -ne $known) { $known[$name] })
        if ($null -eq $type) {
            if ($null -ne $known) { Write-CimError '0x8004102f' "Invalid method Parameter(s): $method has no $name." 'InvokeCimMethod' $context; return }
            continue
        }
        $fits = if ($type -is [string]) { Test-Cim $value } else { $null -eq $value -or $value -is $type }
        if (-not $fits) { Write-CimError '0x80041005' "Type mismatch for parameter `"$name`"" 'InvokeCimMethod' $context; return }
        $plain[$name] = if ($type -is [string]) { ConvertFrom-Cim $value } else { $value }
    }
    $plain
}

function Invoke-CimMethod {
    [CmdletBinding(DefaultParameterSetName = 'InputObject', SupportsShouldProcess = $true, ConfirmImpact = 'Medium')]
    param(
        [Parameter(ParameterSetName = 'InputObject', Mandatory = $true, Position = 0, ValueFromPipeline = $true)][Alias('CimInstance')][psobject]$InputObject,
        [Parameter(ParameterSetName = 'Query', Mandatory = $true)][string]$Query,
        [Parameter(Mandatory = $true, Position = 1)][Alias('Name')][string]$MethodName,
        [Parameter(Position = 2)][Collections.IDictionary]$Arguments, [string]$Namespace, [uint32]$OperationTimeoutSec
    )
    process {
        if (-not $PSBoundParameters.ContainsKey('ErrorAction')) { $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference') }
        $targets = @($InputObject)
        if ($PSCmdlet.ParameterSetName -eq 'Query') {
            if (-not (Test-Space $Namespace 'InvokeCimMethod' $PSCmdlet)) { return }
            $targets = @(Request-Wmi 'wmi' @{ query = $Query } $PSCmdlet | ForEach-Object { ConvertTo-Cim $_ })
        }
        foreach ($target in $targets) {
            $class = $target.CimSystemProperties.ClassName
            if (-not $PSCmdlet.ShouldProcess("$class", $MethodName)) { continue }
            $plain = ConvertTo-Argument $MethodName $Arguments $PSCmdlet
            if ($null -eq $plain) { continue }
            $asked = @{ instance = ConvertFrom-Cim $target; method = $MethodName; arguments = $plain }
            $answer = Request-Wmi 'wmi_invoke' $asked $PSCmdlet
            if ($null -eq $answer) { continue }
            [pscustomobject]@{
                PSTypeName = "Microsoft.Management.Infrastructure.CimMethodResult#$class#$MethodName"
                Job = if ($null -ne $answer.Job) { ConvertTo-Cim $answer.Job } else { $null }
                ReturnValue = [uint32]$answer.ReturnValue; PSComputerName = $null
            }
        }
    }
}
