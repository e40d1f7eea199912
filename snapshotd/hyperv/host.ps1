# snapshotd's host script. It never changes: a command comes in as data, one line of base64 JSON, and each command is
# answered by one line (docs/host-protocol.md). Windows PowerShell 5.1, module Hyper-V 2.0; tried against stub cmdlets
# only, never against a real host.
#
#   line -> command -> mutex -> checks 0 to 5 -> BEGUN -> act -> DONE -> answer
#
# Addresses by id or by object, never by name: names need not be unique, and accept wildcards (documented).
# Passes enums to .NET by type, never as a word: .NET Framework has overloads that a word fits equally (documented).

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$WarningPreference = 'SilentlyContinue'

$MutexWaitMs = 5000
$ResultWaitMs = 30000
$SecondLookMs = 2000
$FileWaitMs = 1000
$SlotBytes = 4096
$LargestPart = 1000000
$LongestOperation = 500
$TimePattern = '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:\d\d)\z'
# A job's InstanceID: what stands in a query is nothing else.
$JobPattern = '^[0-9A-Za-z:{}._-]{1,200}\z'
$GuidPattern = '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\z'

# --- small things ----------------------------------------------------------------------------------------------------

function New-Failure([string]$id, [string]$message) {
    $exception = New-Object System.InvalidOperationException $message
    $category = [System.Management.Automation.ErrorCategory]::InvalidOperation
    New-Object System.Management.Automation.ErrorRecord $exception, $id, $category, $null
}

# A value that decides something must be there: a property that an object does not have reads as nothing.
function Assert-Property($object, [string[]]$names) {
    foreach ($name in $names) {
        if ($null -ne $object.PSObject.Properties[$name]) { continue }
        throw (New-Failure 'PropertyMissing,snapshotd' "$($object.PSObject.TypeNames[0]) has no property $name here.")
    }
}

function Get-Text($value) { if ($null -eq $value) { '' } else { [string]$value } }

# ConvertFrom-Json makes a DateTime of a time in PowerShell 7, and leaves it a string in Windows PowerShell (documented).
function ConvertTo-Utc($value) {
    if ($null -eq $value -or $value -eq '') { return $null }
    if ($value -is [DateTime]) { return $value.ToUniversalTime() }
    $culture = [Globalization.CultureInfo]::InvariantCulture
    [DateTimeOffset]::Parse([string]$value, $culture, [Globalization.DateTimeStyles]::AssumeUniversal).UtcDateTime
}

function Format-Utc($time) {
    if ($null -eq $time) { return $null }
    $culture = [Globalization.CultureInfo]::InvariantCulture
    $time.ToUniversalTime().ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", $culture)
}

function Format-Id($id) { if ($null -eq $id) { '' } else { ([string]$id).ToLowerInvariant() } }

function Get-Set($texts) {
    $set = New-Object 'System.Collections.Generic.HashSet[string]' ([StringComparer]::OrdinalIgnoreCase)
    foreach ($text in @($texts)) { if ($null -ne $text) { [void]$set.Add([string]$text) } }
    , $set
}

function Test-SameSet($one, $other) { (Get-Set $one).SetEquals((Get-Set $other)) }

function Get-Sha256([byte[]]$bytes) {
    $hasher = [Security.Cryptography.SHA256]::Create()
    try { [BitConverter]::ToString($hasher.ComputeHash($bytes)).Replace('-', '').ToLowerInvariant() }
    finally { $hasher.Dispose() }
}

# --- this process ----------------------------------------------------------------------------------------------------

function Get-StartedAt([int]$id) {
    $process = Get-Process -Id $id -ErrorAction SilentlyContinue
    if ($null -eq $process) { return '' }
    try { $process.StartTime.ToUniversalTime().ToString('o', [Globalization.CultureInfo]::InvariantCulture) }
    catch { '' }
}

$OwnStart = Get-StartedAt $PID

# --- the journal -----------------------------------------------------------------------------------------------------

function Get-JournalDirectory($command) {
    $named = Get-Text $command.journal_directory
    if ($named -ne '') { return $named }
    Join-Path $env:ProgramData 'snapshotd'
}

function Get-JournalPath([string]$directory, [string]$vmId) {
    Join-Path $directory ($vmId.ToLowerInvariant() + '.journal')
}

# Only SYSTEM, the administrators and this account may write there, from the moment that it is made: anybody else who
# could write might make us believe that nothing was begun. It is made with its list in one call, which only .NET Framework
# has (documented). Elsewhere there are no such lists. Not tried on Windows.
function New-JournalDirectory([string]$directory) {
    if ($PSVersionTable.PSEdition -ne 'Desktop') { [void][IO.Directory]::CreateDirectory($directory); return }
    if (Test-Path -LiteralPath $directory -PathType Container) { return }
    $list = New-Object Security.AccessControl.DirectorySecurity
    $list.SetAccessRuleProtection($true, $false)
    $inherit = [Security.AccessControl.InheritanceFlags]'ContainerInherit, ObjectInherit'
    $none = [Security.AccessControl.PropagationFlags]::None
    $all = [Security.AccessControl.FileSystemRights]::FullControl
    foreach ($account in Get-Trusted) {
        $list.AddAccessRule((New-Object Security.AccessControl.FileSystemAccessRule $account, $all, $inherit, $none, $Allow))
    }
    [void][IO.Directory]::CreateDirectory($directory, $list)
}

# A directory that somebody else has made is neither written to nor believed. Not tried on Windows.
function Assert-JournalDirectory([string]$directory) {
    if ($PSVersionTable.PSEdition -ne 'Desktop' -or -not (Test-Path -LiteralPath $directory -PathType Container)) { return }
    $list = [IO.Directory]::GetAccessControl($directory)
    $owner = $list.GetOwner([Security.Principal.SecurityIdentifier]).Value
    $trusted = @(Get-Trusted | ForEach-Object { $_.Value })
    if ($trusted -contains $owner -and $list.AreAccessRulesProtected) { return }
    $grants = @($trusted | ForEach-Object { "*${_}:(OI)(CI)F" }) -join ' '
    throw (New-Object UnauthorizedAccessException ("$directory belongs to $owner, or inherits who may write there. Remove it " +
            "if it is not snapshotd's; else, as an administrator: icacls `"$directory`" /setowner *S-1-5-32-544 and " +
            "icacls `"$directory`" /inheritance:r /grant:r $grants"))
}

$Allow = [Security.AccessControl.AccessControlType]::Allow

function Get-Trusted {
    New-Object Security.Principal.SecurityIdentifier 'S-1-5-18'
    New-Object Security.Principal.SecurityIdentifier 'S-1-5-32-544'
    [Security.Principal.WindowsIdentity]::GetCurrent().User
}

# Waits for a file that another script has open: whoever writes to it shares it with nobody for a moment.
function Open-File([string]$path, [IO.FileMode]$mode, [IO.FileAccess]$access, [IO.FileShare]$share) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        try { return [IO.FileStream]::new($path, $mode, $access, $share, 4096, [IO.FileOptions]::WriteThrough) }
        catch [IO.FileNotFoundException] { throw }
        catch [IO.DirectoryNotFoundException] { throw }
        catch [IO.IOException] { if ($clock.ElapsedMilliseconds -ge $FileWaitMs) { throw } }
        Start-Sleep -Milliseconds 20
    }
}

function Read-Stream($stream) {
    $bytes = New-Object byte[] $stream.Length
    $at = 0
    while ($at -lt $bytes.Length) {
        $count = $stream.Read($bytes, $at, $bytes.Length - $at)
        if ($count -eq 0) { break }
        $at += $count
    }
    , $bytes
}

function Read-Bytes([string]$path) {
    $stream = Open-File $path ([IO.FileMode]::Open) ([IO.FileAccess]::Read) ([IO.FileShare]'ReadWrite, Delete')
    try { , (Read-Stream $stream) }
    finally { $stream.Dispose() }
}

function Write-Stream($stream, [long]$offset, [byte[]]$bytes) {
    [void]$stream.Seek($offset, [IO.SeekOrigin]::Begin)
    $stream.Write($bytes, 0, $bytes.Length)
    $stream.Flush($true)
}

# Returns the payload of a slot whose digest is right; else nothing.
function Get-Payload([byte[]]$content, [int]$slot) {
    $from = $slot * $SlotBytes
    if ($content.Length -lt $from + $SlotBytes -or $content[$from + 64] -ne 32) { return $null }
    $digest = [Text.Encoding]::ASCII.GetString($content, $from, 64)
    $payload = [Text.Encoding]::UTF8.GetString($content, $from + 65, $SlotBytes - 65).TrimEnd(' ', "`n")
    if ((Get-Sha256 ([Text.Encoding]::UTF8.GetBytes($payload))) -ne $digest.ToLowerInvariant()) { return $null }
    $payload
}

function Get-Whole($value, [long]$most) {
    if (($value -isnot [int] -and $value -isnot [long]) -or $value -lt 0 -or $value -gt $most) { throw "no whole number: $value" }
    [long]$value
}

function Get-String($value) { if ($value -is [string]) { $value } else { throw "no text: $value" } }

# An empty object must stay one: it is read, kept and written as it is.
function Get-Object($value) { if ($value -is [Management.Automation.PSCustomObject]) { $value } else { throw "no object: $value" } }

function Get-Time($value) {
    if ($value -is [string] -and $value -ne '' -and $value -notmatch $TimePattern) { throw "no time: $value" }
    ConvertTo-Utc $value
}

# Returns a payload as it was written. Throws for one that this script does not understand.
function ConvertFrom-Payload([string]$payload) {
    $parsed = ConvertFrom-Json $payload
    if ((Get-Whole $parsed.v 1) -ne 1) { throw 'another layout' }
    $phase = Get-String $parsed.phase
    if ('', 'BEGUN', 'DONE' -cnotcontains $phase) { throw "no phase: $phase" }
    @{
        vm = Get-String $parsed.vm; id = Get-String $parsed.id
        seq = Get-Whole $parsed.seq ([long]::MaxValue); token = Get-Whole $parsed.token ([long]::MaxValue)
        operation = Get-String $parsed.operation; step = Get-Whole $parsed.step ([int]::MaxValue); phase = $phase
        begun_token = Get-Whole $parsed.begun_token ([long]::MaxValue)
        deadline = Get-Time $parsed.deadline; begun_at = Get-Time $parsed.begun_at
        pid = Get-Whole $parsed.pid ([int]::MaxValue)
        # Compared letter by letter, so it must not have become a DateTime.
        pid_started = [regex]::Match($payload, '"pid_started":"([^"]*)"').Groups[1].Value
        owed_checkpoint_type = Get-String $parsed.owed_checkpoint_type
        temporary_checkpoint_type = Get-String $parsed.temporary_checkpoint_type; output = Get-Object $parsed.output
    }
}

# Returns 'MISSING', 'UNREADABLE' or 'PRESENT', and the entry. A payload with the right digest that is not understood
# makes the file unreadable: the older slot would forget the highest token.
function Read-Journal([string]$directory, [string]$vmId) {
    $path = Get-JournalPath $directory $vmId
    if (-not (Test-Path -LiteralPath $path)) { return @{ state = 'MISSING'; slot = 0; entry = $null } }
    ConvertFrom-Journal (Read-Bytes $path) $vmId
}

