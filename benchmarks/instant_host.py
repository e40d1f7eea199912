"""A Hyper-V host that answers at once, from memory, behind the real executor: what is left is snapshotd's own time."""

from __future__ import annotations

import uuid

from snapshotd.api.v1 import executor_pb2 as pb


class InstantHost:
    """A pool (executor/work.py) without sessions: it keeps fence, journal and checkpoints of each VM in memory."""

    def __init__(self, connection: pb.HostConnection) -> None:
        """Have no VM yet; each that is asked for by id is there."""
        del connection
        self._vms: dict[str, pb.VmReport] = {}

    async def run(self, command: pb.HostCommand, timeout_s: float) -> pb.HostAnswer | pb.NoAnswer:
        """Carry a command out."""
        del timeout_s
        vm = self._vms.get(command.vm_id) or self._new(command.vm_id)
        if command.kind in (pb.HostCommand.REPORT, pb.HostCommand.POLL):
            return self._answer(pb.HostAnswer.REPORTED, vm)
        if command.token <= vm.journal.highest_token:
            return pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.STALE, highest_token=vm.journal.highest_token)
        vm.journal.highest_token = command.token
        if command.kind == pb.HostCommand.OBSERVE:
            return self._answer(pb.HostAnswer.OBSERVED, vm)
        assert command.WhichOneof("action") == "checkpoint_create", command
        vm.journal.operation, vm.journal.step = command.operation, command.step
        vm.journal.phase = pb.JournalReport.DONE
        made = vm.checkpoints.add(
            checkpoint_id=str(uuid.uuid4()),
            name=command.checkpoint_create.checkpoint_name,
            parent_id=vm.current_checkpoint_id,
            checkpoint_type="Standard",
        )
        frozen = vm.disks[0].path
        made.disks.add(location="SCSI:0:0", path=frozen)
        vm.disks[0].path = f"{vm.vm_id}_{len(vm.checkpoints)}.avhdx"
        vm.files.add(path=vm.disks[0].path, parent_path=frozen)
        vm.current_checkpoint_id = made.checkpoint_id
        answer = self._answer(pb.HostAnswer.DONE, vm)
        answer.checkpoint_create.checkpoint_id = made.checkpoint_id
        answer.checkpoint_create.has_memory = made.has_memory
        return answer

    async def close(self, timeout_s: float) -> None:
        """Have nothing to close."""

    def _new(self, vm_id: str) -> pb.VmReport:
        vm = pb.VmReport(
            vm_id=vm_id, present=True, name=f"vm-{vm_id[:8]}", power=pb.STOPPED, checkpoint_type="Production"
        )
        vm.disks.add(location="SCSI:0:0", path=f"{vm_id}.vhdx")
        vm.files.add(path=f"{vm_id}.vhdx")
        vm.journal.state, vm.journal.journal_id = pb.JournalReport.PRESENT, str(uuid.uuid4())
        if vm_id:
            self._vms[vm_id] = vm
        return vm

    def _answer(self, verdict: pb.HostAnswer.Verdict.ValueType, vm: pb.VmReport) -> pb.HostAnswer:
        return pb.HostAnswer(protocol=1, verdict=verdict, vms=[vm])
