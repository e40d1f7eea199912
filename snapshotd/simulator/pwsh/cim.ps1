# Of WMI only the management service, a VM's computer system, and the jobs that affect it.

function Get-CimInstance {
    [CmdletBinding()]
    param([string]$Namespace, [Parameter(Position = 0)][string]$ClassName, [string]$Filter)
    if ($ClassName -eq 'Msvm_VirtualSystemManagementService') {
        if (& (Get-Module Hyper-V) { Invoke-Host 'manages' @{} }) {
            [pscustomobject]@{ PSTypeName = 'Microsoft.Management.Infrastructure.CimInstance'; Name = 'vmms' }
        }
        return
    }
    if ($ClassName -ne 'Msvm_ComputerSystem') { throw "The simulated host has no class $ClassName." }
    $id = [regex]::Match($Filter, "Name\s*=\s*'([^']+)'").Groups[1].Value
    $vm = Get-VM -Id $id
    [pscustomobject]@{ PSTypeName = 'Microsoft.Management.Infrastructure.CimInstance'; Name = $id; ElementName = $vm.Name }
}

function Get-CimAssociatedInstance {
    [CmdletBinding()]
    param([Parameter(Position = 0)]$InputObject, [string]$Association)
    if ($Association -ne 'Msvm_AffectedJobElement') { throw "The simulated host has no association $Association." }
    # The bridge to the simulated host is the stub of Hyper-V's.
    foreach ($job in & (Get-Module Hyper-V) { param($id) Invoke-Host 'jobs' @{ id = $id } } $InputObject.Name) {
        [pscustomobject]@{
            PSTypeName = 'Microsoft.Management.Infrastructure.CimInstance'; JobState = [uint16]$job.state
            JobType = [uint16]$job.type; PercentComplete = [uint16]$job.percent
        }
    }
}
