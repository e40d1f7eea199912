"""Every state with every event of the four tables: what is in a table happens, and nothing else can."""

from enum import Enum

import pytest

from snapshotd.domain.errors import IllegalTransition
from snapshotd.domain.lifecycle import LIFECYCLES, NEEDS_POWER, SNAPSHOT, VM, Lifecycle, Power, SnapshotState

# The tables, written out once more by hand: trigger, from, to.
SNAPSHOT_RULES = {
    ("requested", "NEW", "ALLOCATED"),
    ("creation_starts", "ALLOCATED", "CREATING"),
    ("cancelled_before_start", "ALLOCATED", "REMOVED"),
    ("failed_before_start", "ALLOCATED", "ERROR"),
    ("created", "CREATING", "READY"),
    ("creation_failed", "CREATING", "ERROR"),
    ("unwanted", "CREATING", "EXPUNGING"),
    ("revert_starts", "READY", "REVERTING"),
    ("revert_ended", "REVERTING", "READY"),
    ("expunge_starts", "READY", "EXPUNGING"),
    ("expunge_starts", "ERROR", "EXPUNGING"),
    ("removed", "EXPUNGING", "REMOVED"),
    ("expunge_failed_intact", "EXPUNGING", "READY"),
    ("expunge_failed", "EXPUNGING", "ERROR"),
    ("checkpoint_missing", "READY", "ERROR"),
    ("checkpoint_found", "ERROR", "READY"),
    ("given_up", "ALLOCATED", "ERROR"),
    ("given_up", "CREATING", "ERROR"),
    ("given_up", "REVERTING", "ERROR"),
    ("given_up", "EXPUNGING", "ERROR"),
}


def every_pair() -> list[tuple[Lifecycle[Enum], str, Enum]]:
    """Return (lifecycle, trigger, state) for every trigger and every state of each lifecycle."""
    return [
        (lifecycle, trigger, state)  # type: ignore[misc]  # the four have four state types
        for lifecycle in LIFECYCLES
        for trigger in sorted({a.trigger for a in lifecycle.arrows})
        for state in lifecycle.states
    ]


@pytest.mark.parametrize(("lifecycle", "trigger", "state"), every_pair(), ids=lambda x: getattr(x, "name", x))
def test_a_pair_leads_where_its_arrow_says_or_is_refused(lifecycle: Lifecycle[Enum], trigger: str, state: Enum) -> None:
    expected = [a.dest for a in lifecycle.arrows if a.trigger == trigger and state in a.sources]
    if expected:
        assert lifecycle.dest(trigger, state) is expected[0]
        assert lifecycle.allows(trigger, state)
        return
    assert not lifecycle.allows(trigger, state)
    with pytest.raises(IllegalTransition) as refused:
        lifecycle.dest(trigger, state)
    assert refused.value.state == state.name
    assert state.name in str(refused.value)


def test_the_snapshot_table_is_the_one_of_the_rules() -> None:
    assert {(t, s.name, d.name) for t, s, d in SNAPSHOT.pairs()} == SNAPSHOT_RULES


def test_an_unknown_trigger_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        SNAPSHOT.dest("forgotten", SnapshotState.READY)


def test_no_state_but_the_pseudo_state_new_is_unreachable() -> None:
    for lifecycle in LIFECYCLES:
        reached = {dest.name for _, _, dest in lifecycle.pairs()}
        assert reached == {s.name for s in lifecycle.states} - {"NEW"}, lifecycle.name


def test_every_activity_that_begins_names_the_power_it_needs() -> None:
    begins = {t for t, source, _ in VM.pairs() if source.name == "IDLE"} - {"unregistered"}
    assert begins == set(NEEDS_POWER)
    assert all(Power.UNKNOWN not in powers for powers in NEEDS_POWER.values())