function ConvertFrom-Journal([byte[]]$content, [string]$vmId) {
    $found = @{ state = 'UNREADABLE'; slot = 0; entry = $null }
    $entries = @()
    foreach ($slot in 0, 1) {
        $payload = Get-Payload $content $slot
        if ($null -eq $payload) { continue }
        try { $entries += @{ slot = $slot; entry = ConvertFrom-Payload $payload } } catch { return $found }
    }
    $newest = $entries | Sort-Object { $_.entry.seq } | Select-Object -Last 1
    if ($null -eq $newest -or $newest.entry.vm -ne $vmId) { return $found }
    @{ state = 'PRESENT'; slot = $newest.slot; entry = $newest.entry }
}

function Get-Slot($entry) {
    $fields = [pscustomobject]@{
        v = 1; seq = $entry.seq; vm = $entry.vm; id = $entry.id; token = $entry.token; operation = $entry.operation
        step = $entry.step; phase = $entry.phase; begun_token = $entry.begun_token; deadline = Get-Text (Format-Utc $entry.deadline)
        begun_at = Get-Text (Format-Utc $entry.begun_at); pid = $entry.pid; pid_started = $entry.pid_started
        owed_checkpoint_type = $entry.owed_checkpoint_type
        temporary_checkpoint_type = $entry.temporary_checkpoint_type; output = $entry.output
    }
    $payload = ConvertTo-Json $fields -Compress -Depth 12
    $payload = [regex]::Replace($payload, '[^\x00-\x7F]', { param($match) '\u{0:x4}' -f [int][char]$match.Value })
    $bytes = [Text.Encoding]::ASCII.GetBytes($payload)
    if ($bytes.Length -gt $SlotBytes - 66) { throw (New-Object IO.IOException 'the journal entry is too long for its slot') }
    $line = (Get-Sha256 $bytes) + ' ' + $payload.PadRight($SlotBytes - 66) + "`n"
    , [Text.Encoding]::ASCII.GetBytes($line)
}

# Writes to the slot that does not hold the newest entry, so that a write that is cut off leaves the newest. Does so only
# if the newest is still the one that was read: on a cluster's shared storage, another node's script has its own mutex.
function Write-Journal([string]$directory, $entry) {
    New-JournalDirectory $directory
    $path = Get-JournalPath $directory $entry.vm
    $stream = Open-File $path ([IO.FileMode]::OpenOrCreate) ([IO.FileAccess]::ReadWrite) ([IO.FileShare]::None)
    try {
        $known = ConvertFrom-Journal (Read-Stream $stream) $entry.vm
        $seq = if ($known.state -eq 'PRESENT') { $known.entry.seq } else { 0 }
        if ($seq -ne $entry.seq) { throw (New-Failure 'JournalChanged,snapshotd' "$path was written by another script meanwhile.") }
        $entry.seq = [long]$seq + 1
        if ($known.state -eq 'PRESENT') { Write-Stream $stream ((1 - $known.slot) * $SlotBytes) (Get-Slot $entry); return }
        # The other slot is blanked: it may hold a higher seq of something else.
        $blank = [Text.Encoding]::ASCII.GetBytes(''.PadRight($SlotBytes - 1) + "`n")
        Write-Stream $stream 0 ([byte[]]((Get-Slot $entry) + $blank))
    }
    finally { $stream.Dispose() }
}

# Returns the installation that owns the journals: '' for none yet, and '?' for a file that cannot be understood; and those
# that it was taken over from, the last one first.
function Read-Ownership([string]$directory) {
    $path = Join-Path $directory 'host.json'
    if (-not (Test-Path -LiteralPath $path -PathType Leaf)) { return @{ owner = ''; former = [string[]]@() } }
    ConvertFrom-Ownership (Read-Bytes $path)
}

function ConvertFrom-Ownership([byte[]]$content) {
    $unknown = @{ owner = '?'; former = [string[]]@() }
    try { $document = ConvertFrom-Json ([Text.Encoding]::UTF8.GetString($content).TrimStart([char]0xFEFF)) }
    catch [ArgumentException] { return $unknown }
    catch [InvalidOperationException] { return $unknown }
    if ($document.v -ne 1 -or $document.installation_id -isnot [string]) { return $unknown }
    $former = [string[]]@()
    if ($document.former_installation_ids -is [array]) {
        $former = [string[]]@($document.former_installation_ids | Where-Object { $_ -is [string] })
    }
    @{ owner = $document.installation_id; former = $former }
}

# Written whole or not at all; the first one stays.
function Write-Owner([string]$directory, [string]$installation) {
    New-JournalDirectory $directory
    $draft = Join-Path $directory ('host.json.' + [Guid]::NewGuid().ToString('N'))
    $text = '{"v":1,"installation_id":' + (ConvertTo-Json $installation -Compress) + "}`n"
    $stream = Open-File $draft ([IO.FileMode]::CreateNew) ([IO.FileAccess]::Write) ([IO.FileShare]::None)
    try { Write-Stream $stream 0 ([Text.Encoding]::UTF8.GetBytes($text)) } finally { $stream.Dispose() }
    try { [IO.File]::Move($draft, (Join-Path $directory 'host.json')) }
    catch [IO.IOException] { [IO.File]::Delete($draft) }
}

# Makes an installation the owner, if $former is it now ('': none, or a file that cannot be understood); returns whether it
# is the owner. Nobody else has the file open between the comparison and the write, on another node neither.
function Set-Owner([string]$directory, [string]$installation, [string]$former) {
    $path = Join-Path $directory 'host.json'
    if (-not (Test-Path -LiteralPath $path -PathType Leaf)) { Write-Owner $directory $installation }
    $stream = Open-File $path ([IO.FileMode]::Open) ([IO.FileAccess]::ReadWrite) ([IO.FileShare]::None)
    try {
        $known = ConvertFrom-Ownership (Read-Stream $stream)
        if ($known.owner -ceq $installation) { return $true }
        $owner = if ($known.owner -ceq '?') { '' } else { $known.owner }
        if ($owner -cne $former) { return $false }
        $told = @(@($owner) + $known.former | Where-Object { $_ -cne '' -and $_ -cne $installation })
        $texts = @($told | ForEach-Object { ConvertTo-Json $_ -Compress }) -join ','
        $text = '{"v":1,"installation_id":' + (ConvertTo-Json $installation -Compress)
        $text += ',"former_installation_ids":[' + $texts + "]}`n"
        $bytes = [Text.Encoding]::UTF8.GetBytes($text)
        Write-Stream $stream 0 $bytes
        $stream.SetLength($bytes.Length)
        $true
    }
    finally { $stream.Dispose() }
}

# Tries whether journals can be written here, and leaves nothing behind; returns why not, or nothing. A look at the host has
# to tell it, before the first effect does.
function Get-JournalError([string]$directory) {
    $probe = Join-Path $directory ('probe.' + [Guid]::NewGuid().ToString('N'))
    try {
        New-JournalDirectory $directory
        $stream = Open-File $probe ([IO.FileMode]::CreateNew) ([IO.FileAccess]::Write) ([IO.FileShare]::None)
        try { Write-Stream $stream 0 (New-Object byte[] (2 * $SlotBytes)) }
        finally {
            $stream.Dispose()
            [IO.File]::Delete($probe)
        }
    }
    catch { Get-HostError $_ }
}

# --- one script at a time on a VM --------------------------------------------------------------------------------------

function Open-VmMutex([string]$vmId) {
    $name = 'Global\snapshotd-' + $vmId.ToLowerInvariant()
    $onWindows = $PSVersionTable.PSEdition -eq 'Desktop' -or [Environment]::OSVersion.Platform -eq 'Win32NT'
    if (-not $onWindows) { return New-Object Threading.Mutex $false, $name }
    $security = New-Object Security.AccessControl.MutexSecurity
    $all = [Security.AccessControl.MutexRights]::FullControl
    foreach ($account in Get-Trusted) {
        $security.AddAccessRule((New-Object Security.AccessControl.MutexAccessRule $account, $all, $Allow))
    }
    $made = $false
    # The constructor that takes a list is .NET Framework's only (documented).
    if ($PSVersionTable.PSEdition -eq 'Desktop') { return New-Object Threading.Mutex $false, $name, ([ref]$made), $security }
    [Threading.MutexAcl]::Create($false, $name, [ref]$made, $security)
}

# A mutex that a dead script abandoned is ours: the journal says how far that script had come.
function Wait-VmMutex($mutex) {
    try { $mutex.WaitOne($MutexWaitMs) } catch [Threading.AbandonedMutexException] { $true }
}

# Ends the script that holds the mutex past its journalled deadline, or works on a step that the command has given up;
# returns false if there is none to end.
function Stop-OverdueScript([string]$directory, $command) {
    $journal = Read-Journal $directory $command.vm_id
    $entry = $journal.entry
    if ($journal.state -ne 'PRESENT' -or $entry.phase -ne 'BEGUN' -or $entry.pid -le 0) { return $false }
    $overdue = $null -ne $entry.deadline -and $entry.deadline -lt [DateTime]::UtcNow
    $thisStep = $entry.operation -ceq $command.operation -and $entry.step -eq [int]$command.step
    $givenUp = $command.kind -eq 'OBSERVE' -and $command.ends_script -and $thisStep
    if (-not $overdue -and -not $givenUp) { return $false }
    if ($entry.pid -eq $PID -and $entry.pid_started -eq $OwnStart) { return $false }
    $started = Get-StartedAt $entry.pid
    if ($started -eq '' -or $entry.pid_started -eq '') { return $false }
    # The same process to the second: on Linux each observer computes the time anew, and not to the millisecond (seen).
    $apart = (ConvertTo-Utc $started) - (ConvertTo-Utc $entry.pid_started)
    if ([Math]::Abs($apart.TotalSeconds) -ge 1) { return $false }
    Stop-Process -Id $entry.pid -Force -ErrorAction SilentlyContinue
    $true
}

# --- reports -----------------------------------------------------------------------------------------------------------

$Powers = @{ Running = 'RUNNING'; Off = 'STOPPED'; Paused = 'PAUSED'; Saved = 'SAVED'; FastSaved = 'SAVED' }
$Transitional = 'Starting', 'Stopping', 'Saving', 'Pausing', 'Resuming', 'Reset', 'FastSaving', 'ForceShutdown', 'ForceReboot'
$Works = @{
    CreatingSnapshot = 'CREATE'; ApplyingSnapshot = 'APPLY'; DeletingSnapshot = 'DELETE'; MergingDisks = 'MERGE'
    ExportingVirtualMachine = 'EXPORT'; MigratingVirtualMachine = 'MIGRATE'; MigratingPlannedVm = 'MIGRATE'
    StorageMigrationPhaseOne = 'MIGRATE'; StorageMigrationPhaseTwo = 'MIGRATE'
    BackingUp = 'BACKUP'; BackingUpVirtualMachine = 'BACKUP'
    # The host's 32769 is not in PowerShell's enum, which has 23769 for it, so it prints as a number (source read).
    '32769' = 'APPLY'; '23769' = 'APPLY'
}
# By Msvm_ConcreteJob.JobType (source read).
$JobWorks = @{ 50 = 'MERGE'; 62 = 'EXPORT'; 70 = 'CREATE'; 71 = 'APPLY'; 72 = 'DELETE' }
# Running (source read); new, starting and shutting down, which are documented and have not been seen here (not verified).
$JobsUnderWay = 4, 2, 3, 6
# Statuses that describe the VM. They do not mean that the hypervisor works on it.
$Conditions = '', 'Ok', 'Degraded', 'PredictiveFailure', 'Dormant', 'SupportingEntityInError', 'ApplicationCriticalState',
    'CommunicationTimedOut', 'CommunicationFailed', 'NoIommu', 'NoIovSupportInNic', 'SwitchNotInIovMode',
    'IovBlockedByPolicy', 'IovNoAvailResources', 'IovGuestDriversNeeded', 'CriticalIoError'

