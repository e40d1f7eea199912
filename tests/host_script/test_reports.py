"""How Hyper-V's words and objects become a report."""

from __future__ import annotations

import pytest

from snapshotd.api.v1.executor_pb2 import PAUSED, RUNNING, SAVED, STOPPED, UNKNOWN, Power
from snapshotd.simulator.hypervisor import DriveView
from snapshotd.simulator.reporting import report_vm
from tests.host_script.recording_host import WEB, RecordingHost


@pytest.mark.parametrize(
    ("state", "power", "activities"),
    [
        ("Running", RUNNING, []),
        ("Off", STOPPED, []),
        ("Paused", PAUSED, []),
        ("Saved", SAVED, []),
        ("FastSaved", SAVED, []),
        ("Starting", UNKNOWN, ["STATE_CHANGE"]),
        ("Saving", UNKNOWN, ["STATE_CHANGE"]),
        ("OffCritical", UNKNOWN, []),
        ("StartingCritical", UNKNOWN, []),
        ("Other", UNKNOWN, []),
    ],
)
def test_a_state_becomes_power_and_activity(
    state: str, power: Power.ValueType, activities: list[str], host: RecordingHost
) -> None:
    host.set(state=state)
    report = report_vm(host, host.journal_directory, WEB, ())
    assert (report.power, report.host_state, list(report.activities)) == (power, state, activities)


@pytest.mark.parametrize(
    ("status", "activities"),
    [
        ((), []),
        (("CreatingSnapshot",), ["CREATE"]),
        (("ApplyingSnapshot",), ["APPLY"]),
        (("32769",), ["APPLY"]),
        (("DeletingSnapshot", "MergingDisks"), ["DELETE", "MERGE"]),
        (("ExportingVirtualMachine",), ["EXPORT"]),
        (("MigratingVirtualMachine", "StorageMigrationPhaseOne"), ["MIGRATE"]),
        (("BackingUp",), ["BACKUP"]),
        (("SomethingNew",), ["OTHER"]),
        (("ApplicationCriticalState", "CommunicationTimedOut"), []),
    ],
)
def test_work_under_way_is_told_and_mere_conditions_are_not(
    status: tuple[str, ...], activities: list[str], host: RecordingHost
) -> None:
    host.set(secondary_status=status)
    assert list(report_vm(host, host.journal_directory, WEB, ()).activities) == activities


def test_chains_are_told_from_the_leaf_to_the_base(host: RecordingHost) -> None:
    first = host.take(WEB, "first")
    second = host.take(WEB, "second")
    report = report_vm(host, host.journal_directory, WEB, ())
    base, middle, leaf = f"{host.disks}/web01.vhdx", f"{host.disks}/web01_1.avhdx", f"{host.disks}/web01_2.avhdx"
    assert [(disk.location, list(disk.chain), disk.file_bytes) for disk in report.disks] == [
        ("SCSI:0:0", [leaf, middle, base], 1000)
    ]
    assert [(c.checkpoint_id, c.parent_id, list(c.disks[0].chain)) for c in report.checkpoints] == [
        (first, "", [base]),
        (second, first, [middle, base]),
    ]
    assert report.current_checkpoint_id == second


def test_a_file_that_is_missing_still_stands_in_its_chain(host: RecordingHost) -> None:
    host.take(WEB, "first")
    del host.files[f"{host.disks}/web01.vhdx"]
    disk = report_vm(host, host.journal_directory, WEB, ()).disks[0]
    assert list(disk.chain) == [f"{host.disks}/web01_1.avhdx", f"{host.disks}/web01.vhdx"]


def test_what_blocks_checkpoints_is_told_once_and_in_order(host: RecordingHost) -> None:
    host.set(
        replica=True,
        blockers=("REPLICA", "FIBRE_CHANNEL"),
        drives=(
            DriveView(location="SCSI:0:0", path="", pass_through=True),
            DriveView(location="SCSI:0:1", path=f"{host.disks}/web01.vhdx", shared=True),
        ),
    )
    report = report_vm(host, host.journal_directory, WEB, ())
    assert list(report.snapshot_blockers) == ["FIBRE_CHANNEL", "PASS_THROUGH_DISK", "REPLICA", "SHARED_DISK"]
    assert report.is_replica
    assert [list(disk.chain) for disk in report.disks] == [[], [f"{host.disks}/web01.vhdx"]]
