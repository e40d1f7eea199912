"""The seed's test list: snapshots and reverts, trees, deletes, what people decide, power, a restart of the service."""

from __future__ import annotations

from demo.checks import say
from demo.seed_stage import NOT_FOUND, REFUSED, Stage


def create(stage: Stage) -> None:
    """Create one VM snapshot with memory (on, off) when the VM is (running, stopped)."""
    stage.take("create-running", "with-memory", memory=True)
    stage.take("create-running", "disks-only")
    stage.power("create-running", "Running")
    stage.take("create-stopped", "disks-only")
    stage.type("snapshot create create-stopped --name with-memory --memory --wait", REFUSED)
    for vm in ("create-running", "create-stopped"):
        stage.agrees(vm)


def revert(stage: Stage) -> None:
    """Revert to the previous snapshot when the VM is (running, stopped), to one with and to one without memory."""
    for vm, start in (("revert-running", "vm start"), ("revert-stopped", "vm stop --turn-off")):
        stage.take(vm, "disks")
        stage.take(vm, "memory", memory=True)
        wanted = {"revert-running": "Running", "revert-stopped": "Off"}[vm]
        for target, after in (("memory", "Running"), ("disks", "Off")):
            stage.write(vm, "lost")
            if stage.truth(vm)["state"] != wanted:
                stage.type(f"{start} {vm} --wait")
            stage.type(f"snapshot revert {vm} {target} --dry-run")
            stage.type(f"snapshot revert {vm} {target} --wait")
            stage.sees(vm, target)
            stage.power(vm, after)
            stage.agrees(vm)


def trees(stage: Stage) -> None:
    """Create several snapshots with memory (on, off, mixed) when the VM is (running, stopped), as a tree."""
    shape = {"root": "", "left": "root", "deep": "left", "right": "root", "far": "right"}
    for vm, memory in (("tree-memory", "lrdf"), ("tree-mixed", "ldf"), ("tree-disks", ""), ("tree-stopped", "")):
        stage.take(vm, "root")
        for name, below in (("left", "root"), ("deep", "left"), ("right", "root"), ("far", "right")):
            if stage.read(f"vm show {vm}").get("current_snapshot") != _named(stage, vm, below):
                stage.type(f"snapshot revert {vm} {below} --wait")
                stage.sees(vm, below)
            with_memory = name[0] in memory
            if with_memory and stage.truth(vm)["state"] == "Off":
                stage.type(f"vm start {vm} --wait")
            stage.take(vm, name, memory=with_memory)
        stage.type(f"snapshot tree {vm}")
        stage.agrees(vm, shape)
        stage.type(f"snapshot delete {vm} left --wait")
        stage.agrees(vm, {"root": "", "deep": "root", "right": "root", "far": "right"})
        stage.type(f"snapshot revert {vm} deep --wait")
        stage.sees(vm, "deep")


def _named(stage: Stage, vm: str, name: str) -> str:
    found = stage.read(f"snapshot show {vm} {name}")["name"]
    assert isinstance(found, str)
    return found


def deletes(stage: Stage) -> None:
    """Delete one, a whole subtree, what is below one, and all: nothing else goes, and what others made stays."""
    vm = "deletes"
    for name, below in (("root", ""), ("a", "root"), ("a1", "a"), ("a2", "a1"), ("b", "root"), ("b1", "b")):
        if below and stage.read(f"vm show {vm}").get("current_snapshot") != _named(stage, vm, below):
            stage.type(f"snapshot revert {vm} {below} --wait")
        stage.take(vm, name)
    stage.host.control("admin", do="checkpoint", vm=vm, name="by hand")
    stage.type("host sync hv01")
    stage.type(f"snapshot delete {vm} a1 --dry-run")
    stage.type(f"snapshot delete {vm} a1 --wait")
    stage.agrees(vm, {"root": "", "a": "root", "a2": "a", "b": "root", "b1": "b", "by hand": "b1"})
    stage.type(f"snapshot delete {vm} b --only-descendants --wait")
    stage.agrees(vm, {"root": "", "a": "root", "a2": "a", "b": "root", "by hand": "b"})
    stage.type(f"snapshot delete {vm} a --with-descendants --wait")
    stage.agrees(vm, {"root": "", "b": "root", "by hand": "b"})
    stage.type(f"snapshot delete-all {vm} --wait")
    stage.agrees(vm, {"by hand": ""})
    stage.sees(vm, "b1")


