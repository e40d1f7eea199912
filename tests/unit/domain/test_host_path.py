"""Paths on hosts: which of them name one file on every host."""

from __future__ import annotations

import pytest

from snapshotd.domain import host_path


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        (r"\\server\share\d.vhdx", True),
        (r"\\?\UNC\server\share\d.vhdx", True),
        ("//server/share/d.vhdx", True),
        (r"C:\ClusterStorage\Volume1\d.vhdx", True),
        ("c:/clusterstorage/v/d.vhdx", True),
        (r"C:\ClusterStorage.old\d.vhdx", False),
        (r"C:\Disks\ClusterStorage\d.vhdx", False),
        (r"D:\Copies\d.vhdx", False),
        (r"\\?\D:\Copies\d.vhdx", False),
        (r"\\?\Volume{11111111-1111-4111-8111-111111111111}\d.vhdx", False),
        ("/srv/copies/d.vhdx", False),
    ],
)
def test_only_shares_and_cluster_volumes_are_the_same_on_every_host(path: str, *, shared: bool) -> None:
    assert host_path.shared(path) is shared


@pytest.mark.parametrize("path", ["D:", "D:\\", "D:\\Exports", r"\\nas\exports", r"\\nas\exports\here", "/exports"])
def test_a_drive_a_share_and_what_is_below_them_can_be_folders(path: str) -> None:
    assert host_path.folder_problem(path) == ""


@pytest.mark.parametrize("path", ["", "\\", "exports", r"\\nas", "D:\\a|b", "D:\\" + "x" * 1100])
def test_what_is_no_folder_is_told_with_what_one_is_like(path: str) -> None:
    assert host_path.folder_problem(path).startswith("must ")
    assert ".vhdx" not in host_path.folder_problem(path)
