"""The model of the fence keeps its promises with all its rules, and breaks one without any of them."""

from dataclasses import fields
from typing import Literal

import pytest

from tests.models.exploration import explore
from tests.models.fence import NEEDED, NEEDED_IF_HANDED, NEEDED_IF_RESTORED, NEEDED_IF_UNSEEN, Fence, main
from tests.models.fence_state import Bounds, Checkpoint, Ended, Log, Rules, State

NO_FAULTS = Bounds(doubled=0, killed=0, wiped=0)
STALE_FOR_EVER = Bounds(doubled=0, killed=0, wiped=0, restored=1, operations=1, tokens=6)
"""The lost log issues three tokens, the restored one two more, and then its observation is below the fence."""
RESTORED = Bounds(doubled=0, killed=0, wiped=0, restored=1, operations=1, tokens=2)
HANDED_BACK = Bounds(doubled=0, wiped=0, handed=2, operations=1, earlier=1, stride=3, tokens=4)
"""The first installation's tokens and numbers are so high that neither shows it what the second one has done."""

WITHOUT = [
    ("token", Bounds(doubled=0, killed=0, wiped=0, operations=1, tokens=2), "true"),
    ("acts-once", Bounds(killed=0, wiped=0, operations=1, tokens=1), "true"),
    ("observe-fences", Bounds(doubled=0, killed=0, wiped=0, operations=1, tokens=2), "true"),
    ("newest-only", Bounds(doubled=0, killed=0, wiped=0, operations=1, tokens=3), "true"),
    ("job-wait", Bounds(doubled=0, wiped=0, operations=1, tokens=2), "true"),
    ("journal-id", Bounds(killed=0, operations=1, tokens=1), "true"),
    ("refusal-fences", Bounds(unseen=1, killed=0, wiped=0, operations=1, tokens=1), "true"),
    ("unique-names", Bounds(doubled=0, killed=0, wiped=0, restored=1, operations=1, tokens=2), "true"),
    ("rolled-back", STALE_FOR_EVER, "ends"),
    ("token-base", RESTORED, "taken"),
    ("operation-known", RESTORED, "taken"),
    ("blocked-first", HANDED_BACK, "true"),
]
"""Each rule, the smallest bounds that show what it is for, and the promise that breaks without it."""


@pytest.mark.slow
@pytest.mark.timeout(900)  # Seconds on an idle core; many times that where others use it too.
@pytest.mark.parametrize(
    ("bounds", "states"),
    [
        (Bounds(tokens=4), 223_211),
        (Bounds(foreign=1, wiped=0, adopt=0, tokens=3), 52_878),
        (Bounds(restored=1, tokens=3), 264_893),
        (Bounds(restored=1, doubled=0, killed=0, wiped=0), 171_157),
        (STALE_FOR_EVER, 151_243),
        (Bounds(restored=1, lies=1, doubled=0, killed=0, operations=1, tokens=4), 113_238),
        (Bounds(handed=1, doubled=0, killed=0, wiped=0, operations=1, tokens=4), 13_453),
        (HANDED_BACK, 259_008),
        (Bounds(unseen=1, tokens=3), 45_879),
        (Bounds(unseen=2, operations=1, tokens=4), 114_178),
    ],
    ids=[
        "doubled, killed and wiped",
        "foreign",
        "restored under faults",
        "restored",
        "restored after observations",
        "restored, lied to and wiped",
        "handed over",
        "handed back to higher tokens",
        "unseen under faults",
        "unseen twice",
    ],
)
def test_no_state_breaks_a_promise(bounds: Bounds, states: int) -> None:
    """The number is what the model explores: it changes only if the model is meant to explore something else."""
    outcome = explore(Fence(Rules(), bounds))
    assert (outcome.violation, outcome.path, outcome.states) == ("", (), states)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("rule", "bounds", "promise"), WITHOUT, ids=[rule for rule, *_ in WITHOUT])
def test_a_promise_breaks_without_a_rule(rule: str, bounds: Bounds, promise: str) -> None:
    outcome = explore(Fence(Rules().without(rule), bounds))
    assert outcome.violation.startswith(f"{promise}: ")
    assert outcome.path


