"""What each event means, in a sentence: of every class of event, and of a whole history, by names of its subjects."""

from __future__ import annotations

from dataclasses import is_dataclass
from datetime import UTC, datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.details import SnapshotDetails, VmDetails
from snapshotd.domain.events import Envelope, Event
from snapshotd.domain.ids import CheckpointId, OperationName, SnapshotId, StreamId, vm_stream
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure
from snapshotd.domain.state import State, replace
from snapshotd.server.event_summaries import Names, summary_of
from tests.fakes import VM_ID
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld, with_hosts


def some(hint: Any, *, full: bool) -> Any:  # noqa: ANN401  (a value of any type)
    """Return a value of a type: with everything that may be left out, or without."""
    hint = getattr(hint, "__supertype__", hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return some(arguments[0], full=full)
    if origin in (Union, UnionType):
        there = [a for a in arguments if a is not NoneType]
        return some(there[0], full=full) if full or len(there) == len(arguments) else None
    if origin is tuple:
        return (some(arguments[0], full=full),) if full else ()
    if is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, State)):
        hints = get_type_hints(hint, include_extras=True)
        fields = {name: some(kind, full=full) for name, kind in hints.items() if get_origin(kind) is not ClassVar}
        return hint(**fields)  # type: ignore[operator]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    values: dict[Any, Any] = {str: "text", int: 7, bool: full, datetime: datetime(2026, 1, 2, tzinfo=UTC)}
    return values.get(hint, {})


def envelope(event: Event, operation: OperationName | None = None) -> Envelope:
    """Return an event as the log would hold it."""
    stream = StreamId("host/hv01") if isinstance(event, e.HostEvent) else vm_stream(VM_ID)
    return Envelope(
        version=5,
        time=datetime(2026, 1, 2, tzinfo=UTC),
        actor="ann",
        request_id="",
        event_id="e",
        stream=stream,
        position=9,
        operation=operation,
        event=event,
    )


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("cls", get_args(Event), ids=lambda cls: cls.__name__)
def test_every_event_is_a_sentence(cls: type, *, full: bool) -> None:
    text = summary_of(envelope(some(cls, full=full)), Names())
    assert text[0].isupper() or text.startswith("ann "), text
    assert " " in text
    assert "None" not in text
    assert ".." not in text


def named(snapshot_id: str, name: str) -> Names:
    """Return names of the VM, and of one of its snapshots."""
    return Names({VM_ID: "web01"}, {(VM_ID, SnapshotId(snapshot_id)): name})


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            e.CurrentMoved(from_snapshot_id=None, to_snapshot_id=SnapshotId("s"), cause="drift"),
            "The current snapshot of VM web01 went from none to 'before update', on the host, not by snapshotd.",
        ),
        (
            e.VmPowerChanged(from_power=Power.RUNNING, to_power=Power.SAVED, cause="step"),
            "The power of VM web01 went from RUNNING to SAVED, by a step of an operation.",
        ),
        (
            e.SnapshotReparented(
                snapshot_id=SnapshotId("s"), from_parent_id=SnapshotId("p"), to_parent_id=None, cause="step"
            ),
            "Snapshot 'before update' of VM web01 went from below 'p' to below none, by a step of an operation.",
        ),
        (
            e.SnapshotDetailsChanged(
                snapshot_id=SnapshotId("s"),
                before=SnapshotDetails(name="a", labels={"tier": "gold", "x": "1"}),
                after=SnapshotDetails(
                    name="b", labels={"tier": "silver", "y": "", "x": "1"}, expire_at=datetime(2026, 1, 2, tzinfo=UTC)
                ),
            ),
            (
                "Snapshot 'before update' of VM web01 was changed: name 'a' -> 'b', label tier 'gold' -> "
                "'silver', label y none -> '', expiry none -> 2026-01-02T00:00:00.000000Z."
            ),
        ),
        (
            e.VmDetailsChanged(before=VmDetails(owner="ops"), after=VmDetails(owner="dev"), request_digest=""),
            "VM web01 was changed: owner 'ops' -> 'dev'.",
        ),
        (
            e.CheckpointIgnored(
                checkpoint_id=CheckpointId("c"), name="by hand", why="the vendor's.", request_digest=""
            ),
            "Checkpoint 'by hand' of VM web01, which is not ours, may stay: the vendor's.",
        ),
        (
            e.DriftDetected(kind=e.DriftKind.VM_MISSING, detail="It is gone."),
            "The host differs from the record of VM web01: VM_MISSING: It is gone.",
        ),
    ],
)
def test_names_reasons_and_both_values_stand_in_the_sentence(event: Event, text: str) -> None:
    assert summary_of(envelope(event), named("s", "before update")) == text


def test_what_is_new_about_the_way_to_a_host_is_told_with_both_values() -> None:
    updated = replace(some(e.HostUpdated, full=True), to_address="10.0.0.2", to_port=5986)
    text = summary_of(envelope(updated), Names())
    assert text == "Host hv01 is reached another way from now on: address text -> 10.0.0.2, port 7 -> 5986."


def test_the_sentences_of_a_history_name_vm_snapshot_operation_and_step() -> None:
    world = RecordedWorld()
    world.do(create(0))
    world.run()
    with_hosts(world)
    vm = next(fold for fold in reversed(world.folds.values()) if fold.registered)
    names = Names(
        {VM_ID: "web01"},
        {(VM_ID, s.snapshot_id): s.name for s in vm.snapshots.values()},
        {o.name: o for o in vm.operations.values()},
    )
    told = {(type(one.event), summary_of(one, names)) for one in world.envelopes}
    assert not [text for _, text in told if VM_ID in text]
    issued = {text for cls, text in told if cls is e.StepIssued}
    assert any(text.startswith("Step 1 (checkpoint) of operation 1 on VM web01 (create snapshot 's") for text in issued)
    asked = {text for cls, text in told if cls is e.OperationRequested}
    assert any(text.endswith("was accepted. Its steps: checkpoint, rename.") for text in asked)
    assert ("Host hv01 was registered at 10.0.0.1:5985, with credential hv.") in {text for _, text in told}


def test_a_failure_is_told_with_its_reason_and_the_hosts_error_id_and_a_long_one_is_cut() -> None:
    failure = Failure(reason="HOST_ERROR", message="No room", error_id="OperationFailed,X")
    failed = some(e.OperationFailed, full=True)
    text = summary_of(envelope(replace(failed, failure=failure)), named("s", "one"))
    assert text == "Operation 7 on VM web01 failed: HOST_ERROR: No room (OperationFailed,X)"
    endless = summary_of(envelope(replace(failed, failure=replace(failure, message="x" * 50_000))), Names())
    assert (len(endless), endless[-1]) == (1000, "…")
