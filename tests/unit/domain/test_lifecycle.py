"""Every state with every event of the four tables: what is in a table happens, and nothing else can."""

from enum import Enum

import pytest

from snapshotd.domain.errors import IllegalTransition
from snapshotd.domain.lifecycle import LIFECYCLES, NEEDS_POWER, SNAPSHOT, VM, Lifecycle, Power, SnapshotState

# The tables, written out once more by hand: trigger, from, to. Never made from the code's own, or they would agree
# with whatever stands there.
VM_RULES = {
    ("registered", "NEW", "IDLE"),
    ("registered", "UNREGISTERED", "IDLE"),
    ("unregistered", "IDLE", "UNREGISTERED"),
    ("start_begins", "IDLE", "STARTING"),
    ("stop_begins", "IDLE", "STOPPING"),
    ("restart_goes_on", "STOPPING", "STARTING"),
    ("snapshot_begins", "IDLE", "SNAPSHOTTING"),
    ("revert_begins", "IDLE", "REVERTING"),
    ("revert_begins_with_start", "IDLE", "STARTING"),
    ("revert_begins_with_stop", "IDLE", "STOPPING"),
    ("revert_begins_with_safety_snapshot", "IDLE", "SNAPSHOTTING"),
    ("safety_snapshot_taken", "SNAPSHOTTING", "REVERTING"),
    ("safety_snapshot_taken_start_next", "SNAPSHOTTING", "STARTING"),
    ("safety_snapshot_taken_stop_next", "SNAPSHOTTING", "STOPPING"),
    ("preparation_ended", "STARTING", "REVERTING"),
    ("preparation_ended", "STOPPING", "REVERTING"),
    ("delete_begins", "IDLE", "EXPUNGING"),
    ("volume_snapshot_begins", "IDLE", "SNAPSHOTTING"),
    ("only_merge_left", "EXPUNGING", "IDLE"),
    ("only_merge_left", "SNAPSHOTTING", "IDLE"),
    ("reconfiguration_begins", "IDLE", "RECONFIGURING"),
    ("discard_begins", "IDLE", "EXPUNGING"),
    ("discard_ended", "EXPUNGING", "RECONFIGURING"),
    ("unwanted_removal_begins", "SNAPSHOTTING", "EXPUNGING"),
    ("export_follows", "SNAPSHOTTING", "EXPORTING"),
    ("export_begins", "IDLE", "EXPORTING"),
    ("destroy_begins", "IDLE", "DESTROYING"),
    ("gone_from_host", "DESTROYING", "DESTROYED"),
    ("operation_released", "STARTING", "IDLE"),
    ("operation_released", "STOPPING", "IDLE"),
    ("operation_released", "SNAPSHOTTING", "IDLE"),
    ("operation_released", "REVERTING", "IDLE"),
    ("operation_released", "EXPUNGING", "IDLE"),
    ("operation_released", "RECONFIGURING", "IDLE"),
    ("operation_released", "EXPORTING", "IDLE"),
    ("operation_released", "DESTROYING", "IDLE"),
}
SNAPSHOT_RULES = {
    ("requested", "NEW", "ALLOCATED"),
    ("creation_starts", "ALLOCATED", "CREATING"),
    ("cancelled_before_start", "ALLOCATED", "REMOVED"),
    ("failed_before_start", "ALLOCATED", "ERROR"),
    ("created", "CREATING", "READY"),
    ("creation_failed", "CREATING", "ERROR"),
    ("creation_cancelled", "CREATING", "REMOVED"),
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
    ("adopted", "NEW", "READY"),
    ("forgotten", "READY", "REMOVED"),
    ("forgotten", "ERROR", "REMOVED"),
    ("given_up", "ALLOCATED", "ERROR"),
    ("given_up", "CREATING", "ERROR"),
    ("given_up", "REVERTING", "ERROR"),
    ("given_up", "EXPUNGING", "ERROR"),
}
VOLUME_SNAPSHOT_RULES = {
    ("requested", "NEW", "CREATING"),
    ("taken", "CREATING", "READY"),
    ("taking_failed", "CREATING", "ERROR"),
    ("taking_cancelled", "CREATING", "REMOVED"),
    ("deletion_starts", "READY", "DELETING"),
    ("deletion_starts", "ERROR", "DELETING"),
    ("removed", "DELETING", "REMOVED"),
    ("deletion_failed_intact", "DELETING", "READY"),
    ("deletion_failed", "DELETING", "ERROR"),
    ("given_up", "CREATING", "ERROR"),
    ("given_up", "DELETING", "ERROR"),
}
OPERATION_RULES = {
    ("requested", "NEW", "PENDING"),
    ("started", "PENDING", "RUNNING"),
    ("succeeded", "RUNNING", "SUCCEEDED"),
    ("failed", "PENDING", "FAILED"),
    ("failed", "RUNNING", "FAILED"),
    ("cancelled", "PENDING", "CANCELLED"),
    ("cancelled", "RUNNING", "CANCELLED"),
}
STEP_RULES = {
    ("planned", "NEW", "DUE"),
    ("issued", "DUE", "ISSUED"),
    ("wait_starts", "DUE", "WAITING"),
    ("skipped", "DUE", "SKIPPED"),
    ("outcome_unknown", "ISSUED", "OUTCOME_UNKNOWN"),
    ("due_again", "ISSUED", "DUE"),
    ("due_again", "OUTCOME_UNKNOWN", "DUE"),
    ("not_sent", "ISSUED", "DUE"),
    ("done", "ISSUED", "DONE"),
    ("done", "OUTCOME_UNKNOWN", "DONE"),
    ("done", "WAITING", "DONE"),
    ("failed", "ISSUED", "FAILED"),
    ("failed", "OUTCOME_UNKNOWN", "FAILED"),
    ("failed", "WAITING", "FAILED"),
    ("undetermined", "OUTCOME_UNKNOWN", "UNDETERMINED"),
}
RULES = {
    "VM": VM_RULES,
    "snapshot": SNAPSHOT_RULES,
    "volume snapshot": VOLUME_SNAPSHOT_RULES,
    "operation": OPERATION_RULES,
    "step": STEP_RULES,
}