@pytest.mark.parametrize(
    "bounds", [bounds for _, bounds, _ in WITHOUT if bounds not in (STALE_FOR_EVER, HANDED_BACK)], ids=repr
)
def test_the_same_bounds_break_no_promise_with_the_rule(bounds: Bounds) -> None:
    assert not explore(Fence(Rules(), bounds)).violation


def test_each_rule_that_a_promise_needs_is_left_out_once() -> None:
    left_out = [rule for rule, *_ in WITHOUT]
    assert left_out == [*NEEDED, *NEEDED_IF_UNSEEN, *NEEDED_IF_RESTORED, *NEEDED_IF_HANDED]
    also = ["owner", "same-journal", "look-first", "act-on-before"]
    assert [*left_out, *also] == [field.name.replace("_", "-") for field in fields(Rules)]


def test_no_rule_tells_a_checkpoint_taken_by_hand_from_that_of_a_script_that_died_before_it_acted() -> None:
    """Why the product adopts an unmarked checkpoint only if all other evidence fits too."""
    assert explore(Fence(Rules(), Bounds(foreign=1, wiped=0, tokens=2))).violation.startswith("true: op1 SUCCEEDED")


def one(
    outcome: Literal["ok", "failed", "undetermined"],
    adopted: int = 0,
    *,
    checkpoints: tuple[Checkpoint, ...] = (),
    epoch: int = 0,
) -> State:
    """Return a state in which the first operation of a log has ended."""
    return State(log=Log(epoch=epoch, number=2, ended=(Ended(outcome, adopted),)), checkpoints=checkpoints)


@pytest.mark.parametrize(
    ("state", "broken"),
    [
        (State(), ""),
        (State(checkpoints=(Checkpoint(1, 1), Checkpoint(2, 2), Checkpoint(3, 0), Checkpoint(4, 0))), ""),
        (State(checkpoints=(Checkpoint(1, 1), Checkpoint(2, 1))), "once: op1 made the checkpoints [1, 2]"),
        (one("ok", 1, checkpoints=(Checkpoint(1, 1),)), ""),
        (one("ok", 1), "true: op1 SUCCEEDED"),
        (one("ok", 2, checkpoints=(Checkpoint(1, 1), Checkpoint(2, 0))), "true: op1 SUCCEEDED"),
        (one("ok", 1, checkpoints=(Checkpoint(1, 1),), epoch=1), "true: op11 SUCCEEDED"),
        (one("undetermined", checkpoints=(Checkpoint(1, 1),)), ""),
        (one("failed", checkpoints=(Checkpoint(1, 0),)), ""),
        (one("failed", checkpoints=(Checkpoint(1, 1),)), "true: op1 FAILED"),
        (State(other=one("failed", epoch=5).log, checkpoints=(Checkpoint(1, 51),)), "true: op51 FAILED"),
        (State(log=Log(rolled_back="noticed")), "restored: "),
        (State(log=Log(rolled_back="noticed"), restored=1), ""),
        (State(log=Log(rolled_back="blocked"), handed=1), ""),
        (State(log=Log(rolled_back="noticed", lied_to=True)), ""),
        (State(log=Log(rolled_back="noticed", again=True), restored=1), "taken: "),
    ],
)
def test_a_state_that_breaks_a_promise_is_told(state: State, broken: str) -> None:
    violation = Fence(Rules(), NO_FAULTS).violation(state)
    assert violation.startswith(broken)
    assert bool(violation) is bool(broken)


def test_by_hand_it_prints_the_shortest_way_to_a_violation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operations=1", "--without", "observe-fences", "tokens=2", "wiped=0", "doubled=0", "killed=0"]) == 0
    first, *path = capsys.readouterr().out.splitlines()
    assert first.startswith("without observe-fences: ")
    assert "true: op1 FAILED" in first
    assert path[0] == "   1 daemon logs StepIssued op1 token 1, sends"
    assert len(path) == 10


def test_by_hand_a_rule_that_proves_needless_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--all", "operations=1", "tokens=1"]) == 1
    assert "without newest-only: 159 states, no violation" in capsys.readouterr().out


@pytest.mark.parametrize("bound", ["tokens", "tokens=", "tokens=-1", "token=1"])
def test_by_hand_a_bound_that_is_none_is_refused(bound: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([bound])
    assert f"Cannot read the bound {bound!r}" in capsys.readouterr().err