function Get-HyperVVm([string]$vmId) {
    try { return Get-VM -Id $vmId }
    catch {
        # The error id does not tell for sure whether the VM is missing or could not be read (not verified). It is missing
        # only if the host lists its VMs, and not this one.
        $found = @(Get-VM | Where-Object { (Format-Id $_.Id) -eq $vmId.ToLowerInvariant() })
        if ($found.Count -gt 0) { throw }
        Assert-Rights
    }
    $null
}

# Throws if the account cannot be relied on to see VMs. One that has lost its rights sees none, without an error (observed).
# Then WMI shows it no management service either, of which each host has one (inferred).
function Assert-Rights {
    $class = 'Msvm_VirtualSystemManagementService'
    if ($null -ne (Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName $class)) { return }
    $why = "The account that snapshotd signs in with may not see the host's VMs: WMI shows it no $class. Make it a member of " +
        "Hyper-V Administrators. On the host, as an administrator: Add-LocalGroupMember -SID S-1-5-32-578 -Member '<account>'"
    throw (New-Failure 'RightsMissing,snapshotd' $why)
}

# Returns the VM's state without the suffix that says that its storage or configuration cannot be reached.
function Get-State($vm) { [string]$vm.State -replace 'Critical$', '' }

# Returns the jobs under way on a VM. A job that cannot be read is an error: it is never taken for none.
function Get-Job($vm) {
    $space = 'root\virtualization\v2'
    $filter = "Name='{0}'" -f ([string]$vm.Id).ToUpperInvariant()
    $system = Get-CimInstance -Namespace $space -ClassName Msvm_ComputerSystem -Filter $filter
    if ($null -eq $system) { throw (New-Failure 'JobsUnknown,snapshotd' "$($vm.Name): WMI does not have it.") }
    # Not verified: that each job under way on a VM affects its computer system, and not only a part of it.
    $jobs = @(Get-CimAssociatedInstance -InputObject $system -Association Msvm_AffectedJobElement)
    foreach ($job in $jobs) { Assert-Property $job 'JobState' }
    @($jobs | Where-Object { $JobsUnderWay -contains $_.JobState })
}

# Looks at the status words and at the jobs: the words may be empty before a merge begins (inferred).
function Get-Activity($vm, $jobs) {
    $words = @()
    $status = Get-Text $vm.SecondaryOperationalStatus
    if ($Conditions -notcontains $status) {
        $words += if ($Works.ContainsKey($status)) { $Works[$status] } else { 'OTHER' }
    }
    # A VM has one status, which may show something else while disks merge (inferred): all words are looked at.
    foreach ($other in @($vm.OperationalStatus)) {
        $text = Get-Text $other
        if ($text -eq 'InService' -or $Conditions -contains $text) { continue }
        $words += if ($Works.ContainsKey($text)) { $Works[$text] } else { 'OTHER' }
    }
    foreach ($job in $jobs) {
        $type = [int]$job.JobType
        $words += if ($JobWorks.ContainsKey($type)) { $JobWorks[$type] } else { "JOB_$type" }
    }
    if ($Transitional -contains (Get-State $vm)) { $words += 'STATE_CHANGE' }
    @($words | Select-Object -Unique)
}

# Returns whether a file is on the disk. Test-Path also says no if the storage is away (source read), so a file is missing
# only if its directory can be listed, and does not list it.
function Test-File([string]$path) {
    if (Test-Path -LiteralPath $path -PathType Leaf) { return $true }
    $unknown = "Whether $path is there is not known: its directory cannot be listed, or lists it and does not give it."
    try { $listed = @([IO.Directory]::GetFileSystemEntries([IO.Path]::GetDirectoryName($path))) }
    catch { throw (New-Failure 'StorageUnreachable,snapshotd' $unknown) }
    $names = @($listed | ForEach-Object { [IO.Path]::GetFileName($_) })
    if ($names -contains [IO.Path]::GetFileName($path)) { throw (New-Failure 'StorageUnreachable,snapshotd' $unknown) }
    $false
}

function Get-DiskFile([string]$path, $cache) {
    if (-not $cache.Contains($path)) {
        $cache[$path] = if (Test-File $path) { Get-VHD -Path $path } else { $null }
        if ($null -ne $cache[$path]) { Assert-Property $cache[$path] 'ParentPath' }
    }
    $cache[$path]
}

# Returns whether anything is on the disk by that name, a file or a folder.
function Test-Entry([string]$path) { (Test-Path -LiteralPath $path) -or (Test-File $path) }

# Follows the disk's chain down to its base, so that the cache holds every file of it. A missing file ends the chain. A file
# that cannot be read is an error: no chain is cut short.
function Get-DiskReport($drive, $cache) {
    Assert-Property $drive 'Path', 'DiskNumber'
    $path = if ($null -ne $drive.DiskNumber) { '' } else { Get-Text $drive.Path }
    $next = $path
    while ($next -ne '' -and -not $cache.Contains($next)) {
        $file = Get-DiskFile $next $cache
        $next = if ($null -eq $file) { '' } else { Get-Text $file.ParentPath }
    }
    [pscustomobject]@{
        location = '{0}:{1}:{2}' -f [string]$drive.ControllerType, $drive.ControllerNumber, $drive.ControllerLocation
        path = $path
    }
}

# Returns every file of the cache, each once, however many checkpoints stand on it.
function Get-FileReport($cache) {
    foreach ($path in @($cache.Keys)) {
        $file = $cache[$path]
        if ($null -eq $file) { [pscustomobject]@{ path = $path; missing = $true } }
        else {
            [pscustomobject]@{
                path = $path; parent_path = Get-Text $file.ParentPath; file_bytes = [long]$file.FileSize
                size_bytes = [long]$file.Size; identifier = Get-Text $file.DiskIdentifier
                minimum_bytes = [long]$file.MinimumSize; vhd_type = Get-Text $file.VhdType
            }
        }
    }
}

# Returns the processors and memory of a VM, or of a checkpoint, which has the properties of its moment (source read).
function Get-Offering($of) {
    [pscustomobject]@{
        cpu_count = [int]$of.ProcessorCount; memory_bytes = [long]$of.MemoryStartup; dynamic_memory = [bool]$of.DynamicMemoryEnabled
        minimum_bytes = [long]$of.MemoryMinimum; maximum_bytes = [long]$of.MemoryMaximum
    }
}

function Get-CheckpointReport($snapshot, $cache) {
    Assert-Property $snapshot 'Id', 'Name', 'ParentSnapshotId', 'CreationTime', 'State', 'HardDrives'
    [pscustomobject]@{
        checkpoint_id = Format-Id $snapshot.Id
        name = [string]$snapshot.Name
        parent_id = Format-Id $snapshot.ParentSnapshotId
        created_at = Format-Utc $snapshot.CreationTime
        checkpoint_type = [string]$snapshot.SnapshotType
        has_memory = [string]$snapshot.State -eq 'Saved'
        automatic = [bool]$snapshot.IsAutomaticCheckpoint
        system_files_bytes = [long]$snapshot.SizeOfSystemFiles
        disks = @($snapshot.HardDrives | Where-Object { $null -ne $_ } | ForEach-Object { Get-DiskReport $_ $cache })
        offering = Get-Offering $snapshot
    }
}

function Get-Blocker($vm, $drives) {
    $found = @()
    foreach ($drive in $drives) {
        if ($null -ne $drive.DiskNumber) { $found += 'PASS_THROUGH_DISK' }
        if ($drive.SupportPersistentReservations) { $found += 'SHARED_DISK' }
    }
    if (Test-Replica $vm) { $found += 'REPLICA' }
    if (@($vm.FibreChannelHostBusAdapters | Where-Object { $null -ne $_ }).Count -gt 0) { $found += 'FIBRE_CHANNEL' }
    @($found | Sort-Object -Unique)
}

function Test-Replica($vm) { @('Replica', 'TestReplica', 'ExtendedReplica') -contains [string]$vm.ReplicationMode }

function Get-JournalReport($journal) {
    if ($journal.state -ne 'PRESENT') { return [pscustomobject]@{ state = $journal.state } }
    $entry = $journal.entry
    $report = [pscustomobject]@{
        state = 'PRESENT'
        journal_id = $entry.id
        highest_token = $entry.token
        operation = $entry.operation
        step = $entry.step
        phase = if ($entry.phase -eq '') { 'PHASE_UNSPECIFIED' } else { $entry.phase }
        begun_at = Format-Utc $entry.begun_at
        begun_token = $entry.begun_token
    }
    foreach ($action in $Outputs.Keys) {
        if (Test-Output $action $entry.output) { $report | Add-Member -NotePropertyName output -NotePropertyValue $entry.output; break }
    }
    $report
}

# The fields of an action's output with their types. An action that is not in here has none.
$Outputs = @{
    checkpoint_create = @{ checkpoint_id = 'text'; has_memory = 'flag' }
    disk_create = @{ identifier = 'text' }
    disk_export = @{ job_id = 'text' }
    disk_convert = @{ job_id = 'text' }
    disk_place = @{ path = 'text'; size_bytes = 'number'; identifier = 'text' }
    vm_export = @{ job_id = 'text' }
    export_complete = @{ configuration_path = 'text'; size_bytes = 'number' }
}

# Returns whether a journalled output can be an action's: it has all its fields, each of its type, and no others.
function Test-Output([string]$action, $output) {
    $fields = if ($Outputs.ContainsKey($action)) { $Outputs[$action] } else { @{} }
    $told = @($output.PSObject.Properties)
    if ($told.Count -ne $fields.Count) { return $false }
    foreach ($each in $told) {
        if (@($fields.Keys) -cnotcontains $each.Name) { return $false }
        $value = $each.Value
        $typed = switch ($fields[$each.Name]) {
            'text' { $value -is [string] }
            'flag' { $value -is [bool] }
            'number' { $value -is [int] -or $value -is [long] }
        }
        if (-not $typed -or ($each.Name -eq 'checkpoint_id' -and $value -eq '')) { return $false }
    }
    $true
}

# Returns whether the VM still has the CheckpointType that a command set, and nobody else has set another one since. Which
# one a restore brings back is not known beforehand, so any counts.
function Test-Temporary($vm, $entry) {
    $type = $entry.temporary_checkpoint_type
    $entry.owed_checkpoint_type -ne '' -and ($type -eq '' -or $type -eq [string]$vm.CheckpointType)
}

function Get-OwnType($vm, $entry) {
    if ($null -ne $entry -and (Test-Temporary $vm $entry)) { $entry.owed_checkpoint_type } else { [string]$vm.CheckpointType }
}