def decisions(stage: Stage) -> None:
    """What people say of snapshots (name, labels, hold), and do with what others made (adopt, ignore) or removed."""
    vm = "decisions"
    stage.take(vm, "nightly")
    stage.type(f"snapshot update {vm} nightly --name weekly --description 'before the audit' --label tier=gold --wait")
    names = [c["name"].rpartition(" #")[0] for c in stage.truth(vm)["checkpoints"]]
    stage.checks.check("the checkpoint bears the new name", names, ["weekly"])
    stage.type(f"snapshot list {vm} --label tier=gold")
    stage.type(f"snapshot hold {vm} weekly --reason 'the auditors need it'")
    stage.type(f"snapshot delete {vm} weekly", REFUSED)
    stage.type(f"snapshot release {vm} weekly")
    for name in ("theirs", "vendor's"):
        stage.host.control("admin", do="checkpoint", vm=vm, name=name)
    stage.type("host sync hv01")
    stage.type(f"snapshot revert {vm} theirs", NOT_FOUND)
    stage.type(f"snapshot adopt {vm} theirs --wait")
    stage.type(f'snapshot ignore {vm} "vendor\'s" --reason "it goes by itself"')
    stage.type(f"snapshot tree {vm}")
    stage.agrees(vm, {"weekly": "", "theirs": "weekly", "vendor's": "theirs"})
    stage.host.control("admin", do="remove", vm=vm, checkpoint=_checkpoint(stage, vm, "weekly"))
    stage.type("host sync hv01")
    stage.type(f"snapshot forget {vm} weekly --wait")
    stage.agrees(vm, {"theirs": "", "vendor's": "theirs"})


def _checkpoint(stage: Stage, vm: str, name: str) -> str:
    (found,) = (c["id"] for c in stage.truth(vm)["checkpoints"] if c["name"].rpartition(" #")[0] == name)
    assert isinstance(found, str)
    return found


def restart_of_the_service(stage: Stage) -> None:
    """Synchronise what was under way when the service went down (VMSnapshotSync)."""
    vm = "sync"
    stage.take(vm, "one")
    stage.host.control("durations", checkpoint=3000, remove=3000)
    for line in (f"snapshot create {vm} --name two", f"snapshot delete {vm} one"):
        stage.type(line)
        stage.until("the host is at work", lambda: bool(stage.truth(vm)["job"]))
        say("the service is killed, and started again")
        stage.daemon.restart()
        stage.type(f"operation wait {stage.read('operation list --limit 1')['operations'][0]['name']}")
    stage.host.control("durations", checkpoint=50, remove=0)
    stage.agrees(vm, {"two": ""})


def revert_and_back(stage: Stage) -> None:
    """Revert with a safety snapshot, and undo the revert; revert to the current one; have the VM run afterwards."""
    vm = "revert-back"
    stage.take(vm, "first")
    stage.write(vm, "work of today")
    stage.type(f"snapshot revert {vm} first --safety-snapshot --wait")
    stage.sees(vm, "first")
    stage.power(vm, "Off")
    stage.agrees(vm, {"first": "", "before-revert-first": "first"})
    stage.type(f"snapshot undo-revert {vm} --wait")
    stage.sees(vm, "work of today")
    stage.power(vm, "Running")
    stage.write(vm, "lost")
    stage.type(f"snapshot revert {vm} before-revert-first --power-after as-before --wait")
    stage.sees(vm, "work of today")
    stage.power(vm, "Running")
    stage.type(f"snapshot revert {vm} first --refuse-power-change", REFUSED)
    stage.type(f"snapshot revert {vm} first --power-after running --wait")
    stage.sees(vm, "first")
    stage.power(vm, "Running")
    stage.agrees(vm)


def power(stage: Stage) -> None:
    """Stop, save, pause, start and restart a VM with snapshots: none of them is lost."""
    vm = "power"
    for name, memory in (("one", False), ("two", True)):
        stage.take(vm, name, memory=memory)
    for line, state in (
        ("vm stop {} --shutdown-timeout 60 --wait", "Off"),
        ("vm start {} --wait", "Running"),
        ("vm stop {} --save --wait", "Saved"),
        ("vm start {} --wait", "Running"),
        ("vm stop {} --pause --wait", "Paused"),
        ("vm start {} --wait", "Running"),
        ("vm restart {} --wait", "Running"),
        ("vm stop {} --turn-off --wait", "Off"),
    ):
        stage.type(line.format(vm))
        stage.power(vm, state)
    stage.sees(vm, "two")
    stage.agrees(vm, {"one": "", "two": "one"})
