"""Both engines are driven by the same random commands, each over a host of its own, and never differ.

Each draws the same numbers, and picks by them from what its host has, in the same order. Besides commands there are
scripts that are killed at any place, cmdlets that fail, exports that go on, and people who do things by hand.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, VmStop
from snapshotd.simulator.hypervisor import DriveView, HyperVError, VmView
from tests.host_script.conversation import NoLine
from tests.host_script.host_commands import known_journal, look, observe
from tests.host_script.random_transfers import BEGIN, LONG_MS, Transfers
from tests.host_script.two_engines import Named, Run, assert_same, effects, running
from tests.unit.simulator_model.hosts import Script, of, settled, until

STEPS: Final = 30
_PLACES: Final = ("SCSI:0:1", "SCSI:0:2", "SCSI:3:63", "IDE:0:1", "SCSI:4:0")
_SIZES: Final = (8 << 20, 2 << 30, 1 << 20)
_ERRORS: Final = ("OperationFailed", "InvalidState", "AccessDenied")
_CMDLETS: Final = {
    "checkpoint_create": ("Checkpoint-VM", "Set-VM"),
    "checkpoint_restore": ("Restore-VMSnapshot", "Set-VM"),
    "checkpoint_remove": ("Remove-VMSnapshot",),
    "checkpoint_rename": ("Rename-VMSnapshot",),
    "vm_start": ("Start-VM", "Resume-VM"),
    "vm_stop": ("Stop-VM", "Save-VM", "Suspend-VM"),
    "disk_create": ("New-VHD",),
    "volume_attach": ("Add-VMHardDiskDrive",),
    "volume_detach": ("Remove-VMHardDiskDrive",),
    "volume_resize": ("Resize-VHD",),
    "vm_configure": ("Set-VMProcessor", "Set-VMMemory"),
    "disk_export": ("ExportSystemDefinition",),
    "disk_convert": ("ConvertVirtualHardDisk",),
    "vm_export": ("ExportSystemDefinition",),
    "export_end": ("RequestStateChange",),
    "vm_release": ("Remove-VM",),
    "vm_remove": ("Remove-VM",),
    "vm_import": ("Import-VM",),
}
"""What an action calls."""
_JOBS: Final = (
    "checkpoint",
    "restore",
    "remove",
    "start",
    "shutdown",
    "turn_off",
    "save",
    "pause",
    "export",
    "convert",
)
"""What of it takes its time."""
T = TypeVar("T")


class Walk(Transfers):
    """One engine's way through the steps.

    Args:
        run: the engine.
        seed: of what is drawn.
    """

    def __init__(self, run: Run, seed: int) -> None:
        self.run = run
        self._seed = seed
        self._draw = random.Random()
        self._journal = known_journal(run.script, vm=run.vm)
        self._made: list[str] = []
        """Disks that no VM had when they were made."""
        self._job = ""

    def step(self, number: int) -> list[object]:
        """Do the step of that number; return what it was, what was answered, and how the host is then."""
        self._draw.seed(f"{self._seed} {number}")
        before = len(self.run.answers)
        # Merges do not go on beside the commands, so that it is never chance how far they are.
        self.run.host.durations(merge=LONG_MS)
        act = self._one([*_ACTS] * 3 + [*_BY_HAND])
        told = _ACTS[act](self, number) if act in _ACTS else self._by_hand(_BY_HAND[act], number)
        self._settle()
        named = self.run.named.plain
        return [f"{number} {act} {named(told)}", *self.run.answers[before:], named(self._state())]

    def _state(self) -> dict[str, Any]:
        """Return how the host is, without the order of files, which is that of ids that are made at random."""
        state = self.run.host.state()
        for vm in state["vms"]:
            vm["files"] = len(vm["files"])
        return state

    def _settle(self) -> None:
        """Wait until the merges are over, but for those that find no room."""
        host = self.run.host
        # As long as nothing has merged, both hosts have as much.
        room = host.free_space()["free_bytes"]
        host.free_space(free_bytes=None)
        host.durations(merge=0)
        settled(host, self.run.vm)
        host.free_space(free_bytes=room)

    def view(self) -> VmView:
        """Return the VM."""
        view = self.run.host.vm(self.run.vm)
        assert view is not None
        return view

    def _one(self, options: Sequence[T]) -> T:
        return options[self._draw.randrange(len(options))]

    def _drive(self) -> DriveView:
        """Return a drive, mostly, or what is none."""
        return self._one([*self.view().drives * 3, DriveView(location="SCSI:2:2", path="/nowhere/x.vhdx")])

    def _checkpoint(self) -> str:
        """Return the id of a checkpoint, or of none."""
        known = [c.checkpoint_id for c in self.view().checkpoints]
        return self._one([*known * 3, "00000000-0000-4000-8000-000000000000"])

    def _effect(self, action: str, **fields: object) -> str:
        """Ask for an effect, which may meet with trouble: a kill, a failure, or its end is not waited for."""
        command = self.run.effect(action, self._journal, **fields)
        if action == "disk_create":
            command.before.absent_files.append(command.disk_create.path)
        there = self.run.host.vm(self.run.vm) is not None
        command.before.vm_absent = action == "vm_import" and not there
        troubles = [t for t in _TROUBLES if t != "cut_off" or action not in BEGIN] if there else ["killed", "failing"]
        trouble = self._one([*["none"] * 4, *troubles]) if action in _CMDLETS else "none"
        told = self._asked(command, action) if trouble == "none" else _TROUBLES[trouble](self, command, action)
        return f"{action} {fields} {trouble} {told}"

    def _asked(self, command: HostCommand, action: str) -> str:
        """Ask; look in another process what has come of it, if the process dies of it."""
        try:
            answer = self.run.ask(command)
            told = getattr(answer, action) if answer.WhichOneof("output") == action else None
            self._job = getattr(told, "job_id", self._job)
            return HostAnswer.Verdict.Name(answer.verdict)
        except NoLine:
            return f"died, {self._observed(command, action)}"

    def _observed(self, command: HostCommand, action: str) -> str:
        self.run.start_again()
        look = observe(self.run.next_token(), action, step=command.step, vm=self.run.vm)
        return HostAnswer.Verdict.Name(self.run.ask(look).verdict)

    def killed(self, command: HostCommand, action: str) -> str:
        """Have the script die at some place in what it calls."""
        place = f"{self._one(_CMDLETS[action])}:{self._one(['before', 'started', 'after'])}"
        self.run.host.kill_script(place)
        told = self._asked(command, action)
        self.run.host.kill_script(place, 0)
        return f"at {place}: {told}"

    def failing(self, command: HostCommand, action: str) -> str:
        """Have what it calls fail, before it has done anything or afterwards."""
        cmdlet, error, late = self._one(_CMDLETS[action]), self._one(_ERRORS), self._one([False, True])
        self.run.host.fail(cmdlet, error, "It was planned.", after_effect=late)
        told = self._asked(command, action)
        self.run.host.fail(cmdlet, error, count=0, after_effect=late)
        return f"{cmdlet} {error} {late}: {told}"

    def cut_off(self, command: HostCommand, action: str) -> str:
        """Have the script die while the hypervisor still works for it, and look then and afterwards."""
        self.run.host.durations(**dict.fromkeys(_JOBS, LONG_MS))
        script = self.run.script
        script.send(command)
        until(lambda: bool(of(self.run.host, self.run.vm)["job"]) or script.has_answered())
        if script.has_answered():
            self.run.host.durations(**dict.fromkeys(_JOBS, 0))
            return HostAnswer.Verdict.Name(self.run.take_answer().verdict)
        meanwhile = self._observed(command, action)
        self.run.host.durations(**dict.fromkeys(_JOBS, 0))
        until(lambda: not of(self.run.host, self.run.vm)["job"])
        return f"{meanwhile}, then {self._observed(command, action)}"

    def not_reached(self, command: HostCommand, action: str) -> str:
        """Ask while the VM is hidden from the account, its storage is away, or a checkpoint's files are lost."""
        host, vm = self.run.host, self.run.vm
        checkpoints = [c.checkpoint_id for c in self.view().checkpoints]
        how = self._one(["hidden", "away", "lost"])
        if how == "hidden":
            host.hide([vm])
        elif how == "away":
            host.storage(vm, up=False)
        elif checkpoints:
            host.set_checkpoint(vm, checkpoints[0], files=False)
        told = self._asked(command, action)
        self.run.ask(self._look())
        host.hide([vm], hidden=False)
        host.storage(vm, up=True)
        if how == "lost" and checkpoints and checkpoints[0] in {c.checkpoint_id for c in self.view().checkpoints}:
            host.set_checkpoint(vm, checkpoints[0], files=True)
        return f"{how}: {told}"

    def unreadable(self, command: HostCommand, action: str) -> str:
        """Ask while something of the host cannot be read."""
        read = self._one(["Get-VHD", "Get-CimAssociatedInstance"])
        self.run.host.fail(read, "AccessDenied", "It was planned.")
        told = self._asked(command, action)
        self.run.host.fail(read, "AccessDenied", count=0)
        return f"{read}: {told}"

    def take(self, number: int) -> str:
        """Take a checkpoint."""
        with_memory, fallback = self._one([False, True]), self._one([False, True])
        return self._effect(
            "checkpoint_create", checkpoint_name=f"c{number}", with_memory=with_memory, allow_fallback=fallback
        )

    def restore(self, number: int) -> str:
        """Apply one."""
        if not self.view().checkpoints:
            return self.take(number)
        return self._effect("checkpoint_restore", checkpoint_id=self._checkpoint())

    def remove(self, _number: int) -> str:
        """Remove one."""
        return self._effect("checkpoint_remove", checkpoint_id=self._checkpoint())

    def rename(self, number: int) -> str:
        """Rename one."""
        return self._effect("checkpoint_rename", checkpoint_id=self._checkpoint(), checkpoint_name=f"n{number}")

    def start(self, _number: int) -> str:
        """Start the VM."""
        return self._effect("vm_start")

    def stop(self, _number: int) -> str:
        """Stop it."""
        modes = [VmStop.SHUTDOWN, VmStop.TURN_OFF, VmStop.SAVE, VmStop.PAUSE]
        return self._effect("vm_stop", mode=self._one(modes))

    def make(self, number: int) -> str:
        """Make a disk, in a folder that is there or not."""
        folder = self._one([*[self.run.host.storage_directory] * 3, self.run.host.storage_directory / "none"])
        path = str(folder / f"d{number}.vhdx")
        told = self._effect("disk_create", path=path, size_bytes=self._one(_SIZES))
        self._made.append(path)
        return told

    def attach(self, _number: int) -> str:
        """Attach one, or one that is used."""
        path = self._one([*self._made, self._drive().path])
        return self._effect("volume_attach", location=self._one(_PLACES), path=path)

    def detach(self, _number: int) -> str:
        """Detach what is at a place, if something is."""
        drive = self._drive()
        self._made.append(drive.path)
        return self._effect("volume_detach", location=drive.location, path=drive.path)

    def resize(self, _number: int) -> str:
        """Resize a disk."""
        drive = self._drive()
        return self._effect("volume_resize", location=drive.location, path=drive.path, size_bytes=self._one(_SIZES))

    def delete(self, _number: int) -> str:
        """Delete a disk, or one that is used, if the VM has not let it go."""
        return self._effect("files_delete", paths=[self._one([*self._made, self._drive().path])])

    def configure(self, _number: int) -> str:
        """Change the processors, or the memory."""
        if self._one([False, True]):
            return self._effect("vm_configure", cpu_count=self._one([1, 4]))
        fields: dict[str, object] = {"memory_bytes": self._one([1 << 30, 8 << 30])}
        if self._one([False, True]):
            fields |= {"dynamic_memory": self._one([False, True]), "minimum_bytes": self._one([1 << 29, 2 << 30])}
        return self._effect("vm_configure", **fields)

    def _started_meanwhile(self) -> str:
        """Ask for a start while a job is at work."""
        return self._asked(self.run.effect("vm_start", self._journal), "vm_start")

    def poll(self, _number: int) -> str:
        """Look at the VM, and at files."""
        return HostAnswer.Verdict.Name(self.run.ask(self._look()).verdict)

    def _look(self) -> HostCommand:
        command = look(self._one([HostCommand.POLL, HostCommand.REPORT]), vm=self.run.vm)
        command.watched_files.extend([*self._made, "/nowhere/x.vhdx"])
        return command

    def observe(self, _number: int) -> str:
        """Raise the fence, while an export goes on or not."""
        action = self._one([*_CMDLETS, ""])
        return HostAnswer.Verdict.Name(self.run.ask(observe(self.run.next_token(), action, vm=self.run.vm)).verdict)

    def export(self, number: int) -> str:
        """Export the VM, and look at it while it is exported; end it half way, or let it go on to its end."""
        host = self.run.host
        folder = str(host.storage_directory / f"e{self._one([0, number])}")
        host.durations(export=LONG_MS)
        snapshots, live = self._one([0, 1]), self._one([0, 1])
        job_id = host.export_vm(Script(), self.run.vm, folder, snapshots=snapshots, capture_live_state=live)
        command = look(HostCommand.POLL, vm=self.run.vm)
        command.watched_jobs.append(job_id)
        self.run.ask(command)
        told = self._started_meanwhile()
        if self._one([True, False]) and (job := host.job(job_id)) is not None and job.state == 4:
            host.terminate_job(Script(), job_id)
        host.durations(export=0)
        settled(host, self.run.vm)
        self.run.ask(command)
        return f"{folder} {snapshots} {live}, meanwhile {told}"

    def _by_hand(self, act: Callable[[Walk, int], object], number: int) -> str:
        """Have somebody do something; return what has come of it."""
        try:
            act(self, number)
        except (HyperVError, ValueError, LookupError) as error:
            return f"{type(error).__name__}: {error}"
        return "done"

    def admin(self, do: str, **arguments: object) -> object:
        """Have an administrator act."""
        return self.run.host.admin(do, self.run.vm, **arguments)

    def lose_the_journal(self) -> None:
        """Lose it, and know the next one."""
        self.run.host.lose_journal(self.run.vm)
        self._journal = known_journal(self.run.script, self.run.next_token(), vm=self.run.vm)

    def restart_the_host(self) -> None:
        """Restart it: all scripts are dead."""
        self.run.host.restart_host()
        self.run.start_again()


