"""Every transition that is recorded is an arrow of its table, and starts where the last one ended (docs/adr/0007)."""

import pytest

from snapshotd.domain.events import OperationTransition, SnapshotTransition, StepTransition, VmTransition
from snapshotd.domain.lifecycle import OPERATION, SNAPSHOT, STEP, VM
from tests.unit.application.cases import CASES, REFUSED, Case, Refused, ready

ARROWS = {lifecycle.name: {(s, d) for _, s, d in lifecycle.pairs()} for lifecycle in (VM, SNAPSHOT, OPERATION, STEP)}


def named(event: object) -> tuple[str, str] | None:
    """Return the lifecycle and the subject of a transition; None for a fact."""
    match event:
        case VmTransition():
            return VM.name, ""
        case SnapshotTransition():
            return SNAPSHOT.name, event.snapshot_id
        case OperationTransition():
            return OPERATION.name, str(event.number)
        case StepTransition():
            return STEP.name, f"{event.number}.{event.step}"
        case _:
            return None


@pytest.mark.parametrize("lose", [False, True], ids=["answered", "answers lost"])
@pytest.mark.parametrize("run", [*CASES, *REFUSED], ids=lambda run: run.name)
def test_every_recorded_transition_is_an_arrow_and_starts_where_the_last_one_ended(
    run: Case | Refused, *, lose: bool
) -> None:
    case = run.case if isinstance(run, Refused) else run
    world = ready(case)
    if isinstance(run, Refused):
        world.host.error_ids = dict.fromkeys(run.steps, "OperationFailed,Microsoft.HyperV.PowerShell.Commands.X")
    world.do(case.request)
    world.run(lose=lose, limit=200)
    at: dict[tuple[str, str], object] = {}
    for event in world.log:
        subject = named(event)
        if subject is None:
            continue
        assert isinstance(event, VmTransition | SnapshotTransition | OperationTransition | StepTransition)
        assert (event.from_state, event.to_state) in ARROWS[subject[0]], event
        # A step's plan is recorded with its operation, so its first transition leaves DUE and not NEW.
        first = "DUE" if subject[0] == STEP.name else "NEW"
        assert event.from_state is at[subject] if subject in at else event.from_state.name == first, event
        at[subject] = event.to_state