def every_pair() -> list[tuple[Lifecycle[Enum], str, Enum]]:
    """Return (lifecycle, trigger, state) for every trigger and every state of each lifecycle."""
    return [
        (lifecycle, trigger, state)  # type: ignore[misc]  # the four have four state types
        for lifecycle in LIFECYCLES
        for trigger in sorted({trigger for trigger, _, _ in RULES[lifecycle.name]})
        for state in lifecycle.states
    ]


@pytest.mark.parametrize(("lifecycle", "trigger", "state"), every_pair(), ids=lambda x: getattr(x, "name", x))
def test_a_pair_leads_where_its_arrow_says_or_is_refused(lifecycle: Lifecycle[Enum], trigger: str, state: Enum) -> None:
    expected = [to for t, source, to in RULES[lifecycle.name] if (t, source) == (trigger, state.name)]
    if expected:
        assert [lifecycle.dest(trigger, state).name] == expected
        assert lifecycle.allows(trigger, state)
        return
    assert not lifecycle.allows(trigger, state)
    with pytest.raises(IllegalTransition) as refused:
        lifecycle.dest(trigger, state)
    assert refused.value.state == state.name
    assert state.name in str(refused.value)


@pytest.mark.parametrize("lifecycle", LIFECYCLES, ids=lambda x: x.name)
def test_a_table_has_the_arrows_of_its_rules_and_no_other(lifecycle: Lifecycle[Enum]) -> None:
    assert {(t, s.name, d.name) for t, s, d in lifecycle.pairs()} == RULES[lifecycle.name]


def test_an_unknown_trigger_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        SNAPSHOT.dest("mislaid", SnapshotState.READY)


def test_no_state_but_the_pseudo_state_new_is_unreachable() -> None:
    for lifecycle in LIFECYCLES:
        reached = {dest.name for _, _, dest in lifecycle.pairs()}
        assert reached == {s.name for s in lifecycle.states} - {"NEW"}, lifecycle.name


def test_every_activity_that_begins_names_the_power_it_needs() -> None:
    begins = {t for t, source, _ in VM.pairs() if source.name == "IDLE"} - {"unregistered"}
    assert begins == set(NEEDS_POWER)
    assert all(Power.UNKNOWN not in powers for powers in NEEDS_POWER.values())
