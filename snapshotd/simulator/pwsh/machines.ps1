# What New-VM, Remove-VM and Get-VMIntegrationService do.

# A VM's integration services. Their names and ids are those of every Hyper-V host (observed); they are in the order of the ids.
$script:Services = [ordered]@{
    '84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47' = 'Heartbeat'
    '2A34B1C2-FD73-4043-8A5B-DD2159BC743F' = 'Key-Value Pair Exchange'
    '9F8233AC-BE49-4C79-8EE3-E7E1985B2077' = 'Shutdown'
    '2497F4DE-E9FA-4204-80E4-4B75C46419C0' = 'Time Synchronization'
    '5CED1297-4598-4915-A5FC-AD21BB4D02A4' = 'VSS'
    '6C09BB55-D683-4DA0-8931-C9BF705F6480' = 'Guest Service Interface'
}

# A service of a VM is healthy while its guest runs, and has what it needs; the guest services are off unless somebody turns
# them on (documented).
function ConvertTo-Service($of, [string]$id, [string]$name) {
    $values = Get-Owner $of
    $enabled = $name -ne 'Guest Service Interface'
    $healthy = $of.state -eq 'Running' -and -not ($name -eq 'Shutdown' -and -not $of.shutdown_service) -and -not ($name -eq 'VSS' -and -not $of.vss)
    $status = Get-HyperVType 'Microsoft.HyperV.PowerShell.VMIntegrationComponentOperationalStatus'
    $primary = if (-not $enabled -or $null -eq $of.state -or $of.state -eq 'Off' -or $of.state -eq 'Saved') { $null }
    elseif ($healthy) { [Enum]::Parse($status, 'Ok') } else { [Enum]::Parse($status, 'NoContact') }
    Set-Value $values @{
        Name = $name; Id = "Microsoft:$($values.VMId.ToString().ToUpper())\$id"; Enabled = $enabled; PrimaryOperationalStatus = $primary
        PrimaryStatusDescription = if ($null -eq $primary) { '' } elseif ($healthy) { 'OK' } else { 'No Contact' }
        OperationalStatus = if ($null -eq $primary) { @() } else { @($primary) }
    }
    New-HyperVObject 'VMIntegrationComponent' $values
}

function ConvertTo-Services($of) { $script:Services.Keys | ForEach-Object { ConvertTo-Service $of $_ $script:Services[$_] } }

$script:MachineActs = @{
    'New-VM' = { param($bound, $cmdlet, $context)
        $done = -split 'Name MemoryStartupBytes Generation BootDevice NoVHD NewVHDPath NewVHDSizeBytes VHDPath SwitchName Force'
        if (-not (Test-Done $bound $cmdlet $context $done)) { return }
        $name = if ($bound.ContainsKey('Name')) { $bound['Name'] } else { 'New Virtual Machine' }
        if (-not $context.ShouldProcess($name, $cmdlet)) { return }
        $disk = if ($bound.ContainsKey('VHDPath')) { Get-WholePath $bound['VHDPath'] $context } else { '' }
        if ($bound.ContainsKey('NewVHDPath')) {
            $disk = Get-WholePath $bound['NewVHDPath'] $context
            $made = @{ path = $disk; size_bytes = $bound['NewVHDSizeBytes']; parent = ''; fixed = $false }
            if ($null -eq (Request-Host 'new_vhd' $made $context)) { return }
        }
        $answer = Request-Host 'new_vm' @{
            name = $name; vhd_path = $disk; switch = [string]$bound['SwitchName']
            # The defaults are documented.
            memory_bytes = if ($null -ne $bound['MemoryStartupBytes']) { $bound['MemoryStartupBytes'] } else { 512MB }
            generation = if ($null -ne $bound['Generation']) { $bound['Generation'] } else { 1 }
            path = if ($bound.ContainsKey('Path')) { Get-WholePath $bound['Path'] $context } else { '' }
        } $context
        if ($null -ne $answer) { Find-Vm $answer.ok $context | ForEach-Object { ConvertTo-VM $_ } }
    }
    'Remove-VM' = { param($bound, $cmdlet, $context)
        $forced = $bound['Force'] -or ($bound.ContainsKey('Confirm') -and -not $bound['Confirm']) -or $bound['WhatIf']
        foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
            # It asks unless it is forced (documented); that -Confirm:$false will do too is not verified.
            if (-not $forced -and -not $context.ShouldContinue("Are you sure you want to remove virtual machine `"$($vm.name)`"?", 'Confirm')) { continue }
            if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
            $answer = Request-Host 'remove_vm' @{ vm = $vm.id } $context
            if ($null -ne $answer -and $bound['Passthru']) { ConvertTo-VM $vm }
        }
    }
    'Rename-VM' = { param($bound, $cmdlet, $context)
        foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
            if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
            $answer = Request-Host 'set_vm' @{ vm = $vm.id; name = $bound['NewName'] } $context
            if ($null -ne $answer -and $bound['Passthru']) { Find-Vm $vm.id $context | ForEach-Object { ConvertTo-VM $_ } }
        }
    }
    'Get-VMIntegrationService' = { param($bound, $cmdlet, $context)
        $owners = @{}
        foreach ($key in @($bound.Keys)) { if ($key -ne 'Name') { $owners[$key] = $bound[$key] } }
        $names = if ($bound.ContainsKey('Name')) { @($bound['Name']) } else { @('*') }
        foreach ($of in @(Find-Owner $owners $cmdlet $context)) {
            foreach ($wanted in $names) {
                $found = @($script:Services.Keys | Where-Object { $script:Services[$_] -like $wanted })
                if ($found.Count -eq 0 -and -not (Test-Pattern $wanted)) {
                    $text = "Hyper-V was unable to find an integration service with name `"$wanted`"."
                    $context.WriteError((New-HyperVError (Get-ErrorId 'ObjectNotFound' $cmdlet) $text))
                }
                $found | ForEach-Object { ConvertTo-Service $of $_ $script:Services[$_] }
            }
        }
    }
}
foreach ($name in $script:MachineActs.Keys) { $script:Acts[$name] = $script:MachineActs[$name] }
