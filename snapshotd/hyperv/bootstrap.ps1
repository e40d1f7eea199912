begin {
    $ErrorActionPreference = 'Stop'
    $ProgressPreference = 'SilentlyContinue'
    # A constrained language has no [Console] and makes no script of text; Write-Host and Stop-Process it has. Exit would wait
    # for the end of the input (seen). Not tried on Windows.
    $mode = [string]$ExecutionContext.SessionState.LanguageMode
    if ($mode -ne 'FullLanguage') {
        Write-Host "FAILED its LanguageMode is $mode; FullLanguage is needed"
        Stop-Process -Id $PID -Force
    }
    $expected = '@SHA256@'
    $loaded = $false
    # Not Write-Output: its lines may be cut to the width of a console that nobody sees.
    function Write-Line([string]$text) { [Console]::Out.Write($text + "`n"); [Console]::Out.Flush() }
}
process {
    # An error that nobody catches is written only when the input has ended, and this process waits for that (seen).
    try {
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
    catch {
        $why = "$($_.Exception.Message) ($($_.FullyQualifiedErrorId))" -replace '\s+', ' '
        if ($loaded) { [Console]::Error.WriteLine($why) } else { Write-Line "FAILED $why" }
        [Environment]::Exit(1)
    }
}