# Returns the watched files that are on the disk, and those of which nobody can tell: their storage may be away for good, and
# what else the report tells must not depend on it.
function Get-WatchedFile($command) {
    $existing = @(); $unknown = @()
    foreach ($path in @($command.watched_files | Where-Object { $null -ne $_ })) {
        try { if (Test-File $path) { $existing += $path } } catch { $unknown += $path }
    }
    @{ existing = $existing; unknown = $unknown }
}

# By JobState (documented; 32768 is completed with warnings). Any other one counts as running, since waiting is safer.
$JobStates = @{ 7 = 'DONE'; 8 = 'FAILED'; 9 = 'FAILED'; 10 = 'FAILED'; 32768 = 'DONE' }

# The job's object; nothing if the host does not show it. A conversion's job is of a class of its own (documented).
function Find-Job([string]$id) {
    foreach ($class in 'Msvm_ConcreteJob', 'Msvm_StorageJob') {
        $found = @(Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName $class -Filter "InstanceID = '$(ConvertTo-WqlText $id)'")
        if ($found.Count -gt 0) { return $found[0] }
    }
}

# Returns what has become of a job: RUNNING, DONE, FAILED, or GONE: not shown to an account that may see jobs at all.
function Get-JobById([string]$id) {
    $job = Find-Job $id
    if ($null -eq $job) {
        Assert-Rights
        return [pscustomobject]@{ id = $id; state = 'GONE' }
    }
    Assert-Property $job 'JobState'
    $number = [int]$job.JobState
    $state = if ($JobStates.ContainsKey($number)) { $JobStates[$number] } else { 'RUNNING' }
    $text = Get-Text $job.ErrorDescription
    $why = if ($state -ne 'FAILED') { '' } elseif ($text -ne '') { $text } else { "JobState $number" }
    [pscustomobject]@{ id = $id; type = [int]$job.JobType; state = $state; percent = [int]$job.PercentComplete; error = $why }
}

function Get-WatchedJob($command) {
    foreach ($id in @($command.watched_jobs | Where-Object { $null -ne $_ })) { Get-JobById $id }
}

function Get-VmReport([string]$vmId, $vm, [string]$directory, $command) {
    $journal = Read-Journal $directory $vmId
    $watched = Get-WatchedFile $command
    $watchedJobs = @(Get-WatchedJob $command)
    if ($null -eq $vm) {
        return [pscustomobject]@{
            vm_id = $vmId; present = $false; power = 'ABSENT'; journal = Get-JournalReport $journal
            existing_files = @($watched.existing); unknown_files = @($watched.unknown); jobs = $watchedJobs
        }
    }
    Assert-Property $vm 'State', 'CheckpointType', 'ParentSnapshotId', 'SecondaryOperationalStatus', 'OperationalStatus', 'HardDrives'
    $cache = [ordered]@{}
    $drives = @($vm.HardDrives | Where-Object { $null -ne $_ })
    $snapshots = @(Get-VMSnapshot -VM $vm | Sort-Object CreationTime)
    $state = Get-State $vm
    $jobs = @(Get-Job $vm)
    [pscustomobject]@{
        vm_id = Format-Id $vm.Id
        present = $true
        name = [string]$vm.Name
        power = if ($Powers.ContainsKey($state)) { $Powers[$state] } else { 'UNKNOWN' }
        host_state = [string]$vm.State
        checkpoint_type = Get-OwnType $vm $journal.entry
        current_checkpoint_id = Format-Id $vm.ParentSnapshotId
        checkpoints = @($snapshots | ForEach-Object { Get-CheckpointReport $_ $cache })
        disks = @($drives | ForEach-Object { Get-DiskReport $_ $cache })
        activities = @(Get-Activity $vm $jobs)
        percent = [int]($jobs | ForEach-Object { $_.PercentComplete } | Sort-Object | Select-Object -First 1)
        snapshot_blockers = @(Get-Blocker $vm $drives)
        cpu_count = [int]$vm.ProcessorCount
        memory_bytes = [long]$vm.MemoryStartup
        is_replica = Test-Replica $vm
        journal = Get-JournalReport $journal
        existing_files = @($watched.existing)
        unknown_files = @($watched.unknown)
        files = @(Get-FileReport $cache)
        offering = Get-Offering $vm
        generation = [int]$vm.Generation
        jobs = $watchedJobs
    }
}

# A VM that cannot be read does not stop the report of the others.
function Get-VmReportOrError($vm, [string]$directory, $command) {
    try { Get-VmReport (Format-Id $vm.Id) $vm $directory $command }
    catch { [pscustomobject]@{ vm_id = Format-Id $vm.Id; present = $true; name = [string]$vm.Name; error = Get-HostError $_ } }
}

function Get-HostError($record) {
    $cause = $record.Exception.GetBaseException()
    $id = [string]$record.FullyQualifiedErrorId
    # Files are read by the script itself, except by a cmdlet, whose error has the cmdlet in its id.
    $file = $id -notlike '*,Microsoft.*' -and ($cause -is [IO.IOException] -or $cause -is [UnauthorizedAccessException])
    [pscustomobject]@{
        id = if ($file) { 'JournalFailed,snapshotd' } else { $id }
        message = [string]$record.Exception.Message
    }
}

function Get-Report($command, [string]$directory) {
    Get-VmReport $command.vm_id (Get-HyperVVm $command.vm_id) $directory $command
}

# --- before --------------------------------------------------------------------------------------------------------------

# The facts that each action depends on.
$Compared = @{
    vm_start = @('power')
    vm_stop = @('power')
    checkpoint_create = @('power', 'checkpoint_ids', 'current_checkpoint_id')
    checkpoint_rename = @('checkpoint_ids')
    checkpoint_restore = @('power', 'checkpoint_ids', 'current_checkpoint_id', 'leaf_paths')
    checkpoint_remove = @('checkpoint_ids', 'chain_files')
    volume_attach = @('drives')
    volume_detach = @('drives')
    volume_resize = @('drives')
    disk_create = @('absent_files')
    files_delete = @()
    vm_configure = @('power', 'offering')
    disk_export = @('checkpoint_ids')
    disk_convert = @('power', 'leaf_paths')
    disk_place = @()
    vm_export = @('power', 'checkpoint_ids', 'current_checkpoint_id', 'drives', 'offering')
    export_complete = @()
    export_end = @()
    vm_remove = @('power', 'checkpoint_ids', 'drives', 'chain_files')
    vm_import = @('vm_absent')
    vm_release = @('power', 'checkpoint_ids', 'current_checkpoint_id', 'drives', 'offering')
}

# By action: the activities that do not hold it up, neither its effect nor an observation of it. JOB: any JOB_<type>.
$Beside = @{
    vm_start = @('MERGE')
    vm_stop = @('MERGE')
    export_end = @('EXPORT', 'JOB')
}

# Likewise for an observation alone: the fence must rise though the job that the action has begun is at work.
$BesideLook = @{
    vm_export = @('EXPORT', 'JOB')
    disk_export = @('EXPORT', 'JOB')
    disk_convert = @('EXPORT', 'JOB')
}

# Actions that act though the host does not have the VM.
$OfAbsent = 'files_delete', 'disk_place', 'vm_import', 'export_complete', 'export_end'

# States of a VM that is being shut down. A guest may hang in one for ever, and a turn-off gets the VM out (not verified).
$ShuttingDown = 'Stopping', 'ForceShutdown'

# Returns the name of the command's action, which is that of its field; nothing if this script knows none of its fields.
function Get-ActionName($command) { @($Compared.Keys) | Where-Object { $command.$_ -is [Management.Automation.PSCustomObject] } }

function Test-SameOffering($one, $other) {
    foreach ($name in 'cpu_count', 'memory_bytes', 'minimum_bytes', 'maximum_bytes') {
        if ([long]$one.$name -ne [long]$other.$name) { return $false }
    }
    [bool]$one.dynamic_memory -eq [bool]$other.dynamic_memory
}

function Test-Before($command, $report) {
    $action = Get-ActionName $command
    if (-not $report.present -and $OfAbsent -cnotcontains $action) { return $false }
    $before = $command.before
    foreach ($fact in $Compared[$action]) {
        $same = switch ($fact) {
            'power' { (Get-Text $before.power) -ceq $report.power }
            'checkpoint_ids' { Test-SameSet $before.checkpoint_ids @($report.checkpoints | ForEach-Object { $_.checkpoint_id }) }
            'current_checkpoint_id' { (Get-Text $before.current_checkpoint_id) -eq $report.current_checkpoint_id }
            'leaf_paths' { Test-SameSet $before.leaf_paths @($report.disks | ForEach-Object { $_.path } | Where-Object { $_ -ne '' }) }
            'chain_files' { Test-SameSet $before.chain_files @($report.files | ForEach-Object { $_.path }) }
            'drives' { Test-SameSet $before.drives @($report.disks | ForEach-Object { '{0}={1}' -f $_.location, $_.path }) }
            'offering' { Test-SameOffering $before.offering $report.offering }
            'absent_files' { @($before.absent_files | Where-Object { $null -ne $_ -and (Test-Entry $_) }).Count -eq 0 }
            # A command that does not ask for the absence finds the VM different, whether it is there or not.
            'vm_absent' { $before.vm_absent -eq $true -and -not $report.present }
        }
        if (-not $same) { return $false }
    }
    $true
}

# Returns whether the hypervisor works on the VM in a way that the command's action has to wait for.
function Test-AtWork($command, $report) {
    if (-not $report.present) { return $false }
    $action = Get-ActionName $command
    $harmless = @(if ("$action" -ne '') { $Beside[$action]; if ($command.kind -eq 'OBSERVE') { $BesideLook[$action] } })
    $turnsOff = $action -eq 'vm_stop' -and $command.vm_stop.mode -ceq 'TURN_OFF' -and $ShuttingDown -contains ($report.host_state -replace 'Critical$', '')
    # An observation raises the fence while the VM is between two powers, too: it may stay there for ever.
    if ($command.kind -eq 'OBSERVE' -or $turnsOff) { $harmless += 'STATE_CHANGE' }
    @($report.activities | Where-Object { $harmless -notcontains ($_ -creplace '^JOB_.*$', 'JOB') }).Count -gt 0
}

# --- actions -------------------------------------------------------------------------------------------------------------

$Stops = @{ SHUTDOWN = 'STOPPED'; TURN_OFF = 'STOPPED'; SAVE = 'SAVED'; PAUSE = 'PAUSED' }

# Errors that prove that nothing was begun, ours first. OperationFailed and OperationTimeout do not: what was begun may
# still take effect. (Which errors come before anything is begun is inferred from their names.)
$Refusals = 'CheckpointsDisabled', 'CheckpointNotFound', 'DriveNotFound', 'FileInUse', 'AnotherDisk',
    'DiskMoved', 'CopyExists', 'CopyNotAlone', 'CopyNotFound',
    'ExportIncomplete', 'ExportInUse', 'ExportMissing', 'ExportNotOurs', 'ExportOutdated', 'ImportIncompatible',
    'InvalidState', 'InvalidParameter', 'ObjectNotFound', 'AccessDenied', 'NotSupported', 'OutOfMemory'

