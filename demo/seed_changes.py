"""The seed's test list: what else happens to a VM that has snapshots."""

from __future__ import annotations

from pathlib import Path

from demo.checks import say
from demo.seed_stage import DATA, NOT_FOUND, REFUSED, SYSTEM, Stage

EXTRA = "SCSI:0:2"
MIB = 1 << 20


def volumes(stage: Stage) -> None:
    """Attach and detach a volume of a VM that has VM snapshots: refused, and done when they are deleted."""
    vm, other, file = "volumes", "volumes-other", stage.volumes / "archive.vhdx"
    stage.take(vm, "before")
    as_it_was = stage.drives(vm)
    stage.type(f"vm attach {vm} {file} --new 64MB", REFUSED)
    stage.type(f"vm detach {vm} {DATA}", REFUSED)
    stage.type(f"vm resize {vm} {DATA} 2GB", REFUSED)
    stage.checks.check(
        "its disks are as they were, and none was made", (stage.drives(vm), file.exists()), (as_it_was, False)
    )
    stage.type(f"snapshot delete-all {vm} --wait")
    stage.sees(vm, "before")
    stage.type(f"vm attach {vm} {file} --new 64MB --at {EXTRA} --dry-run")
    stage.type(f"vm attach {vm} {file} --new 64MB --at {EXTRA} --wait")
    stage.checks.check("the new disk is at its place", stage.drives(vm).get(EXTRA), str(file))
    stage.write(vm, "archive", [EXTRA])
    stage.type(f"vm attach {other} {file}", REFUSED)
    stage.type(f"vm resize {vm} {EXTRA} 32MB", REFUSED)
    stage.type(f"vm resize {vm} {EXTRA} 128MB --wait")
    stage.checks.check("the disk is larger", stage.truth(vm)["disks"][EXTRA]["size_bytes"], 128 * MIB)
    stage.type(f"vm detach {vm} {EXTRA} --wait")
    stage.checks.check("it is detached, and its file stays", (EXTRA in stage.drives(vm), file.exists()), (False, True))
    stage.type(f"vm attach {other} {file} --at {EXTRA} --wait")
    stage.drives(other)
    stage.sees(other, "archive", {EXTRA: EXTRA})
    stage.sees(vm, "before")
    stage.take(vm, "afterwards")
    stage.agrees(vm, {"afterwards": ""})


def offering(stage: Stage) -> None:
    """Change the service offering of a VM with snapshots with and without memory: those with memory are discarded."""
    vm = "offering"
    stage.take(vm, "disks")
    stage.take(vm, "memory", memory=True)
    stage.take(vm, "later")
    stage.type(f"vm offering {vm} --cpus 4", REFUSED)
    stage.type(f"vm stop {vm} --turn-off --wait")
    small, large = stage.truth(vm)["offering"], "--cpus 4 --memory 6GB"
    stage.type(f"snapshot hold {vm} memory --reason 'the auditors need it'")
    stage.type(f"vm offering {vm} {large}", REFUSED)
    stage.type(f"snapshot release {vm} memory")
    plan = stage.type(f"vm offering {vm} {large} --dry-run")
    stage.checks.check("the plan names what goes", "Gone:    memory\n" in plan, True)
    stage.checks.check("nothing was done", stage.truth(vm)["offering"], small)
    stage.type(f"vm offering {vm} {large} --wait")
    now = stage.truth(vm)["offering"]
    stage.checks.check("the VM has it", (now["cpu_count"], now["memory_bytes"]), (4, 6 << 30))
    stage.agrees(vm, {"disks": "", "later": "disks"})
    stage.sees(vm, "later")
    stage.type(f"snapshot revert {vm} disks --wait")
    stage.checks.check("a revert brings the snapshot's offering back", stage.truth(vm)["offering"], small)
    told = stage.read(f"vm show {vm}")["service_offering"]
    stage.checks.check("so it is on record", told["cpu_count"], small["cpu_count"])
    stage.sees(vm, "disks")


