"""Which files of a VM others have: in their chains, or by a claim, however they spell them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from snapshotd.access.bindings import Binding, Granted
from snapshotd.access.roles import Role
from snapshotd.application.hosts import Hosts
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.domain.commands import RegisterVm, UnregisterVm
from snapshotd.domain.events import ClaimCause
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.own_files import UsedFile
from snapshotd.domain.policy import Policy
from snapshotd.domain.volume_errors import VolumeInUse
from snapshotd.server.callers import CALLER, Caller
from snapshotd.server.runtime import Runtime
from snapshotd.server.sync import HostReports
from snapshotd.server.volume_claims import VolumeClaims
from tests.doubles import Clock, Ids
from tests.fakes import FakeHost
from tests.memory_log import MemoryLog

ONE, OTHER = VmId("11111111-1111-4111-8111-111111111111"), VmId("21111111-1111-4111-8111-111111111111")
DATA, MORE, LOOSE = r"D:\vms\data.vhdx", r"D:\vms\more.vhdx", r"D:\vms\loose.vhdx"


class Town:
    """VMs on two hosts, and who has claimed what."""

    def __init__(self) -> None:
        log, clock, ids, policy = MemoryLog(), Clock(), Ids(), Policy()
        self.vms = VirtualMachines(log, clock, ids, policy)
        self.volumes = Volumes(log, clock, ids, self.vms)
        runtime = Runtime(self.vms, Dispatcher(policy, 8, 4, "x"), policy, clock, ids, self.volumes)
        self.claims = VolumeClaims(
            runtime, self.vms, self.volumes, HostReports(runtime, self.vms, Hosts(log, clock, ids))
        )

    async def register(self, vm_id: VmId, host: str, volumes: Mapping[str, str]) -> None:
        """Register a VM that has these volumes."""
        there = FakeHost(vm_id=vm_id, leaf=f"D:\\vms\\{vm_id}.vhdx", volumes=dict(volumes))
        there.name = f"vm{vm_id[0]}"
        command = RegisterVm(host_id=HostId(host), owner="ops", report=there.report())
        await self.vms.execute(vm_id, command, actor="ann", request_id="", digest="")


async def test_it_is_told_who_has_which_file_by_a_disk_or_by_a_claim() -> None:
    town = Town()
    await town.register(ONE, "hv01", {"SCSI:0:1": DATA, "SCSI:0:2": MORE, "SCSI:0:3": LOOSE})
    await town.register(OTHER, "hv02", {"SCSI:0:1": "d:/VMs/DATA.vhdx"})
    await town.volumes.claim(MORE.upper(), OTHER, cause=ClaimCause.REQUESTED, actor="ann")
    await town.volumes.claim(LOOSE, ONE, cause=ClaimCause.REQUESTED, actor="ann")
    assert await town.claims.used_by_others(ONE, recorded=False) == (UsedFile(DATA, "VM vm2"), UsedFile(MORE, "VM vm2"))


async def test_a_vm_that_the_caller_may_not_see_is_not_named() -> None:
    town = Town()
    await town.register(ONE, "hv01", {"SCSI:0:1": DATA, "SCSI:0:2": MORE})
    await town.register(OTHER, "hv02", {"SCSI:0:1": DATA})
    await town.volumes.claim(MORE, OTHER, cause=ClaimCause.REQUESTED, actor="ann")
    own = Granted((Binding(role=Role.ADMIN, subjects=frozenset(), groups=frozenset(), host="hv01"),))
    CALLER.set(Caller(subject="token:a", granted=own))
    assert {file.by for file in await town.claims.used_by_others(ONE, recorded=False)} == {"VM (not yours to see)"}
    assert {file.by for file in await town.claims.used_by_others(ONE, recorded=True)} == {"another VM"}
    with pytest.raises(VolumeInUse) as refused:
        await town.claims.refuse_used(DATA, ONE, "attach")
    assert (refused.value.owner_id, refused.value.host) == ("", "(not yours to see)")
    assert not {"vm2", OTHER, "hv02"} & set(refused.value.message().split())


async def test_who_is_not_registered_any_more_has_nothing() -> None:
    town = Town()
    await town.register(ONE, "hv01", {"SCSI:0:1": DATA})
    await town.register(OTHER, "hv01", {"SCSI:0:1": DATA})
    await town.vms.execute(OTHER, UnregisterVm(), actor="ann", request_id="", digest="")
    assert await town.claims.used_by_others(ONE, recorded=False) == ()
