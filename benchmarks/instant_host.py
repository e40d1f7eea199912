"""A Hyper-V host that answers at once, from memory, behind the real executor: what is left is snapshotd's own time."""

from __future__ import annotations

import asyncio
import time
import uuid

from snapshotd.api.v1 import executor_pb2 as pb


class InstantHost:
    """A pool (executor/work.py) without sessions: it keeps fence, journal and checkpoints of each VM in memory."""

    def __init__(self, connection: pb.HostConnection) -> None:
        """Have no VM yet; each that is asked for by id is there."""
        del connection
        self.vms: dict[str, pb.VmReport] = {}

    async def run(self, command: pb.HostCommand, timeout_s: float) -> pb.HostAnswer | pb.NoAnswer:
        """Carry a command out."""
        del timeout_s
        vm = self.vms.get(command.vm_id) or self.vms.setdefault(command.vm_id, self.found(command.vm_id))
        if command.kind in (pb.HostCommand.REPORT, pb.HostCommand.POLL):
            return self.answer(pb.HostAnswer.REPORTED, vm)
        observes = command.kind == pb.HostCommand.OBSERVE
        if command.token < vm.journal.highest_token + (0 if observes else 1):
            return pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.STALE, highest_token=vm.journal.highest_token)
        vm.journal.highest_token = command.token
        if observes:
            return self.answer(pb.HostAnswer.OBSERVED, vm)
        action = command.WhichOneof("action")
        assert action in ("checkpoint_create", "checkpoint_remove"), command
        vm.journal.operation, vm.journal.step = command.operation, command.step
        vm.journal.phase = pb.JournalReport.DONE
        if action == "checkpoint_remove":
            _remove(vm, command.checkpoint_remove.checkpoint_id)
            return self.answer(pb.HostAnswer.DONE, vm)
        made = _create(vm, command.checkpoint_create.checkpoint_name, f"{vm.vm_id}_{command.token}.avhdx")
        answer = self.answer(pb.HostAnswer.DONE, vm)
        answer.checkpoint_create.checkpoint_id = made.checkpoint_id
        answer.checkpoint_create.has_memory = made.has_memory
        return answer

    @property
    def sessions(self) -> int:
        """None is kept."""
        return 0

    async def close(self, timeout_s: float) -> None:
        """Have nothing to close."""

    def found(self, vm_id: str) -> pb.VmReport:
        """Return a VM that was not asked for before."""
        vm = pb.VmReport(
            vm_id=vm_id, present=True, name=f"vm-{vm_id[:8]}", power=pb.STOPPED, checkpoint_type="Production"
        )
        vm.disks.add(location="SCSI:0:0", path=f"{vm_id}.vhdx")
        vm.files.add(path=f"{vm_id}.vhdx")
        vm.journal.state, vm.journal.journal_id = pb.JournalReport.PRESENT, str(uuid.uuid4())
        return vm

    def answer(self, verdict: pb.HostAnswer.Verdict.ValueType, vm: pb.VmReport) -> pb.HostAnswer:
        """Return an answer about one VM."""
        return pb.HostAnswer(protocol=1, verdict=verdict, vms=[vm])


def _create(vm: pb.VmReport, name: str, leaf: str) -> pb.CheckpointReport:
    """Take a checkpoint: freeze the file that is written to, and write to a new one."""
    newest = max((c.created_at.seconds for c in vm.checkpoints), default=0)
    made = vm.checkpoints.add(
        checkpoint_id=str(uuid.uuid4()),
        name=name,
        parent_id=vm.current_checkpoint_id,
        checkpoint_type="Standard",
    )
    made.created_at.seconds = max(int(time.time()), newest + 1)
    frozen = vm.disks[0].path
    made.disks.add(location="SCSI:0:0", path=frozen)
    vm.disks[0].path = leaf
    vm.files.add(path=leaf, parent_path=frozen)
    vm.current_checkpoint_id = made.checkpoint_id
    return made


def _remove(vm: pb.VmReport, checkpoint_id: str) -> None:
    """Remove a checkpoint, and merge at once what was written after it into the file that it had frozen."""
    (gone,) = [c for c in vm.checkpoints if c.checkpoint_id == checkpoint_id]
    vm.checkpoints.remove(gone)
    for child in vm.checkpoints:
        if child.parent_id == checkpoint_id:
            child.parent_id = gone.parent_id
    if vm.current_checkpoint_id == checkpoint_id:
        vm.current_checkpoint_id = gone.parent_id
    kept = gone.disks[0].path
    (merged,) = [f for f in vm.files if f.parent_path == kept]
    vm.files.remove(merged)
    for file in vm.files:
        if file.parent_path == merged.path:
            file.parent_path = kept
    for disk in (vm.disks[0], *(c.disks[0] for c in vm.checkpoints)):
        if disk.path == merged.path:
            disk.path = kept


class HoldingHost(InstantHost):
    """An instant host on which no effect ends."""

    async def run(self, command: pb.HostCommand, timeout_s: float) -> pb.HostAnswer | pb.NoAnswer:
        """Carry a command out, or wait with it for ever."""
        if command.kind == pb.HostCommand.EFFECT:
            await asyncio.Event().wait()
        return await super().run(command, timeout_s)
