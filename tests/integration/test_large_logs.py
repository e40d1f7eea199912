"""The logs that benchmarks are run on, written straight into the tables: they are what the product would have made."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.kept_hosts import KeptHost
from benchmarks.large_logs import Kept, Shape, by_host, write
from benchmarks.lives import LOG, Recorded, record
from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.application.virtual_machines import fold
from snapshotd.bootstrap import check
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import HostId, VmId, vm_stream
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.server.host_wire import from_outcome
from snapshotd.settings import load
from snapshotd.store.sqlite_log import SqliteEventLog

pytestmark = pytest.mark.slow

SHAPE = Shape((("with snapshots", 130), ("active", 3)), hosts=4)


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    return {life: record(life, tmp_path_factory.mktemp("recorded") / life) for life, _ in SHAPE.vms}


@pytest.fixture(scope="module")
def log(lives: dict[str, Recorded], tmp_path_factory: pytest.TempPathFactory) -> Kept:
    directory = tmp_path_factory.mktemp("log")
    write(directory, SHAPE, lives)
    return Kept(directory, SHAPE, lives, SHAPE.hosts + sum(lives[life].vm.events * n for life, n in SHAPE.vms))


def contents(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = {name: connection.execute(f"SELECT * FROM {name}") for (name,) in names}  # noqa: S608
        return {name: sorted(map(repr, found)) for name, found in rows.items()}


def test_what_is_kept_beside_the_events_is_what_the_product_makes_of_them(log: Kept) -> None:
    with log.copied() as copy:
        assert check(load(None, {}, {"storage.directory": str(copy)})) == 0
        made, written = contents(copy / LOG), contents(log.directory / LOG)
        assert len(written["stored_events"]) == log.events
        assert made == written


async def test_every_vm_folds_and_is_as_its_host_reports_it(log: Kept) -> None:
    with log.copied() as copy, SqliteEventLog(copy / "events.db") as opened:
        for host, vms in by_host(log).items():
            reported = {vm.vm_id: vm for vm in await report_of(host, vms)}
            assert sorted(reported) == sorted(vms)
            for vm_id, (life, _) in vms.items():
                stream = await opened.read_stream(vm_stream(VmId(vm_id)))
                vm = fold(VirtualMachine(vm_id=VmId(vm_id)), stream)
                assert (vm.host_id, vm.description, len(stream)) == (
                    HostId(host),
                    reported[vm_id].description,
                    life.vm.events,
                )
                assert len(vm.active_operations) == (1 if life is log.lives["active"] else 0)


async def report_of(host: str, vms: dict[str, tuple[Recorded, int]]) -> list[VmReport]:
    """Return what a host reports of all its VMs, each as it is read by itself."""
    instant = KeptHost(pb.HostConnection(host=f"hosts/{host}"), vms)
    command = pb.HostCommand(kind=pb.HostCommand.REPORT)
    found: list[pb.VmReport] = []
    while True:
        answer = await instant.run(command, 1.0)
        assert isinstance(answer, pb.HostAnswer)
        found += answer.vms
        if not answer.more:
            break
        command.after_vm_id = found[-1].vm_id
    singly = [pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.OBSERVED, vms=[vm]) for vm in found]
    return [report for one in singly for report in from_outcome(pb.CommandOutcome(answer=one)).vms]
