# What the cmdlets about exports, imports and conversions do. They wait for their job, as the real ones do; -AsJob does not.

# What of a call makes it an import of a copy: its new id, if it gets one, and the folders where it goes.
function Get-Copying($bound, $context) {
    $copying = @{ copy = [bool]$bound['Copy']; new_id = if ($bound['GenerateNewId']) { [guid]::NewGuid().ToString() } else { '' } }
    $copying.folder = if ($bound['VirtualMachinePath']) { Get-WholePath $bound['VirtualMachinePath'] $context } else { '' }
    $copying.disks = if ($bound['VhdDestinationPath']) { Get-WholePath $bound['VhdDestinationPath'] $context } else { '' }
    $copying
}

# The configuration that a call is about, and how a copy is made: as it says, or as the report that it names was made.
function Get-Source($bound, $context) {
    $report = $bound['CompatibilityReport']
    if ($null -ne $report) { return $report.Path, $report.Copying }
    (Get-WholePath $bound['Path'] $context), (Get-Copying $bound $context)
}

# What Compare-VM returns. Import-VM takes it, so it keeps the path, and how a copy is to be made.
function ConvertTo-Report($found, [string]$path, $copying) {
    $id = if ($copying.new_id) { $copying.new_id } else { $found.vm_id }
    $planned = New-VmObject @{
        Id = [guid]$id; VMId = [guid]$id; Name = $found.name; VMName = $found.name
        ComputerName = (Get-StubHost).name; VirtualMachineType = 'PlannedVirtualMachine'; HardDrives = @(); NetworkAdapters = @()
    } 'Off'
    $report = New-HyperVObject 'VMCompatibilityReport' @{
        VM = $planned; Path = $path; OperationType = 'ImportVirtualMachine'; Destination = (Get-StubHost).name
        Incompatibilities = @($found.incompatibilities | ForEach-Object {
                [pscustomobject]@{
                    PSTypeName = 'Microsoft.HyperV.PowerShell.VMCompatibilityError'
                    Message = $_.message; MessageId = [long]$_.id; Source = $planned
                }
            })
    }
    $report.PSObject.Properties.Add([Management.Automation.PSNoteProperty]::new('Copying', $copying))
    $report
}

# The report of an exported VM, by a path, or again by an older report.
function Get-Report($bound, $context) {
    $path, $copying = Get-Source $bound $context
    $answer = Request-Host 'compare' @{ path = $path; copy = [bool]$copying.new_id } $context
    if ($null -ne $answer) { ConvertTo-Report $answer.ok $path $copying }
}

# Parameters of Compare-VM and Import-VM that are about a copy, and that are done here.
$script:OfCopies = 'Copy', 'GenerateNewId', 'VirtualMachinePath', 'VhdDestinationPath'

$script:TransferActs = @{
    'Export-VM' = { param($bound, $cmdlet, $context)
        # That a running VM is exported with its memory unless something else is said is not verified.
        $live = if ($null -ne $bound['CaptureLiveState']) { [int]$bound['CaptureLiveState'] } else { 1 }
        foreach ($vm in @(Resolve-Vm $bound $cmdlet $context)) {
            if (-not $context.ShouldProcess($vm.name, $cmdlet)) { continue }
            $asked = @{ vm = $vm.id; path = Get-WholePath $bound['Path'] $context; live = $live; snapshot = '' }
            $answer = Request-Host 'export' $asked $context
            if ($null -ne $answer -and $bound['Passthru']) { Find-Vm $vm.id $context | ForEach-Object { ConvertTo-VM $_ } }
        }
    }
    'Export-VMSnapshot' = { param($bound, $cmdlet, $context)
        foreach ($checkpoint in @(Resolve-Checkpoint $bound $cmdlet $context)) {
            if (-not $context.ShouldProcess($checkpoint.name, $cmdlet)) { continue }
            $asked = @{ vm = $checkpoint.vm_id; path = Get-WholePath $bound['Path'] $context; live = 0; snapshot = $checkpoint.id }
            $answer = Request-Host 'export' $asked $context
            if ($null -ne $answer -and $bound['Passthru']) { ConvertTo-VMSnapshot $checkpoint }
        }
    }
    'Compare-VM' = { param($bound, $cmdlet, $context)
        if (-not (Test-Done $bound $cmdlet $context @('Register', 'CompatibilityReport'; $script:OfCopies))) { return }
        Get-Report $bound $context
    }
    'Import-VM' = { param($bound, $cmdlet, $context)
        if (-not (Test-Done $bound $cmdlet $context @('Register', 'CompatibilityReport'; $script:OfCopies))) { return }
        $path, $copying = Get-Source $bound $context
        if (-not $context.ShouldProcess($path, $cmdlet)) { return }
        $answer = Request-Host 'import' (@{ path = $path } + $copying) $context
        if ($null -ne $answer) { Find-Vm $answer.ok $context | ForEach-Object { ConvertTo-VM $_ } }
    }
    'Convert-VHD' = { param($bound, $cmdlet, $context)
        if (-not (Test-Done $bound $cmdlet $context @('Path', 'DestinationPath', 'VHDType', 'DeleteSource'))) { return }
        if ($bound.ContainsKey('VHDType') -and [string]$bound['VHDType'] -ne 'Dynamic') {
            $context.WriteError((New-HyperVError (Get-ErrorId 'NotSupported' $cmdlet) 'The simulated host converts to a dynamic VHDX only.'))
            return
        }
        $source, $target = (Get-WholePath $bound['Path'] $context), (Get-WholePath $bound['DestinationPath'] $context)
        if (-not $context.ShouldProcess($source, $cmdlet)) { return }
        if ($null -eq (Request-Host 'convert' @{ source = $source; target = $target } $context)) { return }
        if ($bound['DeleteSource']) { [IO.File]::Delete($source) }
        if ($bound['Passthru']) { $answer = Request-Host 'vhd' @{ path = $target } $context; if ($null -ne $answer) { ConvertTo-VHD $answer.ok } }
    }
}
foreach ($name in $script:TransferActs.Keys) { $script:Acts[$name] = $script:TransferActs[$name] }
