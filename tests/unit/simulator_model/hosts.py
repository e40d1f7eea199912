"""A simulated Hyper-V host in a test's own directory, and a script that can be killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snapshotd.domain.state import replace
from snapshotd.simulator.hypervisor import ScriptKilled
from snapshotd.simulator.model import SimulatedHyperV, open_host
from snapshotd.simulator.settings import SimulateHostSettings

WEB = "11111111-2222-3333-4444-555555555501"
DB = "11111111-2222-3333-4444-555555555502"
INVENTORY: dict[str, Any] = {
    "host": {"name": "hv01"},
    "vms": [
        {"id": WEB, "name": "web01", "state": "Running", "disks": [{"location": "SCSI:0:0"}]},
        {"id": DB, "name": "db01", "state": "Off", "disks": [{"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}]},
    ],
}


class Script:
    """A calling script."""

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        """End it."""
        self.killed = True


Act = Callable[[SimulatedHyperV], bool]
ACTS: dict[str, Act] = {
    "start": lambda host: host.start_vm(Script(), WEB),
    "resume": lambda host: host.resume_vm(Script(), WEB),
    "shut down": lambda host: host.stop_vm(Script(), WEB, turn_off=False),
    "turn off": lambda host: host.stop_vm(Script(), WEB, turn_off=True),
    "save": lambda host: host.save_vm(Script(), WEB),
    "suspend": lambda host: host.suspend_vm(Script(), WEB),
}


def settings(at: Path, **durations: int) -> SimulateHostSettings:
    """Return the settings of a host in a directory."""
    return SimulateHostSettings(
        listen="",
        control="",
        state=at / "state",
        inventory=at / "inventory.json",
        truth=at / "truth.jsonl",
        credential=at / "credential",
        engine="builtin",
        pwsh=None,
        rtt_ms=0,
        powershell_start_ms=0,
        durations=durations,
    )


@contextmanager
def host_at(
    at: Path, inventory: dict[str, Any] | None = None, *, storage: Path | None = None, **durations: int
) -> Iterator[SimulatedHyperV]:
    """Open a host in a directory; again, if it was there before."""
    at.mkdir(exist_ok=True)
    if inventory is not None or not (at / "inventory.json").exists():
        (at / "inventory.json").write_text(json.dumps(inventory or INVENTORY), encoding="utf-8")
    with open_host(replace(settings(at, **durations), storage=storage)) as host:
        yield host


def truth(at: Path) -> list[dict[str, Any]]:
    """Read the truth file."""
    return [json.loads(line) for line in (at / "truth.jsonl").read_text(encoding="utf-8").splitlines()]


def of(host: SimulatedHyperV, vm_id: str) -> dict[str, Any]:
    """Return all of a VM."""
    (found,) = [vm for vm in host.state()["vms"] if vm["id"] == vm_id]
    return dict(found)


def is_refused(at: Path, act: Callable[[SimulatedHyperV], Any], error: type[Exception], told: str) -> None:
    """Check that a new host refuses an act with this error, and that nothing changes."""
    with host_at(at) as host:
        before = host.state()
        with pytest.raises(error, match=told):
            act(host)
        assert host.state() == before
    assert truth(at) == []


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.001)


def settled(host: SimulatedHyperV, vm_id: str) -> dict[str, Any]:
    """Wait until nothing merges and no job runs; return all of the VM."""
    until(lambda: not of(host, vm_id)["merging"] and not of(host, vm_id)["job"])
    return of(host, vm_id)


def no_file_is_left_over(vm: dict[str, Any], host: SimulatedHyperV) -> None:
    """Check that each file is a leaf, a checkpoint's, or a branch point."""
    view = host.vm(vm["id"])
    assert view is not None
    used = {d.path for d in view.drives} | {d.path for c in view.checkpoints for d in c.drives}
    parents = [v.parent_path for f in vm["files"] if (v := host.vhd(f)) is not None]
    for file in vm["files"]:
        assert file in used or parents.count(file) >= 2, file
    on_disk = {str(p) for p in Path(vm["files"][0]).parent.iterdir()}
    assert {f for f in on_disk if vm["id"] in f and vm["name"] in f} == set(vm["files"])


def decisive(at: Path, by: str = "script") -> list[str]:
    """Return the decisive effects on record."""
    return [line["effect"] for line in truth(at) if line["decisive"] and line["by"] == by]


def begun(host: SimulatedHyperV, cmdlet: str, call: Callable[[], object]) -> None:
    """Have a script begin something and die, so that the hypervisor's job runs and nobody waits for it."""
    host.kill_script(f"{cmdlet}:started")
    with pytest.raises(ScriptKilled):
        call()


def bring(host: SimulatedHyperV, state: str, vm_id: str = WEB) -> None:
    """Bring a VM, which runs, to a state."""
    match state:
        case "Off":
            host.stop_vm(Script(), vm_id, turn_off=True)
        case "Saved":
            host.save_vm(Script(), vm_id)
        case "Paused":
            host.suspend_vm(Script(), vm_id)
        case _:
            assert state == "Running"
