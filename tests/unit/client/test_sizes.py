"""Sizes and places as people type them."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from snapshotd.client.arguments import place
from snapshotd.client.sizes import size

GB = 1 << 30


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("10GB", 10 * GB),
        ("10 gb", 10 * GB),
        ("10G", 10 * GB),
        ("10GiB", 10 * GB),
        ("512MB", GB // 2),
        ("2TiB", 2048 * GB),
        ("1.5TB", 1536 * GB),
        ("64kb", 65536),
        ("4096B", 4096),
        ("0.5KB", 512),
    ],
)
def test_a_size_is_a_number_with_its_unit_as_in_hyper_v(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10", "e.g. 512MB, 10GB or 2TB (1GB is 1024MB, as in Hyper-V)"),
        ("", "must be a number with its unit"),
        ("-1GB", "must be a number with its unit"),
        ("GB", "must be a number with its unit"),
        ("10 GB more", "must be a number with its unit"),
        ("1,5GB", "must be a number with its unit"),
        ("10PB", "must be a number with its unit"),
        ("\u0661GB", "must be a number with its unit"),
        ("0GB", "must be above 0"),
        ("1.5B", "must be a whole number of bytes"),
        ("9999999TB", "at most 1048576TB"),
        ("9" * 30 + "TB", "must be a number with its unit"),
    ],
)
def test_what_is_no_size_says_what_to_write(text: str, problem: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"^'{text[:40]}") as refused:
        size(text)
    assert problem in str(refused.value)


@pytest.mark.parametrize("text", ["SCSI:0:1", "scsi:0:1", "Scsi 0 1", " SCSI:00:01 "])
def test_a_place_is_read_however_it_is_written(text: str) -> None:
    assert place(text) == "SCSI:0:1"


@pytest.mark.parametrize("text", ["", "0:1", "SCSI:0", "NVME:0:1", "SCSI:0:1:2", "SCSI:0:x", "D:\\web01.vhdx"])
def test_what_is_no_place_says_what_one_is(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="must be a place as `vm show` has it: SCSI:0:1"):
        place(text)
