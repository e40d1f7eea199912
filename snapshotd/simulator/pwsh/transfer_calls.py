"""What stub cmdlets can call about exports, imports and conversions: they wait for the job, as the real cmdlets do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from snapshotd.simulator.hypervisor import Caller, HyperVError, Hypervisor, ScriptKilled
from snapshotd.simulator.pwsh.bridge import Call

_LOOK_S: Final = 0.02
_COMPLETED: Final = 7
_ENDED: Final = frozenset({_COMPLETED, 8, 9, 10})
"""Values of JobState."""
_ALL: Final = 0
_ONE: Final = 2
"""CopySnapshotConfiguration."""


def transfer_calls(host: Hypervisor) -> dict[str, Call]:
    """Return these calls, by name."""

    def export(caller: Caller, arguments: Mapping[str, Any]) -> None:
        snapshot = arguments["snapshot"]
        cmdlet = "Export-VMSnapshot" if snapshot else "Export-VM"
        try:
            job_id = host.export_vm(
                caller,
                arguments["vm"],
                arguments["path"],
                snapshots=_ONE if snapshot else _ALL,
                snapshot_id=snapshot,
                capture_live_state=arguments["live"],
            )
        except HyperVError as error:
            raise _of_cmdlet(error, cmdlet) from error
        _wait(host, caller, job_id, cmdlet)

    def convert(caller: Caller, arguments: Mapping[str, Any]) -> None:
        try:
            job_id = host.convert_disk(caller, arguments["source"], arguments["target"])
        except HyperVError as error:
            raise _of_cmdlet(error, "Convert-VHD") from error
        _wait(host, caller, job_id, "Convert-VHD")

    def compare(_: Caller, arguments: Mapping[str, Any]) -> object:
        view = host.compare_vm(arguments["path"], copy=arguments["copy"])
        found = [{"id": number, "message": message} for number, message in view.incompatibilities]
        return {"vm_id": view.vm_id, "name": view.name, "incompatibilities": found}

    return {
        "export": export,
        "convert": convert,
        "compare": compare,
        "import": lambda c, a: host.import_vm(c, a["path"], **{n: value for n, value in a.items() if n != "path"}),
    }


def _wait(host: Hypervisor, caller: Caller, job_id: str, cmdlet: str) -> None:
    """Wait for a job; raise HyperVError if it fails, and ScriptKilled when the script is dead: the job goes on."""
    while job_id:
        if caller.killed:
            raise ScriptKilled(cmdlet)
        job = host.job(job_id)
        if job is None or job.state in _ENDED - {_COMPLETED}:
            error = job.error if job is not None else "The host was restarted."
            raise HyperVError("OperationFailed", cmdlet, error)
        if job.state == _COMPLETED:
            return
        time.sleep(_LOOK_S)


def _of_cmdlet(error: HyperVError, cmdlet: str) -> HyperVError:
    """Return a method's error as the cmdlet has it, which knows why."""
    return HyperVError(error.error_id, cmdlet, " ".join(getattr(error, "__notes__", ())) or str(error))
