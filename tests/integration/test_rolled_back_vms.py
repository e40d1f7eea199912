"""GetStatus names the VMs whose journals are newer than the log, so that nobody has to look at each VM."""

from __future__ import annotations

from pathlib import Path

from snapshotd.api.v1 import admin_pb2
from snapshotd.domain.state import replace
from tests.fakes import FakeHost
from tests.integration.quiet_server import CALLER, Running, run


async def problems(running: Running) -> list[admin_pb2.Problem]:
    """Return what the status says is wrong."""
    return list((await running.admin.GetStatus(admin_pb2.GetStatusRequest(), CALLER)).problems)


async def test_status_names_each_vm_that_is_rolled_back_and_counts_those_beyond_twenty(tmp_path: Path) -> None:
    report = FakeHost().report()
    newer = replace(report, journal=replace(report.journal, highest_token=900))
    async with run(tmp_path) as running:
        await running.register(report)
        assert await problems(running) == []
        ids = [f"33333333-3333-4333-8333-3333333333{n:02}" for n in range(22)]
        await running.register(replace(newer, vm_id=ids[0]))
        (told,) = await problems(running)
        assert (told.subject, told.reason) == (f"VM {ids[0]}", "LOG_ROLLED_BACK")
        assert "Put the newer log back" in told.message
        for vm_id in ids[1:]:
            await running.register(replace(newer, vm_id=vm_id))
        *told_one_by_one, rest = await problems(running)
        assert [p.subject for p in told_one_by_one] == [f"VM {vm_id}" for vm_id in ids[:20]]
        assert (rest.subject, rest.reason) == ("2 more VMs", "LOG_ROLLED_BACK")
        assert "22 VMs in all" in rest.message
