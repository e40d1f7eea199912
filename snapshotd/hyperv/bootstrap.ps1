begin {
    $ErrorActionPreference = 'Stop'
    $ProgressPreference = 'SilentlyContinue'
    $expected = '@SHA256@'
    $loaded = $false
    # Not Write-Output: its lines may be cut to the width of a console that nobody sees.
    function Write-Line([string]$text) { [Console]::Out.Write($text + "`n"); [Console]::Out.Flush() }
}
process {
    foreach ($line in $input) {
        $text = ([string]$line).Trim()
        if ($text -eq '') { continue }
        if ($loaded) { Write-Line (Invoke-SnapshotdLine $text); continue }
        try { $bytes = [Convert]::FromBase64String($text) }
        catch { [Console]::Error.WriteLine('the first line is not base64'); [Environment]::Exit(1) }
        $hasher = [Security.Cryptography.SHA256]::Create()
        $found = [BitConverter]::ToString($hasher.ComputeHash($bytes)).Replace('-', '').ToLowerInvariant()
        if ($found -ne $expected) { Write-Line "MISMATCH $found"; [Environment]::Exit(1) }
        . ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString($bytes)))
        $loaded = $true
        Write-Line "READY $found"
    }
}
