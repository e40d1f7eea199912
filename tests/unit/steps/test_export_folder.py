"""Which folder of a VM's exports a path is in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from snapshotd.domain.export import Export
from snapshotd.domain.ids import HostId, VmId
from snapshotd.steps.export_folder import folder_around

VM = VmId("11111111-1111-4111-8111-111111111111")
OF_VM = f"D:\\Exports\\{VM}"
COMPLETE, USED = f"{OF_VM}\\3-0a1b2c3d-1", f"{OF_VM}\\5-0a1b2c3d-1"


def export(directory: str, *, in_use: bool = False) -> Export:
    """Return an export in a folder."""
    return Export(
        directory=directory,
        configuration_path="",
        size_bytes=0,
        host_id=HostId("hv01"),
        made_at=datetime(2026, 11, 25, tzinfo=UTC),
        of_version=1,
        in_use=in_use,
    )


EXPORTS = (export(COMPLETE), export(USED, in_use=True), export(f"/exports/{VM}/{VM}/8-x-1"))


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        (f"{COMPLETE}\\Virtual Hard Disks\\data.vhdx", COMPLETE),
        (f"{COMPLETE}\\data.vhdx".upper().replace("\\", "/"), COMPLETE),
        (f"{USED}\\..\\3-0a1b2c3d-1\\data.vhdx", COMPLETE),
        (f"/exports/{VM}/{VM}/8-x-1/data.vhdx", f"/exports/{VM}/{VM}/8-x-1"),
        (f"{OF_VM}\\7-0a1b2c3d-1.partial\\data.vhdx", f"{OF_VM}\\7-0a1b2c3d-1.partial".lower()),
        (f"{OF_VM}\\7-0a1b2c3d-1.PARTIAL.\\a\\data.vhdx", f"{OF_VM}\\7-0a1b2c3d-1.partial".lower()),
        (f"{USED}\\Virtual Hard Disks\\data.vhdx", ""),
        (f"{COMPLETE}\\..\\data.vhdx", ""),
        (f"{COMPLETE}0\\data.vhdx", ""),
        (f"{OF_VM}\\data.partial.vhdx", ""),
        (f"{OF_VM}\\data.vhdx", ""),
        ("D:\\Exports\\data.vhdx", ""),
    ],
)
def test_a_path_is_in_the_folder_of_an_export_that_may_be_removed_however_it_is_spelt(path: str, folder: str) -> None:
    assert folder_around(path, VM, EXPORTS) == folder
