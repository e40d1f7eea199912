"""A service of its own for each test, and the program beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.client.fake_service import Ctl, FakeService


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as running:
        yield running


@pytest.fixture
def ctl(service: FakeService, capsys: pytest.CaptureFixture[str]) -> Ctl:
    return Ctl(service, capsys)
