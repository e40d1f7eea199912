# Of WMI only the management service, a VM's computer system, the jobs that affect it, and a job by its id.

function ConvertTo-ConcreteJob($job) {
    [pscustomobject]@{
        PSTypeName = 'Microsoft.Management.Infrastructure.CimInstance'; InstanceID = $job.id; JobState = [uint16]$job.state
        JobType = [uint16]$job.type; PercentComplete = [uint16]$job.percent; ErrorDescription = $job.error
    }
}

function Get-CimInstance {
    [CmdletBinding()]
    param([string]$Namespace, [Parameter(Position = 0)][string]$ClassName, [string]$Filter)
    # As Use-Preference does for Hyper-V's.
    if (-not $PSBoundParameters.ContainsKey('ErrorAction')) { $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference') }
    if ($ClassName -eq 'Msvm_VirtualSystemManagementService') {
        if ((& $HyperV { param($context) Request-Host 'manages' @{} $context } $PSCmdlet).ok) {
            [pscustomobject]@{ PSTypeName = 'Microsoft.Management.Infrastructure.CimInstance'; Name = 'vmms' }
        }
        return
    }
    if ($ClassName -eq 'Msvm_ConcreteJob') {
        $id = [regex]::Match($Filter, "InstanceID\s*=\s*'([^']+)'").Groups[1].Value
        $job = (& $HyperV { param($id, $context) Request-Host 'job' @{ id = $id } $context } $id $PSCmdlet).ok
        if ($null -ne $job) { ConvertTo-ConcreteJob $job }
        return
    }
    if ($ClassName -ne 'Msvm_ComputerSystem') { throw "The simulated host has no class $ClassName." }
    $id = [regex]::Match($Filter, "Name\s*=\s*'([^']+)'").Groups[1].Value
    # No error if there is none: a query has no result then.
    $vm = & $HyperV { param($id, $context) Find-Vm $id $context } $id $PSCmdlet
    if ($null -eq $vm) { return }
    [pscustomobject]@{ PSTypeName = 'Microsoft.Management.Infrastructure.CimInstance'; Name = $id; ElementName = $vm.name }
}

function Get-CimAssociatedInstance {
    [CmdletBinding()]
    param([Parameter(Position = 0)]$InputObject, [string]$Association)
    process {
        if (-not $PSBoundParameters.ContainsKey('ErrorAction')) { $ErrorActionPreference = $PSCmdlet.GetVariableValue('ErrorActionPreference') }
        if ($Association -ne 'Msvm_AffectedJobElement') { throw "The simulated host has no association $Association." }
        $answer = & $HyperV { param($id, $context) Request-Host 'jobs' @{ id = $id } $context } $InputObject.Name $PSCmdlet
        foreach ($job in $answer.ok) { ConvertTo-ConcreteJob $job }
    }
}

# The bridge to the simulated host is the stub of Hyper-V's.
Import-Module Hyper-V
$HyperV = Get-Module Hyper-V
