"""What a merge tells while it is waited for: how far it is, and which files of which disks are left."""

from __future__ import annotations

import pytest

from snapshotd.domain.host_report import Checkpoint, Disk, DiskFile, VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.operation import Step, StepNature
from snapshotd.domain.state import replace
from snapshotd.steps import disks_merge
from snapshotd.steps.disks_merge import DISKS_MERGE
from tests.unit.application.cases import sid
from tests.unit.steps.standing import made, step_of

FOLDER = r"D:\VMs\web01"


def at(name: str) -> str:
    """Return a file's path."""
    return rf"{FOLDER}\{name}"


FILES = tuple(at(name) for name in ("c-1", "c-2", "d-1", "d-2"))
"""What is left to merge at first: of two disks, two files each."""


def waiting() -> Step:
    """Return a wait for all the files."""
    return step_of(
        DISKS_MERGE, before=disks_merge.Before(FILES, FILES), nature=StepNature.FORWARD_ONLY, snapshot_id=sid(1)
    )


def report(
    *left: str, activities: tuple[str, ...] = ("MERGE",), percent: int = 0, loose: tuple[str, ...] = ()
) -> VmReport:
    """Return a report of a VM with two disks whose chains hold these files; `loose`: files that no chain holds."""
    world = made()
    seen = world.host.report()
    assert seen.description is not None
    files, disks = [], []
    for location, disk in (("SCSI:0:0", "c"), ("SCSI:0:1", "d")):
        chain = [at(f"{disk}-leaf"), *(at(n) for n in left if n.startswith(disk)), at(f"{disk}.vhdx")]
        files += [DiskFile(path=a, parent_path=b) for a, b in zip(chain, [*chain[1:], ""], strict=True)]
        disks.append(Disk(location=location, path=chain[0]))
    described = replace(seen.description, disks=tuple(disks), files=tuple(files), checkpoints=())
    existing = (*(f.path for f in files), *(at(name) for name in loose))
    return replace(seen, description=described, activities=activities, percent=percent, existing_files=existing)


@pytest.mark.parametrize(
    ("seen", "reason", "text"),
    [
        (
            report("c-1", "c-2", "d-1", percent=40),
            "MERGE_IN_PROGRESS",
            "The host is merging disks (35 %). Left: SCSI:0:0: 2 files, SCSI:0:1: 1 file (c-1, c-2, d-1).",
        ),
        (report(), "MERGE_IN_PROGRESS", "The host is merging disks."),
        (
            report("d-1", loose=("d-2",)),
            "MERGE_IN_PROGRESS",
            "The host is merging disks (50 %). Left: SCSI:0:1: 1 file, outside of the chains: 1 file (d-1, d-2).",
        ),
        (
            report("d-1", activities=()),
            "MERGE_NOT_BEGUN",
            rf"The host is not merging. Left: SCSI:0:1: 1 file ({FOLDER}\d-1).",
        ),
        (
            report("d-1", activities=("BACKUP", "MERGE")),
            "HOST_WORKING",
            "The host is at work on the VM (BACKUP), and disks are left to merge. Left: SCSI:0:1: 1 file (d-1).",
        ),
    ],
    ids=["merging", "merged", "not deleted yet", "not begun", "backup"],
)
def test_what_is_left_is_told_for_each_disk(seen: VmReport, reason: str, text: str) -> None:
    awaited = DISKS_MERGE.awaits(waiting(), seen)
    assert (awaited.reason, awaited.message) == (reason, text)


def test_a_message_names_ten_files_and_counts_all() -> None:
    names = tuple(at(f"c-{n}") for n in range(12))
    step = step_of(DISKS_MERGE, before=disks_merge.Before(names, names), snapshot_id=sid(1))
    text = DISKS_MERGE.awaits(step, report(*(f"c-{n}" for n in range(12)))).message
    assert "Left: SCSI:0:0: 12 files (" in text
    assert text.count("c-") == 10
    assert text.endswith(", ...).")


def test_the_percentage_only_grows_while_one_disk_after_the_other_is_merged() -> None:
    told = [
        DISKS_MERGE.progress(waiting(), report(*left, percent=percent))
        for left in (
            ("c-1", "c-2", "d-1", "d-2"),
            ("c-2", "d-1"),
            ("d-2",),
            (),
        )
        for percent in ((0, 50, 99) if left else (0,))
    ]
    assert told == [0, 12, 24, 50, 62, 74, 75, 87, 99, 100]


def test_without_files_to_tell_by_the_hosts_word_counts() -> None:
    alone = step_of(DISKS_MERGE, before=disks_merge.Before((), ()), snapshot_id=sid(1))
    assert DISKS_MERGE.progress(alone, report(percent=30)) == 30
    assert DISKS_MERGE.progress(waiting(), replace(report(percent=30), description=None)) == 30


def test_a_file_that_only_a_checkpoint_stands_on_is_of_the_checkpoints_disk() -> None:
    seen = report(activities=())
    assert seen.description is not None
    head, stray = at("other"), at("d-1")
    checkpoint = Checkpoint(
        checkpoint_id=CheckpointId("c"),
        name="theirs",
        parent_id=None,
        created_at=None,
        checkpoint_type="Standard",
        has_memory=False,
        automatic=False,
        system_files_bytes=0,
        disks=(Disk(location="SCSI:0:1", path=head),),
    )
    files = (DiskFile(path=head, parent_path=stray), DiskFile(path=stray, parent_path=at("d.vhdx")))
    described = replace(seen.description, checkpoints=(checkpoint,), files=(*seen.description.files, *files))
    text = DISKS_MERGE.awaits(waiting(), replace(seen, description=described)).message
    assert "SCSI:0:1: 1 file (" in text
