"""The service may have as many files open as the machine lets it, up to what the units allow."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from snapshotd.system import raise_file_limit

FILES = resource.RLIMIT_NOFILE


@pytest.fixture
def hard() -> Iterator[int]:
    soft, hard = resource.getrlimit(FILES)
    yield hard
    resource.setrlimit(FILES, (soft, hard))


def test_a_low_limit_is_raised_and_a_high_one_stays(hard: int) -> None:
    most = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(FILES, (512, hard))
    raise_file_limit()
    assert resource.getrlimit(FILES) == (most, hard)
    if hard > most:
        resource.setrlimit(FILES, (hard, hard))
        raise_file_limit()
        assert resource.getrlimit(FILES) == (hard, hard)