# A cmdlet's result may show only after it has returned (observed).
function Wait-Until([scriptblock]$reached, [string]$otherwise) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        # The cmdlet has returned, so a look that fails is no refusal: look again until the time is over.
        $failed = ''
        try { $result = & $reached } catch { $result, $failed = $null, " The last look failed: $($_.Exception.Message)" }
        if ($result) { return $result }
        if ($clock.ElapsedMilliseconds -ge $ResultWaitMs) {
            throw (New-Object TimeoutException "$otherwise $($ResultWaitMs / 1000) s after the cmdlet returned.$failed")
        }
        Start-Sleep -Milliseconds 50
    }
}

# Returns a checkpoint of this VM, so that one of another VM can never be acted on.
function Get-OwnCheckpoint($vm, [string]$checkpointId) {
    $found = @(Get-VMSnapshot -VM $vm | Where-Object { (Format-Id $_.Id) -eq $checkpointId.ToLowerInvariant() })
    if ($found.Count -ne 1) {
        throw (New-Failure 'CheckpointNotFound,snapshotd' "$($vm.Name) has no checkpoint $checkpointId.")
    }
    $found[0]
}

# --- jobs of the hypervisor ----------------------------------------------------------------------------------------------

$WmiSpace = 'root\virtualization\v2'
# What a method returns when it refuses, and the error that a cmdlet has for it (source read). Any other: OperationFailed.
$WmiErrors = @{
    32768 = 'OperationFailed'; 32769 = 'AccessDenied'; 32770 = 'NotSupported'; 32772 = 'OperationTimeout'
    32773 = 'InvalidParameter'; 32774 = 'ObjectInUse'; 32775 = 'InvalidState'; 32778 = 'OutOfMemory'
    32779 = 'ObjectNotFound'; 32789 = 'ObjectNotFound'
}
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

# --- exports -------------------------------------------------------------------------------------------------------------

# The file by which a folder of ours is known. It is written before anything else, and removed last.
$ExportMarker = 'snapshotd.export'
$ExportJob = 62
# What Compare-VM says of files that are not there: 40010 is a disk (documented); that the others from 40000 on are about
# storage too is inferred. What a host lacks, such as a switch (33012), says nothing of the export.
$MissingFrom = 40000

function New-ExportFailure([string]$directory, $record) {
    New-Failure 'ExportFolderFailed,snapshotd' "${directory}: $($record.Exception.GetBaseException().Message)"
}

# Returns the root of a folder of ours: of a copy's, *.partial-<number>, the folder above it; of any other, which is an
# export's, the one two above. A drive and a share have nothing above them (documented), and are their own root.
function Get-FolderRoot([string]$directory) {
    $levels = if ($directory -cmatch '\.partial-[0-9]+\z') { 1 } else { 2 }
    $root = $directory
    foreach ($level in 1..$levels) {
        $above = [IO.Path]::GetDirectoryName($root)
        if ($above) { $root = $above }
    }
    $root
}

# The root must be there: it is never made, since it may be a share that is away.
function Assert-FolderRoot([string]$directory) {
    $root = Get-FolderRoot $directory
    if (Test-Path -LiteralPath $root -PathType Container) { return }
    throw (New-Failure 'ExportFolderFailed,snapshotd' "$root is not there, or cannot be reached from this host.")
}

# A folder that is there already is refused: what is in it is of another attempt. What is noted goes into its marker.
function New-ExportFolder([string]$directory, [string]$noted) {
    Assert-FolderRoot $directory
    if (Test-Path -LiteralPath $directory) { throw (New-Failure 'ExportFolderExists,snapshotd' "$directory is there already.") }
    try {
        [void][IO.Directory]::CreateDirectory($directory)
        [IO.File]::WriteAllText([IO.Path]::Combine($directory, $ExportMarker), $noted)
    }
    catch { throw (New-ExportFailure $directory $_) }
}

# When each disk of a VM was last written to, a line each. That a VM that is on for a while changes it is inferred; what
# changes it without need only keeps the VM on its host.
function Get-WriteTimes($vm) {
    $lines = [string[]]@(Get-LeafPath $vm | ForEach-Object {
        $ticks = if (Test-Path -LiteralPath $_ -PathType Leaf) { [IO.File]::GetLastWriteTimeUtc($_).Ticks } else { 0 }
        "$ticks $_`n"
    })
    [Array]::Sort($lines, [StringComparer]::Ordinal)
    $lines -join ''
}

