"""The random lives bite: each of these bugs, planted in the core, is found by a few of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from snapshotd.application import drift
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations import snapshots as kinds
from snapshotd.steps import made_checkpoint
from snapshotd.steps.action import Absent, Action, InProgress, Judgement
from snapshotd.steps.checkpoint_create import CheckpointCreate
from snapshotd.steps.checkpoint_remove import CheckpointRemove
from snapshotd.steps.checkpoint_restore import CheckpointRestore
from tests.unit.application.test_random_disturbances import check, lived

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]

MOST_LIVES = 300


def judges(action: type[Action], instead: Callable[..., Judgement]) -> Plant:
    """Plant another judgement of an action, unless the hypervisor is at work."""
    honest = action.judge

    def judge(self: Action, *args: object) -> Judgement:
        found = honest(self, *args)  # type: ignore[arg-type]  # handed on as they came
        return found if isinstance(found, InProgress) else instead(self, *args)

    return lambda patch: patch.setattr(action, "judge", judge)


def patched(owner: object, name: str, instead: object) -> Plant:
    """Plant another function."""
    return lambda patch: patch.setattr(owner, name, instead)


def newest(self: CheckpointCreate, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
    """Take the newest checkpoint for ours."""
    del vm, operation, step
    assert report.description is not None
    made = report.description.checkpoints[-1:]
    return self.done(made_checkpoint.Output(made[0].checkpoint_id, has_memory=False)) if made else Absent()


BUGS: dict[str, Plant] = {
    "an unknown restore is taken for done": judges(CheckpointRestore, lambda self, *_: self.done()),
    "an unknown create is taken for absent": judges(CheckpointCreate, lambda *_: Absent()),
    "an unknown remove is taken for done": judges(CheckpointRemove, lambda self, *_: self.done()),
    "any newcomer is taken for ours": judges(CheckpointCreate, newest),
    "children of a removed snapshot are left to themselves": patched(kinds, "hand_on", lambda *_: ()),
    "what others changed is not compared": patched(drift, "current_moved", lambda _: ()),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[bug](monkeypatch)
    for seed in range(MOST_LIVES):
        try:
            check(lived(seed))
        except AssertionError:
            return
    pytest.fail(f"{bug}: not found in {MOST_LIVES} lives")