_TROUBLES: Final[dict[str, Callable[[Walk, HostCommand, str], str]]] = {
    name: getattr(Walk, name) for name in ("killed", "failing", "cut_off", "not_reached", "unreadable")
}
_ACTS: Final[dict[str, Callable[[Walk, int], str]]] = {
    name: getattr(Walk, name)
    for name in (
        *("take", "restore", "remove", "rename", "start", "stop"),
        *("make", "attach", "detach", "resize", "delete", "configure", "poll", "observe", "export", "copy", "leave"),
    )
}
_BY_HAND: Final[dict[str, Callable[[Walk, int], object]]] = {
    "checkpoint": lambda walk, n: walk.admin("checkpoint", name=f"by hand {n}"),
    "write": lambda walk, n: walk.run.host.write_disk(walk.run.vm, "SCSI:0:0", str(n % 3), f"written {n}"),
    "apply": lambda walk, _: walk.admin("apply", checkpoint=walk.view().parent_snapshot_id),
    "turn off": lambda walk, _: walk.admin("turn_off"),
    "start": lambda walk, _: walk.admin("start"),
    "type": lambda walk, n: walk.admin("set_checkpoint_type", type=["Standard", "Production", "Disabled"][n % 3]),
    "no VSS": lambda walk, n: walk.run.host.set_guest(walk.run.vm, vss=n % 2 == 0),
    "critical": lambda walk, n: walk.run.host.critical(walk.run.vm, n % 2 == 0),
    "automatic": lambda walk, n: walk.admin("set_automatic_checkpoints", value=n % 2 == 0),
    "detach": lambda walk, _: walk.run.host.remove_drive(Script(), walk.run.vm, "SCSI:0:1"),
    "processors": lambda walk, n: walk.run.host.set_processor(Script(), walk.run.vm, n),
    "no room": lambda walk, n: walk.run.host.free_space(free_bytes=[None, 100, 9000, 1 << 30][n % 4]),
    "lost journal": lambda walk, _: walk.lose_the_journal(),
    "late words": lambda walk, n: walk.run.host.durations(status_delay=[0, LONG_MS][n % 2]),
    "stray": lambda walk, _: walk.run.host.stray_file(walk.run.vm, "SCSI:0:0"),
    "recovery": lambda walk, n: walk.admin("checkpoint", name=f"backup {n}", type="Recovery"),
    "restart": lambda walk, _: walk.restart_the_host(),
}


def walk_both(directory: Path, seed: int, steps: int) -> Counter[str]:
    """Drive both engines by the same steps, and compare them after each; return the verdicts that there were."""
    directory.mkdir(exist_ok=True)
    vm = f"{os.getpid():08x}-2222-4222-8333-{seed:012x}"
    generation = 1 + seed % 2
    with (
        running("builtin", directory / "b", vm, generation=generation) as builtin,
        running("pwsh", directory / "p", vm, generation=generation) as powershell,
    ):
        walks = [Walk(run, seed) for run in (builtin, powershell)]
        told = ["at the beginning"]
        for number in range(steps):
            one, other = (walk.step(number) for walk in walks)
            told.append(str(one[0]))
            assert_same(one, other, "\n".join(told))
        names = Named(directory / "b"), Named(directory / "p")
        assert_same(effects(directory / "b", names[0]), effects(directory / "p", names[1]), "\n".join(told))
        return Counter(answer["verdict"] for answer in builtin.answers)


@pytest.mark.powershell
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_engines_do_the_same_whatever_is_done(tmp_path: Path, seed: int) -> None:
    verdicts = walk_both(tmp_path, seed, STEPS)
    assert verdicts["DONE"] > 2, verdicts