# Throws if a VM of this host has a disk, or a frozen one, in a folder: somebody has imported it there in place.
function Assert-ExportUnused([string]$directory) {
    $within = $directory.TrimEnd('\', '/').Replace('\', '/') + '/'
    foreach ($vm in Get-VM) {
        $drives = @($vm.HardDrives) + @(Get-VMSnapshot -VM $vm | ForEach-Object { $_.HardDrives })
        foreach ($drive in @($drives | Where-Object { $null -ne $_ })) {
            $path = (Get-Text $drive.Path).Replace('\', '/')
            if (-not $path.StartsWith($within, [StringComparison]::OrdinalIgnoreCase)) { continue }
            throw (New-Failure 'ExportInUse,snapshotd' "$directory stays: VM $($vm.Name) uses $($drive.Path).")
        }
    }
}

# Without the marker only an empty folder is removed: the script that made it has died before it wrote the marker.
function Remove-ExportFolder([string]$directory) {
    Assert-FolderRoot $directory
    if (-not (Test-Path -LiteralPath $directory)) { return }
    $marked = Test-Path -LiteralPath ([IO.Path]::Combine($directory, $ExportMarker)) -PathType Leaf
    if (-not $marked -and [IO.Directory]::GetFileSystemEntries($directory).Count -gt 0) {
        throw (New-Failure 'ExportNotOurs,snapshotd' "$directory stays: it has no file $ExportMarker, so it is not ours.")
    }
    Assert-ExportUnused $directory
    try {
        foreach ($entry in [IO.Directory]::GetFileSystemEntries($directory)) {
            if ([IO.Path]::GetFileName($entry) -eq $ExportMarker) { continue }
            if ([IO.Directory]::Exists($entry)) { [IO.Directory]::Delete($entry, $true) } else { [IO.File]::Delete($entry) }
        }
        [IO.Directory]::Delete($directory, $true)
    }
    catch { throw (New-ExportFailure $directory $_) }
}

# Returns the file that an export is imported by (its place is documented).
function Get-ExportConfiguration([string]$directory) {
    $machines = [IO.Path]::Combine($directory, 'Virtual Machines')
    $found = @()
    if (Test-Path -LiteralPath $machines) { $found = @([IO.Directory]::GetFiles($machines, '*.vmcx')) }
    if ($found.Count -eq 1) { return $found[0] }
    throw (New-Failure 'ExportIncomplete,snapshotd' "$machines has $($found.Count) configurations.")
}

function Format-Incompatibility($found) { @($found | ForEach-Object { "$($_.MessageId): $($_.Message)" }) -join ' ' }

# Throws if something of an export is missing. The VM may be registered here, so it is asked as for a copy under a new id.
function Assert-ExportComplete([string]$configuration) {
    $report = Compare-VM -Path $configuration -Copy -GenerateNewId
    $missing = @($report.Incompatibilities | Where-Object { $null -ne $_ -and [int64]$_.MessageId -ge $MissingFrom })
    if ($missing.Count -gt 0) { throw (New-Failure 'ExportIncomplete,snapshotd' (Format-Incompatibility $missing)) }
}

# Returns the jobs to end: the one that is named; or, if none is known by name, the exports of this VM.
function Get-ExportJobId($vm, $told) {
    $named = Get-Text $told.job_id
    if ($named -ne 'unknown') { return @($named | Where-Object { $_ -ne '' }) }
    if ($null -eq $vm -or -not (Test-Path -LiteralPath $told.directory)) { return @() }
    @(Get-Job $vm | Where-Object { [int]$_.JobType -eq $ExportJob } | ForEach-Object { [string]$_.InstanceID })
}

# --- copies of disks -----------------------------------------------------------------------------------------------------

# Begins a job that fills a folder of its own. What an earlier attempt of this step has left there goes first.
function Start-Copy($vm, [string]$directory, [scriptblock]$begin) {
    Remove-ExportFolder $directory
    New-ExportFolder $directory ''
    try { @{ job_id = [string](& $begin) } }
    catch {
        # A host that has refused it works for nobody. Else the job, which nobody knows, is left to be ended.
        if (@(Get-Job $vm).Count -eq 0) { Remove-ExportFolder $directory }
        throw
    }
}

# Returns the disks in a job's folder, wherever it has put them: what it names them is not documented.
function Get-CopiedDisk([string]$directory) {
    if (-not (Test-Path -LiteralPath $directory)) { return }
    $files = (New-Object IO.DirectoryInfo $directory).GetFiles('*', [IO.SearchOption]::AllDirectories)
    @($files | Where-Object { '.vhdx', '.vhd' -contains $_.Extension } | ForEach-Object { $_.FullName })
}

function Wait-Power($vm, [string]$power) {
    [void](Wait-Until { $now = Get-HyperVVm $vm.Id; $now -and $Powers[(Get-State $now)] -eq $power } "the VM is not $power")
}

function Get-LeafPath($vm) { $vm.HardDrives | Where-Object { $null -ne $_ -and $null -eq $_.DiskNumber } | ForEach-Object { [string]$_.Path } }

# Returns the CheckpointType that a command sets before it acts; '': none. If the VM is off, any type does.
function Get-TypeToSet($command, $vm, [string]$own) {
    if ((Get-ActionName $command) -ne 'checkpoint_create' -or $own -eq 'Disabled') { return '' }
    $create = $command.checkpoint_create
    $needed = if ($create.with_memory) { 'Standard' }
    elseif ($command.before.power -ne 'RUNNING') { '' }
    elseif ($create.allow_fallback) { 'Production' }
    else { 'ProductionOnly' }
    if ($needed -eq [string]$vm.CheckpointType) { '' } else { $needed }
}

# Returns the disk at a place of the VM, as the host has it now; nothing if there is none.
function Get-Attached($vm, [string]$location) {
    $now = Get-HyperVVm $vm.Id
    if ($null -eq $now) { return }
    @($now.HardDrives | Where-Object { $null -ne $_ }) |
        Where-Object { ('{0}:{1}:{2}' -f [string]$_.ControllerType, $_.ControllerNumber, $_.ControllerLocation) -eq $location }
}

# Returns every file that a disk of a VM of this host begins with, or one of a checkpoint, with the VM's name.
function Get-Head {
    foreach ($vm in @(Get-VM)) {
        $drives = @($vm.HardDrives) + @(Get-VMSnapshot -VM $vm | ForEach-Object { $_.HardDrives })
        foreach ($drive in @($drives | Where-Object { $null -ne $_ -and $null -eq $_.DiskNumber })) {
            @{ name = [string]$vm.Name; path = Get-Text $drive.Path }
        }
    }
}

# Returns the one form of a path that its spellings share, but for the case of letters.
function Format-Path([string]$path) {
    $bare = $path -replace '^\\\\\?\\UNC\\', '\\' -replace '^\\\\\?\\(?!Volume\{)', ''
    # Windows PowerShell throws for what is left of the prefix \\?\, and for what no file is named.
    try { [IO.Path]::GetFullPath($bare) } catch { $bare }
}

# Throws if a disk of any VM of this host, or of a checkpoint, stands on one of the files: Hyper-V does not notice before the
# second VM starts (observed). A chain that cannot be read throws as well, unless only those count that can.
function Assert-InNoChain([string[]]$paths, [switch]$Readable) {
    $wanted = @($paths | ForEach-Object { Format-Path $_ })
    $cache = [ordered]@{}
    foreach ($head in @(Get-Head)) {
        $next = $head.path
        # What is in the cache was looked at, with all that it stands on.
        while ($next -ne '' -and -not $cache.Contains($next)) {
            if ($wanted -contains (Format-Path $next)) { throw (New-Failure 'FileInUse,snapshotd' "$next is in a chain of $($head.name).") }
            $file = try { Get-DiskFile $next $cache } catch { if (-not $Readable) { throw } }
            $next = if ($null -eq $file) { '' } else { Get-Text $file.ParentPath }
        }
    }
}

# Throws if a file is not the virtual disk of that identifier.
function Assert-Disk([string]$path, [string]$identifier) {
    $found = try { Format-Id (Get-VHD -Path $path).DiskIdentifier } catch { 'none that can be read' }
    if ($found -eq $identifier.ToLowerInvariant()) { return }
    throw (New-Failure 'AnotherDisk,snapshotd' "$path is another virtual disk by now ($found).")
}

# The parameters of Set-VMMemory, by what an offering calls them.
$OfMemory = [ordered]@{
    memory_bytes = 'StartupBytes'; dynamic_memory = 'DynamicMemoryEnabled'; minimum_bytes = 'MinimumBytes'; maximum_bytes = 'MaximumBytes'
}

# Returns what a command sets of a VM's memory, by the cmdlet's parameters. Whole numbers may come as text; 0: as it is.
function Get-MemoryChange($told) {
    $changes = @{}
    foreach ($name in $OfMemory.Keys) {
        $value = $told.$name
        if ($name -eq 'dynamic_memory') { if ($null -ne $value) { $changes[$OfMemory[$name]] = [bool]$value } }
        elseif ([long]$value -ne 0) { $changes[$OfMemory[$name]] = [long]$value }
    }
    $changes
}

# Returns whether a VM has of processors and memory what a command sets.
function Test-Configured($vm, $told) {
    $offering = Get-Offering $vm
    if ([long]$told.cpu_count -ne 0 -and $offering.cpu_count -ne [long]$told.cpu_count) { return $false }
    foreach ($name in 'memory_bytes', 'minimum_bytes', 'maximum_bytes') {
        if ([long]$told.$name -ne 0 -and $offering.$name -ne [long]$told.$name) { return $false }
    }
    $null -eq $told.dynamic_memory -or $offering.dynamic_memory -eq [bool]$told.dynamic_memory
}

# Removes a VM, whose disks stay. Without -Force it asks (documented). Checkpoints would go along: checkpoint_ids tells of them.
function Remove-FromHost($vm) {
    $id = [string]$vm.Id
    Remove-VM -VM $vm -Force -Confirm:$false
    [void](Wait-Until { $null -eq (Get-HyperVVm $id) } 'the host still has the VM')
}

# What each action needs to know, and what it does. Its output, if it has any, is a hashtable.
$Actions = @{
    vm_start = @{
        complete = { $true }
        act = {
            param($vm)
            if ((Get-State $vm) -eq 'Paused') { Resume-VM -VM $vm -Confirm:$false } else { Start-VM -VM $vm -Confirm:$false }
            Wait-Power $vm 'RUNNING'
        }
    }
    vm_stop = @{
        complete = { param($told) @($Stops.Keys) -ccontains $told.mode }
        act = {
            param($vm, $told)
            # Never with -Force: a guest that cannot shut down is an error, not a power cut.
            switch ($told.mode) {
                'SHUTDOWN' { Stop-VM -VM $vm -Confirm:$false }
                'TURN_OFF' { Stop-VM -VM $vm -TurnOff -Confirm:$false }
                'SAVE' { Save-VM -VM $vm -Confirm:$false }
                'PAUSE' { Suspend-VM -VM $vm -Confirm:$false }
            }
            Wait-Power $vm $Stops[$told.mode]
        }
    }
    checkpoint_create = @{
        complete = { param($told) $told.checkpoint_name }
        act = {
            param($vm, $told, [string]$own, [string]$toSet)
            if ($own -eq 'Disabled') { throw (New-Failure 'CheckpointsDisabled,snapshotd' "$($vm.Name): checkpoints disabled.") }
            if ($toSet -ne '') { Set-VM -VM $vm -CheckpointType $toSet -Confirm:$false }
            $known = Get-Set @(Get-VMSnapshot -VM $vm | ForEach-Object { Format-Id $_.Id })
            $name = [string]$told.checkpoint_name
            Checkpoint-VM -VM $vm -SnapshotName $name -Confirm:$false
            # It has been seen to return before the checkpoint is listed, and under its default name (observed).
            $made = Wait-Until {
                Get-VMSnapshot -VM $vm | Where-Object { -not $known.Contains((Format-Id $_.Id)) -and $_.Name -ceq $name }
            } "no new checkpoint named $name" | Select-Object -First 1
            Assert-Property $made 'State'
            @{ checkpoint_id = Format-Id $made.Id; has_memory = [string]$made.State -eq 'Saved' }
        }
    }
    checkpoint_rename = @{
        complete = { param($told) $told.checkpoint_id -and $told.checkpoint_name }
        act = {
            param($vm, $told)
            $checkpoint = Get-OwnCheckpoint $vm $told.checkpoint_id
            $name = [string]$told.checkpoint_name
            Rename-VMSnapshot -VMSnapshot $checkpoint -NewName $name -Confirm:$false
            [void](Wait-Until { (Get-OwnCheckpoint $vm $checkpoint.Id.ToString()).Name -ceq $name } "the checkpoint is not named $name")
        }
    }
    checkpoint_restore = @{
        complete = { param($told) $told.checkpoint_id }
        act = {
            param($vm, $told)
            $id = $told.checkpoint_id.ToLowerInvariant()
            $old = Get-Set @(Get-LeafPath $vm)
            Restore-VMSnapshot -VMSnapshot (Get-OwnCheckpoint $vm $id) -Confirm:$false
            [void](Wait-Until {
                    $now = Get-HyperVVm $vm.Id
                    $now -and (Format-Id $now.ParentSnapshotId) -eq $id -and -not $old.Overlaps([string[]]@(Get-LeafPath $now))
                } "checkpoint $id is not applied")
        }
    }
    checkpoint_remove = @{
        complete = { param($told) $told.checkpoint_id }
        act = {
            param($vm, $told)
            $id = $told.checkpoint_id.ToLowerInvariant()
            Remove-VMSnapshot -VMSnapshot (Get-OwnCheckpoint $vm $id) -Confirm:$false
            [void](Wait-Until { @(Get-VMSnapshot -VM $vm | Where-Object { (Format-Id $_.Id) -eq $id }).Count -eq 0 } "checkpoint $id is still listed")
        }
    }
    volume_attach = @{
        complete = { param($told) $told.location -and $told.path }
        act = {
            param($vm, $told)
            $place = ([string]$told.location).Split(':')
            Assert-InNoChain $told.path -Readable
            Add-VMHardDiskDrive -VM $vm -ControllerType $place[0] -ControllerNumber $place[1] -ControllerLocation $place[2] -Path $told.path -Confirm:$false
            [void](Wait-Until { Get-Attached $vm $told.location } "nothing is attached at $($told.location)")
        }
    }
    volume_detach = @{
        complete = { param($told) $told.location -and $told.path }
        act = {
            param($vm, $told)
            $drive = Get-Attached $vm $told.location
            if ($null -eq $drive) { throw (New-Failure 'DriveNotFound,snapshotd' "Nothing is attached at $($told.location).") }
            Remove-VMHardDiskDrive -VMHardDiskDrive $drive -Confirm:$false
            [void](Wait-Until { $null -eq (Get-Attached $vm $told.location) } "there still is a disk at $($told.location)")
        }
    }
    volume_resize = @{
        complete = { param($told) $told.location -and $told.path -and [uint64]$told.size_bytes -gt 0 }
        act = {
            param($vm, $told)
            Resize-VHD -Path $told.path -SizeBytes ([uint64]$told.size_bytes) -Confirm:$false
            [void](Wait-Until { (Get-VHD -Path $told.path).Size -eq [uint64]$told.size_bytes } "$($told.path) does not have $($told.size_bytes) bytes")
        }
    }
    disk_create = @{
        complete = { param($told) $told.path -and [uint64]$told.size_bytes -gt 0 }
        act = {
            param($vm, $told)
            [void](New-VHD -Path $told.path -SizeBytes ([uint64]$told.size_bytes) -Dynamic -Confirm:$false)
            [void](Wait-Until { Test-File $told.path } "$($told.path) is not there")
            @{ identifier = Format-Id (Get-VHD -Path $told.path).DiskIdentifier }
        }
    }
    files_delete = @{
        complete = { param($told) @($told.paths | Where-Object { $null -ne $_ }).Count -gt 0 }
        act = {
            param($vm, $told)
            # All are looked at before the first one goes.
            $there = [string[]]@($told.paths | Where-Object { Test-Entry $_ })
            foreach ($path in $there) { if ($told.only_identifier) { Assert-Disk $path $told.only_identifier } }
            if ($there.Count -gt 0) { Assert-InNoChain $there }
            foreach ($path in $there) { [IO.File]::Delete($path) }
            [void](Wait-Until { @($there | Where-Object { Test-Entry $_ }).Count -eq 0 } 'the files are still there')
        }
    }
    disk_export = @{
        complete = { param($told) $told.checkpoint_id -and $told.location -and $told.directory }
        act = {
            param($vm, $told)
            $checkpoint = Get-OwnCheckpoint $vm $told.checkpoint_id
            $places = @($checkpoint.HardDrives | Where-Object { $null -ne $_ } |
                    ForEach-Object { '{0}:{1}:{2}' -f [string]$_.ControllerType, $_.ControllerNumber, $_.ControllerLocation })
            if ($places -notcontains $told.location) {
                throw (New-Failure 'DiskMoved,snapshotd' "Checkpoint $($checkpoint.Name) has no disk at $($told.location).")
            }
            $others = [string[]]@($places | Where-Object { $_ -ne $told.location })
            Start-Copy $vm $told.directory { Start-Export $vm $told.directory $checkpoint $others }
        }
    }
    disk_convert = @{
        complete = { param($told) $told.path -and $told.location -and $told.directory }
        act = {
            param($vm, $told)
            $drive = Get-Attached $vm $told.location
            $there = if ($null -eq $drive) { 'Nothing' } else { Get-Text $drive.Path }
            if ($there -ne $told.path) {
                throw (New-Failure 'DiskMoved,snapshotd' "$there is at $($told.location), not $($told.path).")
            }
            Start-Copy $vm $told.directory { Start-Conversion $told.path ([IO.Path]::Combine($told.directory, 'disk.vhdx')) }
        }
    }
    disk_place = @{
        complete = { param($told) $told.directory -and $told.target }
        act = {
            param($vm, $told)
            Assert-FolderRoot $told.directory
            $found = @(Get-CopiedDisk $told.directory)
            if ($found.Count -gt 1) { throw (New-Failure 'CopyNotFound,snapshotd' "$($told.directory) has $($found.Count) disks.") }
            if ($found.Count -eq 1) {
                $path = [IO.Path]::ChangeExtension($told.target, [IO.Path]::GetExtension($found[0]))
                $parent = Get-Text (Get-VHD -Path $found[0]).ParentPath
                if ($parent -ne '') { throw (New-Failure 'CopyNotAlone,snapshotd' "$($found[0]) does not stand alone: it is based on $parent.") }
                if (Test-Entry $path) { throw (New-Failure 'CopyExists,snapshotd' "$path is there already.") }
                try { [IO.File]::Move($found[0], $path) } catch { throw (New-ExportFailure $path $_) }
            }
            else {
                # An earlier script has moved it.
                $there = @('.vhdx', '.vhd' | ForEach-Object { [IO.Path]::ChangeExtension($told.target, $_) } | Where-Object { Test-Entry $_ })
                if ($there.Count -ne 1) { throw (New-Failure 'CopyNotFound,snapshotd' "$($told.directory) has no disk.") }
                $path = $there[0]
            }
            Remove-ExportFolder $told.directory
            $disk = Get-VHD -Path $path
            @{ path = $path; size_bytes = [long]$disk.FileSize; identifier = Format-Id $disk.DiskIdentifier }
        }
    }
    vm_configure = @{
        # One cmdlet, so that what is refused has changed nothing.
        complete = { param($told) ([long]$told.cpu_count -ne 0) -ne ((Get-MemoryChange $told).Count -gt 0) }
        act = {
            param($vm, $told)
            $memory = Get-MemoryChange $told
            if ($memory.Count -eq 0) { Set-VMProcessor -VM $vm -Count ([long]$told.cpu_count) -Confirm:$false }
            else { Set-VMMemory -VM $vm @memory -Confirm:$false }
            [void](Wait-Until { $now = Get-HyperVVm $vm.Id; $now -and (Test-Configured $now $told) } 'the VM does not have what was set')
        }
    }
    vm_export = @{
        complete = { param($told) $told.directory }
        act = {
            param($vm, $told)
            $directory = [string]$told.directory
            New-ExportFolder $directory (Get-WriteTimes $vm)
            try { $job = Start-Export $vm $directory $null @() }
            catch {
                # A host that has refused it works for nobody. Else the job, which nobody knows, is left to be ended.
                if (@(Get-Job $vm | Where-Object { [int]$_.JobType -eq $ExportJob }).Count -eq 0) { Remove-ExportFolder $directory }
                throw
            }
            @{ job_id = $job }
        }
    }
    export_complete = @{
        complete = { param($told) $told.directory -and $told.target }
        act = {
            param($vm, $told)
            $directory, $target = [string]$told.directory, [string]$told.target
            Assert-FolderRoot $directory
            if (Test-Path -LiteralPath $directory) {
                Assert-ExportComplete (Get-ExportConfiguration $directory)
                try { [IO.Directory]::Move($directory, $target) } catch { throw (New-ExportFailure $directory $_) }
            }
            # Else an earlier script has given it its final name.
            $configuration = Get-ExportConfiguration $target
            $files = (New-Object IO.DirectoryInfo $target).GetFiles('*', [IO.SearchOption]::AllDirectories)
            $size = [long]($files | Measure-Object -Property Length -Sum).Sum
            @{ configuration_path = $configuration; size_bytes = $size }
        }
    }
    export_end = @{
        complete = { param($told) $told.directory }
        act = {
            param($vm, $told)
            $jobs = @(Get-ExportJobId $vm $told)
            foreach ($id in $jobs) { Stop-JobById $id }
            foreach ($id in $jobs) {
                [void](Wait-Until { (Get-JobById $id).state -ne 'RUNNING' } "job $id is still at work")
            }
            Remove-ExportFolder ([string]$told.directory)
        }
    }
    vm_remove = @{
        complete = { $true }
        act = { param($vm) Remove-FromHost $vm }
    }
    vm_release = @{
        complete = { param($told) $told.directory }
        act = {
            param($vm, $told)
            $directory = [string]$told.directory
            Assert-FolderRoot $directory
            $marker = [IO.Path]::Combine($directory, $ExportMarker)
            if (-not (Test-Path -LiteralPath $marker -PathType Leaf)) {
                throw (New-Failure 'ExportMissing,snapshotd' "$directory is not there, or cannot be reached from this host.")
            }
            [void](Get-ExportConfiguration $directory)
            if ([IO.File]::ReadAllText($marker) -cne (Get-WriteTimes $vm)) {
                throw (New-Failure 'ExportOutdated,snapshotd' "A disk of $($vm.Name) was written to since it was exported.")
            }
            Remove-FromHost $vm
        }
    }
    vm_import = @{
        complete = { param($told) $told.configuration_path }
        act = {
            param($vm, $told, $own, $toSet, [string]$id)
            $path = [string]$told.configuration_path
            if (-not (Test-Path -LiteralPath $path -PathType Leaf)) {
                throw (New-Failure 'ExportMissing,snapshotd' "$path is not there, or cannot be reached from this host.")
            }
            $report = Compare-VM -Path $path -Register
            $found = @($report.Incompatibilities | Where-Object { $null -ne $_ })
            if ($found.Count -gt 0) { throw (New-Failure 'ImportIncompatible,snapshotd' (Format-Incompatibility $found)) }
            if ((Format-Id $report.VM.Id) -ne $id.ToLowerInvariant()) {
                throw (New-Failure 'ImportIncompatible,snapshotd' "$path is of VM $($report.VM.Id), not of $id.")
            }
            [void](Import-VM -CompatibilityReport $report -Confirm:$false)
            [void](Wait-Until { Get-HyperVVm $id } "VM $id is not there")
        }
    }
}

# Carries an effect out; returns the output as an object, an empty one if there is none. Nothing else that a cmdlet
# returns gets into it.
function Invoke-Action($command, $vm, [string]$own, [string]$toSet) {
    $name = Get-ActionName $command
    $output = & $Actions[$name].act $vm $command.$name $own $toSet $command.vm_id | Where-Object { $_ -is [hashtable] }
    if ($null -eq $output) { [pscustomobject]@{} } else { [pscustomobject]$output }
}

# Restores an owed CheckpointType, unless somebody else has set one since. It stays owed if the host refuses it or the VM is
# not there.
function Restore-OwedType($entry) {
    if ($entry.owed_checkpoint_type -eq '') { return }
    try {
        $vm = Get-HyperVVm $entry.vm
        if ($null -eq $vm) { return }
        if ((Test-Temporary $vm $entry) -and [string]$vm.CheckpointType -ne $entry.owed_checkpoint_type) {
            Set-VM -VM $vm -CheckpointType $entry.owed_checkpoint_type -Confirm:$false
        }
        $entry.owed_checkpoint_type = ''
        $entry.temporary_checkpoint_type = ''
    }
    catch { return }
}

# --- the order of checks ---------------------------------------------------------------------------------------------------

function New-Answer([string]$verdict, $reports) { @{ verdict = $verdict; vms = @($reports) } }

function New-FailedAnswer([string]$id, [string]$message) {
    @{ verdict = 'FAILED'; vms = @(); error = [pscustomobject]@{ id = $id; message = $message } }
}

# Returns DONE with the journalled output in the action's field, unless it is empty; WRONG_JOURNAL for one not the action's.
function New-DoneAnswer($command, [string]$directory, $entry) {
    $action = Get-ActionName $command
    $fits = Test-Output $action $entry.output
    $answer = New-Answer $(if ($fits) { 'DONE' } else { 'WRONG_JOURNAL' }) @(Get-Report $command $directory)
    if ($fits -and $Outputs.ContainsKey($action)) { $answer[$action] = $entry.output }
    $answer
}

# A host.json that cannot be understood belongs to another installation.
function Test-Owned($command, [string]$directory) {
    $owner = (Read-Ownership $directory).owner
    if ($owner -eq '') {
        Write-Owner $directory $command.installation_id
        $owner = (Read-Ownership $directory).owner
    }
    $owner -ceq $command.installation_id
}

function Invoke-Checked($command, [string]$directory) {
    if (-not (Test-Owned $command $directory)) { return New-Answer 'FOREIGN_INSTALLATION' @() }
    $effect = $command.kind -eq 'EFFECT'
    $token = [long]$command.token
    $journal = Read-Journal $directory $command.vm_id
    $entry = $journal.entry
    if ($null -ne $entry) {
        $thisStep = $entry.operation -ceq $command.operation -and $entry.step -eq [int]$command.step
        if ($effect -and $thisStep -and $entry.phase -eq 'DONE') { return New-DoneAnswer $command $directory $entry }
        if ($token -lt $entry.token -or ($effect -and $token -eq $entry.token)) {
            return @{ verdict = 'STALE'; vms = @(); highest_token = $entry.token }
        }
    }
    if ($effect) { return Invoke-Effect $command $directory $entry $token }
    $report = Get-Report $command $directory
    if ($null -ne $entry -and $entry.phase -eq 'BEGUN' -and -not (Test-AtWork $command $report)) {
        # What a dead script had begun may show late: Checkpoint-VM may return before the checkpoint is listed
        # (observed).
        Start-Sleep -Milliseconds $SecondLookMs
        $report = Get-Report $command $directory
    }
    if (Test-AtWork $command $report) { return New-Answer 'IN_PROGRESS' @($report) }
    Invoke-Observe $command $directory $entry $token
}

function Invoke-Observe($command, [string]$directory, $entry, [long]$token) {
    if ($null -eq $entry) {
        $entry = @{
            vm = $command.vm_id; id = [Guid]::NewGuid().ToString(); seq = [long]0; token = [long]0; operation = ''; step = 0
            phase = ''; begun_token = [long]0; deadline = $null; begun_at = $null; pid = 0; pid_started = ''; owed_checkpoint_type = ''
            temporary_checkpoint_type = ''; output = [pscustomobject]@{}
        }
    }
    Restore-OwedType $entry
    $entry.token = $token
    Write-Journal $directory $entry
    New-Answer 'OBSERVED' @(Get-Report $command $directory)
}

# Whether the journal is the one that the command was told of.
function Test-Named($command, $entry) { $null -ne $entry -and $entry.id -ceq (Get-Text $command.journal_id) }

# Looks whether an effect may act (checks 3 and 5). Returns the verdict that refuses it, with the report; or '', with what
# it acts on. Changes nothing but a CheckpointType that is owed.
function Find-Footing($command, [string]$directory, $entry) {
    $report = Get-Report $command $directory
    if (Test-AtWork $command $report) { return @{ verdict = 'IN_PROGRESS'; report = $report } }
    if (-not (Test-Named $command $entry)) { return @{ verdict = 'WRONG_JOURNAL'; report = $report } }
    if ($entry.owed_checkpoint_type -ne '') {
        Restore-OwedType $entry
        $report = Get-Report $command $directory
    }
    $vm = Get-HyperVVm $command.vm_id
    $acts = $null -ne $vm -or $OfAbsent -ccontains (Get-ActionName $command)
    if (-not $acts -or -not (Test-Before $command $report)) { return @{ verdict = 'CHANGED'; report = $report } }
    $own = Get-OwnType $vm $entry
    @{ verdict = ''; vm = $vm; own = $own; to_set = Get-TypeToSet $command $vm $own }
}

function Invoke-Effect($command, [string]$directory, $entry, [long]$token) {
    try { $found = Find-Footing $command $directory $entry }
    catch {
        # Nothing was begun. That counts only with the token in the journal: else this command, come twice, might still begin.
        if (-not (Test-Named $command $entry)) { throw }
        $failed = Get-HostError $_
        $entry.token = $token
        Write-Journal $directory $entry
        $answer = New-Answer 'NOT_BEGUN' @()
        $answer.error = $failed
        return $answer
    }
    if ($found.verdict -eq 'CHANGED') {
        $entry.token = $token
        Write-Journal $directory $entry
        $found.report.journal = Get-JournalReport (Read-Journal $directory $command.vm_id)
    }
    if ($found.verdict -ne '') { return New-Answer $found.verdict @($found.report) }
    $vm, $own, $toSet = $found.vm, $found.own, $found.to_set
    $entry.token = $token
    $entry.operation = [string]$command.operation
    $entry.step = [int]$command.step
    $entry.phase = 'BEGUN'
    $entry.begun_token = $token
    $entry.begun_at = [DateTime]::UtcNow
    $left = [uint32]$command.time_left_ms
    $entry.deadline = if ($left -gt 0) { $entry.begun_at.AddMilliseconds($left) } else { ConvertTo-Utc $command.deadline }
    $entry.pid = $PID
    $entry.pid_started = $OwnStart
    # A restore may bring back the type of the checkpoint's time (inferred), so it owes the original too.
    if ((Get-ActionName $command) -eq 'checkpoint_restore' -or $toSet -ne '') {
        $entry.owed_checkpoint_type = $own
        $entry.temporary_checkpoint_type = $toSet
    }
    $entry.output = [pscustomobject]@{}
    Write-Journal $directory $entry
    try { $output = Invoke-Action $command $vm $own $toSet }
    catch [TimeoutException] {
        Exit-Effect $directory $entry
        return New-FailedAnswer 'NotReached,snapshotd' $_.Exception.Message
    }
    catch {
        return Get-Refused $command $directory $entry $_
    }
    Restore-OwedType $entry
    $entry.phase = 'DONE'
    $entry.output = $output
    Write-Journal $directory $entry
    New-DoneAnswer $command $directory $entry
}

# Leaves an effect that is not done. This process goes on, perhaps to another VM: nobody may end it for this one any more.
function Exit-Effect([string]$directory, $entry) {
    Restore-OwedType $entry
    $entry.pid = 0
    $entry.pid_started = ''
    Write-Journal $directory $entry
}

# An effect had none only if the host refused to begin it, and the VM, compared again, is as it was with nothing under way.
function Get-Refused($command, [string]$directory, $entry, $record) {
    $id = [string]$record.FullyQualifiedErrorId
    $message = [string]$record.Exception.Message
    Exit-Effect $directory $entry
    $report = Get-Report $command $directory
    $untouched = $Refusals -contains ($id -split ',')[0] -and (Test-Before $command $report) -and -not (Test-AtWork $command $report)
    if (-not $untouched) { return New-FailedAnswer $id $message }
    # Nothing that shows from now on is caused by this command.
    $entry.phase = ''
    Write-Journal $directory $entry
    $answer = New-Answer 'NO_EFFECT' @($report)
    $answer.error = [pscustomobject]@{ id = $id; message = $message }
    $answer
}

function Invoke-UnderMutex($command, [string]$directory) {
    $mutex = Open-VmMutex $command.vm_id
    try {
        $taken = Wait-VmMutex $mutex
        if (-not $taken -and (Stop-OverdueScript $directory $command)) { $taken = Wait-VmMutex $mutex }
        if (-not $taken) { return New-Answer 'BUSY' @() }
        try { Invoke-Checked $command $directory }
        finally { $mutex.ReleaseMutex() }
    }
    finally { $mutex.Dispose() }
}

# --- a line ----------------------------------------------------------------------------------------------------------------

# Returns why a command cannot be carried out; '' if it can.
function Get-Complaint($command) {
    if ($command.protocol -ne 1) { return "protocol $($command.protocol); this script speaks 1" }
    $kind = Get-Text $command.kind
    if ('REPORT', 'POLL', 'OBSERVE', 'EFFECT', 'TAKE_OVER' -cnotcontains $kind) { return 'no kind that this script knows' }
    $action = @(Get-ActionName $command)
    if ($action.Count -gt 1) { return "more than one action: $action" }
    $vmId = Get-Text $command.vm_id
    $ofHost = 'REPORT', 'TAKE_OVER' -ccontains $kind
    if ($vmId -notmatch $GuidPattern -and ($vmId -ne '' -or -not $ofHost)) { return "vm_id '$vmId' is no GUID" }
    try { [void][uint32]$command.largest_part } catch { return 'largest_part is a whole number' }
    foreach ($file in $command.files_delete.paths) { if ($file -isnot [string] -or $file -eq '') { return 'paths names no file' } }
    foreach ($file in $command.before.absent_files) { if ($file -isnot [string] -or $file -eq '') { return 'absent_files names no file' } }
    foreach ($job in $command.watched_jobs) { if ($job -isnot [string] -or $job -cnotmatch $JobPattern) { return 'watched_jobs names no job' } }
    foreach ($file in $command.watched_files) { if ($file -isnot [string] -or $file -eq '') { return 'watched_files names no file' } }
    if ('REPORT', 'POLL' -contains $kind) { return '' }
    if ($kind -eq 'TAKE_OVER' -and (Get-Text $command.installation_id) -ne '') { return '' }
    try { [void]([long]$command.token + [int]$command.step + [uint32]$command.time_left_ms) }
    catch { return 'token, step and time_left_ms are whole numbers' }
    $operation = Get-Text $command.operation
    if ((Get-Text $command.installation_id) -eq '' -or $operation -eq '' -or $operation.Length -gt $LongestOperation) {
        return 'installation_id and operation must be named, and fit the journal'
    }
    if ($kind -eq 'OBSERVE') { return '' }
    if ($action.Count -eq 0) { return 'EFFECT without an action that this script knows' }
    if (-not (& $Actions[$action[0]].complete $command.($action[0]))) { return "$action without what it needs to act" }
    ''
}

$Texts = -split 'kind vm_id after_vm_id installation_id former_installation_id operation journal_id journal_directory mode checkpoint_id checkpoint_name power current_checkpoint_id location path only_identifier directory target job_id configuration_path'

$Flags = 'with_memory', 'allow_fallback', 'ends_script', 'vm_absent', 'dynamic_memory'
$Numbers = 'cpu_count', 'memory_bytes', 'minimum_bytes', 'maximum_bytes', 'size_bytes'

# Throws for a field of another type than the protocol's. Removes fields whose names have capitals: the protocol has none,
# and PowerShell would take them for those that it has.
function Assert-Field($object) {
    foreach ($field in @((Get-Object $object).PSObject.Properties | Where-Object { $null -ne $_.Value })) {
        $name, $value = $field.Name, $field.Value
        if ($name -cne $name.ToLowerInvariant()) { $object.PSObject.Properties.Remove($name) }
        elseif ($Texts -contains $name) { [void](Get-String $value) }
        elseif ($Flags -contains $name) { if ($value -isnot [bool]) { throw "$name is no flag" } }
        elseif ($Numbers -contains $name) { [void][long]$value }
        elseif ('before', 'offering' -contains $name -or $Compared.ContainsKey($name)) { Assert-Field $value }
    }
}

function Read-Command([string]$line) {
    try {
        $text = (New-Object Text.UTF8Encoding $false, $true).GetString([Convert]::FromBase64String($line))
        $command = ConvertFrom-Json $text
        Assert-Field $command
        $command
    }
    catch { $null }
}

function Invoke-HostCommand($command, [string]$directory) {
    Assert-JournalDirectory $directory
    if ($command.kind -eq 'TAKE_OVER') {
        $ours = Set-Owner $directory $command.installation_id (Get-Text $command.former_installation_id)
        return New-Answer $(if ($ours) { 'DONE' } else { 'FOREIGN_INSTALLATION' }) @()
    }
    if ('REPORT', 'POLL' -notcontains $command.kind) { return Invoke-UnderMutex $command $directory }
    $answer = if ((Get-Text $command.vm_id) -ne '') { New-Answer 'REPORTED' @(Get-Report $command $directory) }
    else { Get-Part $directory $command }
    if ($command.kind -eq 'REPORT') { $answer.journal_error = Get-JournalError $directory }
    $answer
}

# Answers with as many VMs as fit, in the order of their ids. What is left is asked for after the last one.
function Get-Part([string]$directory, $command) {
    $vms = @{}
    foreach ($vm in Get-VM) { $vms[(Format-Id $vm.Id)] = $vm }
    if ($vms.Count -eq 0) { Assert-Rights }
    $ids = [string[]]@($vms.Keys)
    [Array]::Sort($ids, [StringComparer]::Ordinal)
    $after = (Get-Text $command.after_vm_id).ToLowerInvariant()
    $most = if ([long]$command.largest_part -gt 0) { [long]$command.largest_part } else { $LargestPart }
    $reports = @(); $size = 0; $more = $false
    foreach ($id in $ids) {
        if ([string]::CompareOrdinal($id, $after) -le 0) { continue }
        $report = Get-VmReportOrError $vms[$id] $directory $command
        $size += (ConvertTo-Json $report -Depth 12 -Compress).Length
        if ($reports.Count -gt 0 -and $size -gt $most) { $more = $true; break }
        $reports += $report
    }
    $answer = New-Answer 'REPORTED' $reports
    $answer.more = $more
    $answer
}

function Get-HostFact([string]$directory) {
    $known = try { Read-Ownership $directory } catch { @{ owner = ''; former = [string[]]@() } }
    [pscustomobject]@{
        name = $HostName
        os_version = [Environment]::OSVersion.Version.ToString()
        powershell = '{0} {1}' -f $PSVersionTable.PSEdition, $PSVersionTable.PSVersion
        installation_id = if ($known.owner -eq '?') { '' } else { $known.owner }
        former_installation_ids = $known.former
    }
}

# Before any cmdlet is used: other modules have a Get-VM and a Get-VMHost, too (documented).
Import-Module Hyper-V

$HostName = try { [string](Get-VMHost).Name } catch { [Environment]::MachineName }

# The one way in: a line of base64 for a line of base64.
function Invoke-SnapshotdLine([string]$line) {
    $directory = ''
    try {
        $directory = Get-JournalDirectory $null
        $command = Read-Command $line
        $complaint = if ($null -eq $command) { 'not base64 of a HostCommand' } else { Get-Complaint $command }
        if ($complaint -ne '') { $answer = New-FailedAnswer 'InvalidCommand,snapshotd' $complaint }
        else {
            $directory = Get-JournalDirectory $command
            $answer = Invoke-HostCommand $command $directory
        }
    }
    catch { $answer = @{ verdict = 'FAILED'; vms = @(); error = Get-HostError $_ } }
    $answer.protocol = 1
    $answer.host_time = Format-Utc ([DateTime]::UtcNow)
    $answer.host = Get-HostFact $directory
    $json = ConvertTo-Json ([pscustomobject]$answer) -Depth 12 -Compress
    [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($json))
}