def volume_snapshots(stage: Stage) -> None:
    """Take a volume snapshot of a VM that has VM snapshots, running and stopped: the tree stays as it was."""
    vm, reader = "copied", "reader"
    stage.take(vm, "one")
    stage.take(vm, "two", memory=True)
    stage.write(vm, "running")
    shape = {"one": "", "two": "one"}
    stage.type(f"volume-snapshot take {vm} {DATA} --name running --dry-run")
    stage.type(f"volume-snapshot take {vm} {DATA} --name running --wait")
    stage.power(vm, "Running")
    stage.agrees(vm, shape)
    stage.sees(vm, "running")
    stage.type(f"vm stop {vm} --turn-off --wait")
    stage.write(vm, "stopped")
    stage.type(f"volume-snapshot take {vm} {SYSTEM} --name stopped --wait")
    stage.agrees(vm, shape)
    stage.sees(vm, "stopped")
    stage.type(f"volume-snapshot list {vm}")
    listed = stage.read(f"volume-snapshot list {vm}")["volume_snapshots"]
    files = {one["display_name"]: one["path"] for one in listed}
    stage.checks.check("both files are there", sorted(Path(file).is_file() for file in files.values()), [True, True])
    say("what the copies hold, another VM shows")
    for name, written_at in (("running", DATA), ("stopped", SYSTEM)):
        stage.type(f"vm attach {reader} {files[name]} --at {EXTRA} --wait")
        stage.sees(reader, name, {EXTRA: written_at})
        stage.type(f"vm detach {reader} {EXTRA} --wait")
    stage.type(f"volume-snapshot delete {vm} running --wait")
    left = {name: Path(file).exists() for name, file in files.items()}
    stage.checks.check("its file is gone, and no other", left, {"running": False, "stopped": True})
    stage.agrees(vm, shape)


def destroy(stage: Stage) -> None:
    """Destroy a VM that has VM snapshots: they go with it. Its disks stay, unless they are to go too."""
    vm, other = "destroyed", "destroyed-too"
    stage.take(vm, "one")
    stage.take(vm, "two", memory=True)
    stage.type(f"volume-snapshot take {vm} {DATA} --name kept --wait")
    copy = Path(stage.read(f"volume-snapshot show {vm} kept")["path"])
    stage.host.control("admin", do="checkpoint", vm=stage.ids[vm], name="by hand")
    stage.type("host sync hv01")
    stage.type(f"vm destroy {vm} --yes", REFUSED)
    files = _first_files(stage, vm)
    stage.type(f"vm destroy {vm} --lose-checkpoint 'by hand' --dry-run")
    stage.type(f"vm destroy {vm} --lose-checkpoint 'by hand' --yes --wait")
    _is_gone(stage, vm)
    stage.checks.check("its disks stay, and so does the copy", [f.exists() for f in (*files, copy)], [True] * 3)
    left = [path for file in files for path in file.parent.glob(f"{file.stem}_*.avhdx")]
    stage.checks.check("nothing is left of its checkpoints", left, [])
    stage.type(f"vm show {stage.ids[vm]}")
    stage.type(f"audit list --vm {stage.ids[vm]} --type VmPowerChanged")
    stage.type(f"vm show {vm}", NOT_FOUND)
    stage.type(f"volume-snapshot delete {stage.ids[vm]} kept --wait")
    stage.checks.check("the copy is deleted all the same", copy.exists(), False)
    stage.take(other, "one")
    files = _first_files(stage, other)
    stage.type(f"vm destroy {other} --delete-disks --yes --wait")
    _is_gone(stage, other)
    stage.checks.check("its disks are gone", [file.exists() for file in files], [False] * 2)


def _first_files(stage: Stage, vm: str) -> list[Path]:
    """Return the files at the ends of the chains of a VM's disks."""
    return [Path(disk["chain"][-1]) for disk in stage.truth(vm)["disks"].values()]


def _is_gone(stage: Stage, vm: str) -> None:
    """Check that a VM's host does not have it, and that it is not among the VMs any more."""
    there = [v["name"] for v in stage.host.control("state")["vms"]]
    told = [v["display_name"] for v in stage.read("vm list").get("virtual_machines", [])]
    stage.checks.check(f"neither the host nor the list has {vm}", (vm in there, vm in told), (False, False))
