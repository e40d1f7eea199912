"""Hosts that have the VMs of a kept log (large_logs.py), as its record has them, and answer at once."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks.instant_host import InstantHost
from benchmarks.large_logs import by_host, open_kept
from benchmarks.lives import Recorded
from snapshotd.api.v1 import executor_pb2 as pb

_PART_BYTES: Final = 1_000_000
"""How many bytes of reports an answer has at most: what the host script keeps to if nobody says otherwise."""


class KeptHosts:
    """All hosts of a kept log.

    Args:
        directory: of the log.
        holding: whether no effect ever ends.
        told: gets a line for each command: its kind and its VM, or `ALL`; None: nobody counts.
    """

    def __init__(self, directory: Path, *, holding: bool, told: Path | None) -> None:
        self._hosts = by_host(open_kept(directory))
        self._holding = holding
        self._told = None if told is None else told.open("ab", buffering=0)

    def open(self, connection: pb.HostConnection) -> KeptHost:
        """Return a host."""
        return KeptHost(
            connection, self._hosts[connection.host.removeprefix("hosts/")], self._tell, holding=self._holding
        )

    def _tell(self, what: str) -> None:
        if self._told is not None:
            self._told.write(what.encode() + b"\n")


class KeptHost(InstantHost):
    """One of them.

    Args:
        connection: the way to it.
        lives: its VMs: the kind of life of each, and its number in that.
        tell: is told of each command.
        holding: whether no effect ever ends.
    """

    def __init__(
        self,
        connection: pb.HostConnection,
        lives: Mapping[str, tuple[Recorded, int]],
        tell: Callable[[str], None] = lambda _: None,
        *,
        holding: bool = False,
    ) -> None:
        super().__init__(connection)
        self._lives = lives
        self._tell = tell
        self._holding = holding
        self._ids = sorted(lives)

    async def run(self, command: pb.HostCommand, timeout_s: float) -> pb.HostAnswer | pb.NoAnswer:
        """Carry a command out."""
        if command.kind == pb.HostCommand.REPORT and not command.vm_id:
            return self._all(command.after_vm_id)
        self._tell(f"{pb.HostCommand.Kind.Name(command.kind)} {command.vm_id}")
        if self._holding and command.kind == pb.HostCommand.EFFECT:
            await asyncio.Event().wait()
        return await super().run(command, timeout_s)

    def found(self, vm_id: str) -> pb.VmReport:
        """Return a VM that was not asked for before: as its life has left it, or that it is not here."""
        if vm_id not in self._lives:
            return pb.VmReport(vm_id=vm_id)
        life, number = self._lives[vm_id]
        return pb.VmReport.FromString(life.vm.stamped(life.report, number))

    def _all(self, after: str) -> pb.HostAnswer:
        """Return a part of the report of all VMs."""
        answer = pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.REPORTED)
        size = 0
        for vm_id in self._ids[bisect_right(self._ids, after) :]:
            vm = self.vms.get(vm_id) or self.found(vm_id)
            size += vm.ByteSize()
            if size > _PART_BYTES:
                answer.more = True
                break
            answer.vms.append(vm)
        if not answer.more:
            self._tell("ALL")
        return answer
