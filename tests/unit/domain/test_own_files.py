"""Which files go with a VM, by chains as hosts have them."""

from __future__ import annotations

import pytest

from snapshotd.domain.own_files import Disposal, UsedFile, disposal, own_files
from snapshotd.domain.state import replace
from tests.unit.domain.test_chains import described

IMAGE = "a base image, on which other disks may stand"


@pytest.mark.parametrize(
    ("leaf", "checkpoints", "chains", "own"),
    [
        ("a.vhdx", {}, ["a.vhdx"], ["a.vhdx"]),
        ("c.avhdx", {"1": "b.avhdx"}, ["c.avhdx>b.avhdx>a.vhdx"], ["a.vhdx", "b.avhdx", "c.avhdx"]),
        ("a.vhdx", {}, ["a.vhdx>golden.vhdx"], ["a.vhdx"]),
        ("b.avhdx", {"1": "a.vhdx"}, ["b.avhdx>a.vhdx>patched.vhdx>golden.vhdx"], ["a.vhdx", "b.avhdx"]),
        ("b.avhdx", {}, ["b.avhdx>backup.avhdx>a.vhdx"], ["a.vhdx", "b.avhdx", "backup.avhdx"]),
        ("B.AVHDX", {}, ["b.avhdx>A.vhdx", "A.vhdx"], ["A.vhdx", "b.avhdx"]),
        ("new.vhdx", {"1": "old.vhdx"}, ["new.vhdx", "old.vhdx"], ["new.vhdx", "old.vhdx"]),
        ("", {}, ["a.vhdx"], []),
    ],
    ids=[
        "a disk",
        "a chain of checkpoints",
        "over an image",
        "a checkpoint over images",
        "a backup's file between",
        "in another case",
        "a disk that only a checkpoint has",
        "a pass-through disk",
    ],
)
def test_a_vms_own_files(leaf: str, checkpoints: dict[str, str], chains: list[str], own: list[str]) -> None:
    assert own_files(described(leaf, checkpoints, *chains)) == tuple(own)


def test_what_is_missing_is_not_deleted_and_not_told() -> None:
    vm = described("b.avhdx", {}, "b.avhdx>a.vhdx")
    vm = replace(vm, files=tuple(replace(f, missing=f.path == "a.vhdx") for f in vm.files))
    assert disposal(vm, ()) == Disposal(("b.avhdx",), ())


def test_what_others_use_is_left_with_their_name_and_an_image_even_if_nobody_is_known_to() -> None:
    vm = described("b.avhdx", {}, "b.avhdx>a.vhdx>golden.vhdx")
    assert disposal(vm, (UsedFile("A.VHDX", "VM web02"),)) == Disposal(
        ("b.avhdx",), (("a.vhdx", "VM web02 uses it"), ("golden.vhdx", IMAGE))
    )
    assert disposal(vm, (UsedFile("golden.vhdx", "VM web02"),)).left == (("golden.vhdx", "VM web02 uses it"),)
