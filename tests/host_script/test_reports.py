"""How Hyper-V's words and objects become a report."""

from __future__ import annotations

import pytest

from snapshotd.api.v1.executor_pb2 import (
    PAUSED,
    RUNNING,
    SAVED,
    STOPPED,
    UNKNOWN,
    HostAnswer,
    HostCommand,
    Power,
)
from snapshotd.simulator.hypervisor import DriveView
from snapshotd.simulator.reporting import report_vm
from snapshotd.simulator.watched import Watched
from tests.host_script.conversation import Conversation
from tests.host_script.host_commands import look
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
        ("OffCritical", STOPPED, []),
        ("RunningCritical", RUNNING, []),
        ("StartingCritical", UNKNOWN, ["STATE_CHANGE"]),
        ("Other", UNKNOWN, []),
    ],
)
def test_a_state_becomes_power_and_activity(
    state: str, power: Power.ValueType, activities: list[str], host: RecordingHost
) -> None:
    host.set(state=state)
    report = report_vm(host, host.journal_directory, WEB)
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
    assert list(report_vm(host, host.journal_directory, WEB).activities) == activities


def test_every_file_of_the_chains_is_told_once_with_what_it_is_based_on(host: RecordingHost) -> None:
    first = host.take(WEB, "first")
    second = host.take(WEB, "second")
    report = report_vm(host, host.journal_directory, WEB)
    base, middle, leaf = f"{host.disks}/web01.vhdx", f"{host.disks}/web01_1.avhdx", f"{host.disks}/web01_2.avhdx"
    assert [(disk.location, disk.path) for disk in report.disks] == [("SCSI:0:0", leaf)]
    assert [(c.checkpoint_id, c.parent_id, c.disks[0].path) for c in report.checkpoints] == [
        (first, "", base),
        (second, first, middle),
    ]
    assert sorted((f.path, f.parent_path, f.file_bytes) for f in report.files) == sorted(
        [(leaf, middle, 1000), (middle, base, 1000), (base, "", 1000)]
    )
    assert report.current_checkpoint_id == second


def test_a_file_that_is_missing_is_told_and_ends_its_chain(host: RecordingHost) -> None:
    host.take(WEB, "first")
    del host.files[f"{host.disks}/web01.vhdx"]
    report = report_vm(host, host.journal_directory, WEB)
    assert {f.path: (f.parent_path, f.missing) for f in report.files} == {
        f"{host.disks}/web01_1.avhdx": (f"{host.disks}/web01.vhdx", False),
        f"{host.disks}/web01.vhdx": ("", True),
    }


def test_a_watched_file_whose_directory_is_away_is_not_known_and_hides_nothing_else(host: RecordingHost) -> None:
    away = f"{host.disks}/moved/web01_1.avhdx"
    report = report_vm(
        host, host.journal_directory, WEB, Watched((away, f"{host.disks}/web01.vhdx", f"{host.disks}/no.vhdx"))
    )
    assert (list(report.existing_files), list(report.unknown_files)) == ([f"{host.disks}/web01.vhdx"], [away])
    gone = report_vm(host, host.journal_directory, "00000000-0000-4000-8000-00000000dead", Watched((away,)))
    assert (gone.present, list(gone.unknown_files)) == (False, [away])


def test_what_blocks_checkpoints_is_told_once_and_in_order(host: RecordingHost) -> None:
    host.set(
        replica=True,
        blockers=("REPLICA", "FIBRE_CHANNEL"),
        drives=(
            DriveView(location="SCSI:0:0", path="", pass_through=True),
            DriveView(location="SCSI:0:1", path=f"{host.disks}/web01.vhdx", shared=True),
        ),
    )
    report = report_vm(host, host.journal_directory, WEB)
    assert list(report.snapshot_blockers) == ["FIBRE_CHANNEL", "PASS_THROUGH_DISK", "REPLICA", "SHARED_DISK"]
    assert report.is_replica
    assert [disk.path for disk in report.disks] == ["", f"{host.disks}/web01.vhdx"]


def test_a_report_tells_whether_journals_can_be_written_and_leaves_nothing_behind(
    script: Conversation, host: RecordingHost
) -> None:
    for vm in (WEB, ""):
        assert not script.ask(look(vm=vm)).HasField("journal_error")
    assert list(host.journal_directory.iterdir()) == []


@pytest.mark.parametrize("of_all", [False, True])
def test_a_report_from_where_no_journal_can_be_written_says_so_beside_what_is_there(
    script: Conversation, *, of_all: bool
) -> None:
    command = look(vm="" if of_all else WEB)
    command.journal_directory = "/sys"  # can be read, and nothing can be made in it
    answer = script.ask(command)
    assert answer.verdict == HostAnswer.REPORTED
    assert WEB in {report.vm_id for report in answer.vms}
    assert answer.journal_error.id == "JournalFailed,snapshotd"
    assert "denied" in answer.journal_error.message


def test_a_poll_only_reads(script: Conversation, host: RecordingHost) -> None:
    assert script.ask(look(HostCommand.POLL)).verdict == HostAnswer.REPORTED
    assert not host.journal_directory.exists()
