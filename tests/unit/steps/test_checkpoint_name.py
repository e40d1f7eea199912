"""The name of a checkpoint fits Hyper-V's limit, and always ends in its marker."""

from __future__ import annotations

import pytest

from snapshotd.domain.state import replace
from snapshotd.steps.checkpoint_name import checkpoint_name, marker, marker_in
from tests.fakes import World
from tests.unit.application.cases import create, sid


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("nightly", "nightly"),
        ("x" * 61, "x" * 61),
        ("x" * 62, "x" * 61),
        ("x" * 255, "x" * 61),
        ("\N{ROCKET}" * 61, "\N{ROCKET}" * 30),
        ("\N{GRINNING FACE}" * 40, "\N{GRINNING FACE}" * 30),
        ("x" * 60 + "\N{GRINNING FACE}", "x" * 60),
        ("\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 70, "\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 61),
    ],
)
def test_a_name_is_cut_by_utf_16_units_and_never_within_a_character(name: str, cut: str) -> None:
    world = World()
    world.do(create(1))
    full = checkpoint_name(replace(world.vm.snapshots[sid(1)], name=name))
    assert full == f"{cut} {marker(sid(1))}"
    assert len(full.encode("utf-16-le")) // 2 < 100
    assert marker_in(full) == marker(sid(1))
