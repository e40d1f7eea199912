# Of WMI only what tells how far a VM's job has come: its computer system, and the job under way on it.

function Get-CimInstance {
    [CmdletBinding()]
    param([string]$Namespace, [Parameter(Position = 0)][string]$ClassName, [string]$Filter)
    if ($ClassName -ne 'Msvm_ComputerSystem') { throw "The simulated host has no class $ClassName." }
    $id = [regex]::Match($Filter, "Name\s*=\s*'([^']+)'").Groups[1].Value
    $vm = Get-VM -Id $id
    [pscustomobject]@{ PSTypeName = 'Microsoft.Management.Infrastructure.CimInstance'; Name = $id; ElementName = $vm.Name; Vm = $vm }
}

function Get-CimAssociatedInstance {
    [CmdletBinding()]
    param([Parameter(Position = 0)]$InputObject, [string]$Association)
    if ($Association -ne 'Msvm_AffectedJobElement') { throw "The simulated host has no association $Association." }
    $vm = Get-VM -Id $InputObject.Name
    if ($null -eq $vm.SecondaryOperationalStatus -and $vm.JobPercent -eq 0) { return }
    [pscustomobject]@{ PSTypeName = 'Microsoft.Management.Infrastructure.CimInstance'; JobState = [uint16]4; PercentComplete = [uint16]$vm.JobPercent }
}
