"""The seed's test list: a VM with its snapshots is exported when it is stopped, or with each snapshot.

The page leaves questions open. Each of them is a chapter here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demo.seed_stage import FAILED, Stage

_LONG_MS = 600_000
_SHORT_MS = 50


def stop_does_not_get_slower(stage: Stage) -> None:
    """Does a stop get slower? No: the export is an operation of its own that follows it, if there are snapshots."""
    vm = "export-stop"
    stage.type(f"vm update {vm} --export-policy on-stop")
    stage.type(f"vm stop {vm} --turn-off --wait")
    stage.checks.check("without snapshots nothing is exported", _exporting(stage, vm), [])
    stage.type(f"vm start {vm} --wait")
    stage.take(vm, "one")
    stage.take(vm, "two", memory=True)
    stage.host.control("durations", export=_LONG_MS)
    stage.type(f"vm stop {vm} --turn-off --wait")
    stage.power(vm, "Off")
    stage.checks.check("the export goes on when the stop has ended", len(_exporting(stage, vm)), 1)
    stage.host.control("durations", export=_SHORT_MS)
    stage.type(f"operation wait --vm {vm}")
    _is_exported(stage, vm)
    stage.agrees(vm, {"one": "", "two": "one"})


def start_wins(stage: Stage) -> None:
    """What if the VM is started before the export is done? Start wins, and the next stop exports again."""
    vm = "export-start"
    stage.type(f"vm update {vm} --export-policy on-stop")
    stage.take(vm, "one")
    stage.host.control("durations", export=_LONG_MS)
    stage.type(f"vm stop {vm} --turn-off --wait")
    (operation,) = _exporting(stage, vm)
    stage.until("the host is at work on the export", lambda: bool(_folders(stage, vm)))
    stage.type(f"vm start {vm} --wait")
    stage.power(vm, "Running")
    stage.type(f"operation wait {operation}", FAILED)
    told = stage.read(f"operation show {operation}")["metadata"]["state"]
    stage.checks.check("the export is cancelled", told, "CANCELLED")
    stage.checks.check("nothing is left of it", _folders(stage, vm), [])
    stage.host.control("durations", export=_SHORT_MS)
    stage.type(f"vm stop {vm} --turn-off --wait")
    stage.type(f"operation wait --vm {vm}")
    _is_exported(stage, vm)


def outages_are_outlasted(stage: Stage) -> None:
    """What if the host goes down in the middle of an export, or before it began? It is exported when it is back."""
    vm = "export-outage"
    stage.take(vm, "one")
    stage.type(f"vm stop {vm} --turn-off --wait")
    stage.host.control("durations", export=_LONG_MS)
    stage.type(f"vm export {vm}")
    stage.until("the host is at work on the export", lambda: bool(_folders(stage, vm)))
    stage.host.control("restart_host")
    stage.host.control("durations", export=_SHORT_MS)
    stage.type(f"operation wait --vm {vm}")
    _is_exported(stage, vm)
    stage.host.control("network", up=False)
    stage.type(f"vm export {vm}")
    (operation,) = _exporting(stage, vm)
    stage.until("it says what it waits for", lambda: "wait" in stage.read(f"operation show {operation}")["metadata"])
    stage.host.control("network", up=True)
    stage.type(f"operation wait {operation}")
    _is_exported(stage, vm)
    stage.agrees(vm, {"one": ""})


def the_state_is_stopped(stage: Stage) -> None:
    """What state has the VM in the host's report? STOPPED, with the export beside it; also when it is released."""
    vm = "export-release"
    stage.take(vm, "one")
    stage.take(vm, "two", memory=True)
    stage.write(vm, "released")
    stage.restart("--export-policy", "ON_STOP", "--export-release", "true")
    stage.type(f"vm stop {vm} --turn-off --wait")
    stage.type(f"operation wait --vm {vm}")
    there = [v["name"] for v in stage.host.control("state")["vms"]]
    stage.checks.check("the host does not have it any more", vm in there, False)
    stage.type("host sync hv01")
    stage.type(f"snapshot tree {vm}")
    told = stage.read(f"vm show {vm}")
    stage.checks.check("its absence is no event", (told["state"], told.get("conditions", [])), ("STOPPED", []))
    stage.type(f"vm start {vm} --host hv02 --wait")
    stage.moved_to_second(vm)
    stage.power(vm, "Running")
    stage.agrees(vm, {"one": "", "two": "one"})
    stage.sees(vm, "released")
    stage.restart()


def with_each_snapshot(stage: Stage) -> None:
    """Export at every snapshot? As a policy: the create takes longer, and the stop has nothing to do."""
    vm = "export-snapshot"
    stage.type(f"vm update {vm} --export-policy on-snapshot")
    stage.take(vm, "one")
    _is_exported(stage, vm)
    stage.take(vm, "two", memory=True)
    _is_exported(stage, vm)
    stage.type(f"vm stop {vm} --turn-off --wait")
    stage.checks.check("the stop is followed by nothing", _exporting(stage, vm), [])
    stage.agrees(vm, {"one": "", "two": "one"})


def _exporting(stage: Stage, vm: str) -> list[str]:
    """Return the active operations of a VM that export it."""
    active = stage.read(f"operation list --vm {vm} --active").get("operations", [])
    return [o["name"] for o in active if o["metadata"]["kind"] == "EXPORT_VIRTUAL_MACHINE"]


def _folders(stage: Stage, vm: str) -> list[str]:
    """Return the folders of a VM's exports, complete or not."""
    folder = stage.exports / stage.ids[vm]
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _is_exported(stage: Stage, vm: str) -> None:
    """Check that the record has one export of a VM, that its folder is there, and that no other one is."""
    exports: list[dict[str, Any]] = stage.read(f"vm show {vm}").get("exports", [])
    folders = [Path(one["directory"]) for one in exports]
    stage.checks.check("there is one export, and it is on record", [f.name for f in folders], _folders(stage, vm))
    made = [e for e in stage.host.truth() if e["effect"] == "exported" and e["vm"] == stage.ids[vm]]
    wanted = {place: disk["sha256"] for place, disk in stage.truth(vm)["disks"].items()}
    stage.checks.check("it holds what the disks hold", made[-1]["detail"]["contents"], wanted)
