"""What a removed checkpoint leaves to merge, by chains as hosts have them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from snapshotd.domain.chains import not_passed_through, passed_through, superfluous
from snapshotd.domain.host_report import Checkpoint, Disk, DiskFile, VmDescription
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.offering import Offering
from snapshotd.domain.state import replace

GONE = CheckpointId("gone")


def described(leaf: str, checkpoints: Mapping[str, str], *chains: str) -> VmDescription:
    """Describe a VM with one disk.

    Args:
        leaf: the file that it writes to.
        checkpoints: the file that each checkpoint begins with.
        chains: "leaf>parent>base", each file with what it is based on.
    """
    parents: dict[str, str] = {}
    for chain in chains:
        files = chain.split(">")
        parents |= dict(zip(files, [*files[1:], parents.get(files[-1], "")], strict=True))
    return VmDescription(
        name="web01",
        checkpoint_type="Production",
        current_checkpoint_id=None,
        checkpoints=tuple(
            Checkpoint(
                checkpoint_id=CheckpointId(name),
                name=name,
                parent_id=None,
                created_at=None,
                checkpoint_type="Standard",
                has_memory=False,
                automatic=False,
                system_files_bytes=0,
                disks=(Disk(location="SCSI:0:0", path=path),),
            )
            for name, path in checkpoints.items()
        ),
        disks=(Disk(location="SCSI:0:0", path=leaf),),
        files=tuple(DiskFile(path=path, parent_path=parent) for path, parent in parents.items()),
        snapshot_blockers=(),
        offering=Offering(cpu_count=1, memory_bytes=0),
        is_replica=False,
    )


@pytest.mark.parametrize(
    ("description", "left"),
    [
        (described("d1", {"gone": "base"}, "d1>base"), ("base",)),
        (described("d2", {"gone": "base", "b": "d1"}, "d2>d1>base"), ("base",)),
        (described("d2", {"a": "base", "gone": "d1"}, "d2>d1>base"), ("d1",)),
        (described("d3", {"a": "base", "gone": "d1", "c": "d2"}, "d3>d2>d1>base"), ("d1",)),
        (described("d1", {"gone": "own"}, "d1>own>golden2>golden1"), ("own",)),
        (described("d2", {"gone": "own"}, "d2>stray>own>golden"), ()),
        (described("d1", {"gone": "own"}, "d1>own>stray>golden"), ("own",)),
        (described("d9", {"a": "base", "gone": "d1"}, "d9>base", "d1>base"), ("base", "d1")[1:]),
        (described("d9", {"gone": "d1"}, "d9>base", "d1>base"), ("base", "d1")),
        (described("d9", {"gone": "base", "b": "d1"}, "d9>base", "d1>base"), ()),
        (described("d9", {"gone": "d1", "b": "d2"}, "d9>base", "d1>base", "d2>base"), ("d1",)),
    ],
    ids=[
        "the only one",
        "the oldest",
        "the newest",
        "one in the middle",
        "above a golden image of two levels",
        "below a stray",
        "above a stray",
        "a branch of its own, beside a checkpoint that stays",
        "a branch of its own, whose branch point has one child left",
        "a branch point",
        "one of three branches",
    ],
)
def test_what_is_superfluous_without_a_checkpoint(description: VmDescription, left: tuple[str, ...]) -> None:
    assert superfluous(description, GONE) == left


def test_strays_are_what_was_passed_through_before() -> None:
    description = described("d2", {"a": "d1"}, "d2>stray>d1>golden2>golden1")
    assert passed_through(description) == {"stray", "golden2", "golden1"}
    assert not_passed_through(description) == ("d1", "d2")


def test_spelling_makes_no_difference() -> None:
    files = (
        DiskFile(path="D1", parent_path="base"),
        DiskFile(path="BASE", parent_path="Golden"),
        DiskFile(path="golden"),
    )
    description = replace(described("d1", {"gone": "Base"}), files=files)
    assert superfluous(description, GONE) == ("BASE",)


def test_a_chain_that_leads_in_a_circle_is_followed_once() -> None:
    description = described("a", {}, "a>b>c", "c>a")
    assert passed_through(description) == {"b", "c"}
