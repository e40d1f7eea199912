"""Sizes of disks: what none can have is refused with the limits as people write them."""

from __future__ import annotations

import pytest

from snapshotd.domain.errors import InvalidArgument
from snapshotd.operations.volumes import check_size


@pytest.mark.parametrize(("file", "most"), [("a.vhdx", "65,536 GiB"), ("a.vhd", "2,040 GiB")])
@pytest.mark.parametrize("size", [1 << 20, (3 << 20) + 1, 1 << 50])
def test_the_limits_of_a_size_have_units(file: str, most: str, size: int) -> None:
    with pytest.raises(InvalidArgument, match=f"must be a multiple of 4096 bytes, from 3 MiB to {most}"):
        check_size(size, file)
    check_size(3 << 20, file)
