# -AsJob: a job that Get-Job, Wait-Job, Receive-Job and Remove-Job take. It runs the same cmdlet in another runspace of
# this process, and so it ends with the process, while what the hypervisor has begun goes on (inferred for the real one).
# A file of its own beside the module: few scripts need it, and the class would take its time with each import.

param([string]$cmdlet, $bound, $context)

class VMJob : System.Management.Automation.Job {
    hidden [powershell]$Shell
    VMJob([string]$command) : base($command) { $this.PSJobTypeName = 'VMJob' }
    [bool] get_HasMoreData() { return $this.Output.Count + $this.Error.Count + $this.Warning.Count -gt 0 }
    [string] get_Location() { return 'localhost' }
    [string] get_StatusMessage() { return '' }
    [void] StopJob() { $this.Shell.Stop() }
}

# Sets the job's state itself, as its last act: an event's handler could not run while the script waits for the job. What
# failed is counted apart from the job's stream, which Receive-Job empties meanwhile.
$body = {
    param($job, $module, $cmdlet, $bound, $setState, $directory)
    function Set-JobState([Management.Automation.JobState]$state) { [void]$setState.Invoke($job, @($state)) }
    Set-JobState Running
    try {
        Set-Location -LiteralPath $directory
        Import-Module $module
        & $cmdlet @bound -ErrorVariable failed
        Set-JobState $(if ($failed.Count -gt 0) { 'Failed' } else { 'Completed' })
    }
    catch { $job.Error.Add($_); Set-JobState Failed }
    finally { if ('Completed', 'Failed' -notcontains $job.JobStateInfo.State) { Set-JobState Stopped } }
}

# What becomes of an error is said to Receive-Job; the job has them all (inferred for the real one).
$own = 'AsJob', 'Confirm', 'WhatIf', 'ErrorAction', 'ErrorVariable'
$arguments = @{ Confirm = $false }
foreach ($name in @($bound.Keys)) { if ($own -notcontains $name) { $arguments[$name] = $bound[$name] } }
$job = [VMJob]::new($context.MyInvocation.Line.Trim())
$job.Shell = [powershell]::Create()
$job.Shell.Runspace = [runspacefactory]::CreateRunspace([runspace]::DefaultRunspace.InitialSessionState)
$job.Shell.Runspace.Open()
$job.Shell.Streams.Error = $job.Error
$job.Shell.Streams.Warning = $job.Warning
$flags = [Reflection.BindingFlags]'NonPublic, Instance'
$setState = [Management.Automation.Job].GetMethod('SetJobState', $flags, $null, [type[]]@([Management.Automation.JobState]), $null)
[void]$job.Shell.AddScript($body).AddParameters(@{
        job = $job; module = $PSScriptRoot; cmdlet = $cmdlet; bound = $arguments; setState = $setState
        directory = $context.SessionState.Path.CurrentFileSystemLocation.ProviderPath
    })
$context.JobRepository.Add($job)
$in = [Management.Automation.PSDataCollection[psobject]]::new()
$in.Complete()
[void]$job.Shell.BeginInvoke($in, $job.Output)
$job
