"""A script on pywinrm alone, without our code, works with the simulated host as with a Hyper-V host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo.programs import SimulatedHost
from tests.powershell_engine import pwsh

SCRIPT = r"""
import json, sys
import winrm

endpoint, user, password, vm = sys.argv[1:]
session = winrm.Session(endpoint, auth=(user, password), transport="ntlm")


def run(script):
    result = session.run_ps(script)
    return {"code": result.status_code, "out": result.std_out.decode().strip(), "err": result.std_err.decode()}


said = {}
said["take"] = run("Checkpoint-VM -Name %s -SnapshotName 'before the update'" % vm)
said["list"] = run("Get-VMSnapshot -VMName %s | ConvertTo-Json" % vm)
said["again"] = run("Checkpoint-VM %s -SnapshotName 'second'; (Get-VMSnapshot %s).Count" % (vm, vm))
restore = "Restore-VMSnapshot -VMName %s -Name 'before the update' -Confirm:$false; (Get-VM %s).State"
said["restore"] = run(restore % (vm, vm))
said["remove"] = run("Remove-VMSnapshot -VMName %s -Name 'second'; @(Get-VMSnapshot %s).Count" % (vm, vm))
said["parameters"] = run("(Get-Command Checkpoint-VM).Parameters.Keys -join ','")
for name, command in (
    ("no vm", "Get-VM nobody"),
    ("no vm to take", "Checkpoint-VM nobody"),
    ("no checkpoint", "Get-VMSnapshot %s -Name nothing" % vm),
    ("no checkpoint to restore", "Restore-VMSnapshot -VMName %s -Name nothing -Confirm:$false" % vm),
    ("wrong state", "Suspend-VM %s" % vm),
):
    said[name] = run("try { %s -ErrorAction Stop } catch { $_.FullyQualifiedErrorId }" % command)
print(json.dumps(said))
"""


@pytest.mark.powershell
@pytest.mark.slow
def test_a_foreign_pywinrm_script_takes_lists_restores_and_removes_by_name(tmp_path: Path) -> None:
    vm_id = f"{os.getpid():08x}-1111-4222-8333-444444444444"
    vms = [{"id": vm_id, "name": "web01", "state": "Running", "disks": [{"location": "SCSI:0:0"}]}]
    options = ["--engine", "pwsh", "--pwsh", str(pwsh())]
    with SimulatedHost(tmp_path / "hv01", {"vms": vms}, options) as host:
        (tmp_path / "foreign.py").write_text(SCRIPT, encoding="utf-8")
        endpoint = f"http://127.0.0.1:{host.port}/wsman"
        command = [sys.executable, str(tmp_path / "foreign.py"), endpoint, host.username, host.password, "web01"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        said = json.loads(ran.stdout)
        assert said["take"] == {"code": 0, "out": "", "err": ""}
        listed = json.loads(said["list"]["out"])
        assert (listed["Name"], listed["VMName"]) == ("before the update", "web01")
        assert said["again"]["out"] == "2"
        assert said["restore"]["out"] == "Off"
        assert said["remove"]["out"] == "1"
        assert {"SnapshotName", "Passthru", "AsJob", "VM"} <= set(said["parameters"]["out"].split(","))
        commands = "Microsoft.HyperV.PowerShell.Commands"
        assert said["no vm"]["out"] == f"InvalidParameter,{commands}.GetVM"
        assert said["no vm to take"]["out"] == f"ObjectNotFound,{commands}.CheckpointVM"
        assert said["no checkpoint"]["out"] == f"ObjectNotFound,{commands}.GetVMSnapshot"
        assert said["no checkpoint to restore"]["out"] == f"ObjectNotFound,{commands}.RestoreVMSnapshot"
        assert said["wrong state"]["out"] == f"InvalidState,{commands}.SuspendVM"
        effects = [e["effect"] for e in host.decisive()]
        assert effects == ["checkpoint_made", "checkpoint_made", "checkpoint_applied", "checkpoint_removed"]
        assert {e["by"] for e in host.decisive()} == {"script"}
