"""What a person decides about snapshots and checkpoints, as it is typed and shown."""

from __future__ import annotations

import json

import pytest
from google.longrunning.operations_pb2 import Operation
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1 import snapshot_pb2 as pb
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Step
from snapshotd.api.v1.virtual_machine_pb2 import (
    ListVirtualMachinesRequest,
    ListVirtualMachinesResponse,
    UpdateVirtualMachineRequest,
    VirtualMachine,
)
from snapshotd.client.outcome import succeeded
from tests.unit.client.fake_service import Ctl, FakeService

WEB01 = "virtualMachines/11111111-2222-3333-4444-555555555501"
NIGHTLY = f"{WEB01}/snapshots/99999999-2222-3333-4444-555555555501"
HELD = pb.Snapshot(
    name=NIGHTLY,
    display_name="nightly",
    state=pb.Snapshot.READY,
    hold=pb.Snapshot.Hold(actor="ann", reason="audit", time=Timestamp(seconds=1_700_000_000)),
)


@pytest.fixture(autouse=True)
def one_vm(service: FakeService) -> None:
    vm = VirtualMachine(name=WEB01, uid=WEB01[-36:], display_name="web01")
    service.answers |= {
        "ListVirtualMachines": lambda _: ListVirtualMachinesResponse(virtual_machines=[vm]),
        "ListSnapshots": lambda _: pb.ListSnapshotsResponse(snapshots=[HELD]),
        "GetSnapshotTree": lambda _: pb.SnapshotTree(),
        "GetSnapshot": lambda _: HELD,
    }


def test_a_snapshot_is_held_with_a_reason_and_released(ctl: Ctl, service: FakeService) -> None:
    service.answers |= {
        "HoldSnapshot": lambda _: HELD,
        "ReleaseSnapshot": lambda _: pb.Snapshot(display_name="nightly"),
    }
    said = ctl("snapshot", "hold", "web01", "nightly", "--reason", "audit")
    assert (said.code, said.out) == (
        0,
        "nightly is held: nobody can delete it until `snapshotctl snapshot release web01 nightly`.\n",
    )
    (asked,) = service.of(pb.HoldSnapshotRequest)
    assert (asked.name, asked.reason, len(asked.request_id)) == (NIGHTLY, "audit", 36)
    assert json.loads(ctl("snapshot", "hold", "web01", "nightly", "-o", "json").out)["hold"]["actor"] == "ann"
    said = ctl("snapshot", "release", "web01", "nightly")
    assert (said.code, said.out) == (0, "nightly can be deleted again.\n")


def test_a_hold_is_shown(ctl: Ctl, service: FakeService) -> None:
    tree = pb.SnapshotTree(nodes=[pb.SnapshotTree.Node(id=NIGHTLY, snapshot=HELD)], display_name="web01")
    service.answers["GetSnapshotTree"] = lambda _: tree
    assert ", held " in ctl("snapshot", "tree", "web01").out
    assert "by ann since 2023-11-14 22:13:20Z: audit" in ctl("snapshot", "show", "web01", "nightly", "--utc").out


ACCEPTED = Operation(name="operations/o.1")
FOREIGN = "99999999-2222-3333-4444-5555555555ff"


def test_an_update_says_what_changes_and_keeps_the_other_labels(ctl: Ctl, service: FakeService) -> None:
    known = pb.Snapshot(name=NIGHTLY, labels={"tier": "gold", "old": "x"})
    service.answers |= {"UpdateSnapshot": lambda _: ACCEPTED, "GetSnapshot": lambda _: known}
    arguments = ("--label", "team=db", "--remove-label", "old", "--description", "")
    assert ctl("snapshot", "update", "web01", "nightly", *arguments).code == 0
    assert ctl("snapshot", "update", "web01", "nightly", "--name", "weekly", "--expires", "never").code == 0
    first, second = service.of(pb.UpdateSnapshotRequest)
    assert (first.snapshot.labels, list(first.update_mask.paths)) == (
        {"tier": "gold", "team": "db"},
        ["description", "labels"],
    )
    assert (second.snapshot.display_name, list(second.update_mask.paths)) == (
        "weekly",
        ["display_name", "expire_time"],
    )
    assert not second.snapshot.HasField("expire_time")
    assert "Say what to change" in ctl("snapshot", "update", "web01", "nightly").err
    both = ctl("snapshot", "update", "web01", "nightly", "--label", "a=b", "--remove-label", "a")
    assert (both.code, "both set and remove" in both.err) == (2, True)


def test_an_operation_that_is_done_at_once_says_so(ctl: Ctl, service: FakeService) -> None:
    done = Operation(name="operations/o.1", done=True)
    done.metadata.Pack(OperationMetadata())
    done.response.Pack(pb.DeleteSnapshotResponse(removed=[NIGHTLY]))
    service.answers["DeleteSnapshot"] = lambda _: done
    said = ctl("snapshot", "forget", "web01", "nightly")
    assert (said.code, said.out.splitlines()) == (
        0,
        [
            "operations/o.1 succeeded.",
            f"Off the record: nightly ({NIGHTLY[-36:]}). Nothing on the host was touched. Current: none.",
        ],
    )
    (asked,) = service.of(pb.DeleteSnapshotRequest)
    assert (asked.forget, asked.name) == (True, NIGHTLY)


@pytest.mark.parametrize(
    ("kind", "steps", "words"),
    [
        (OperationMetadata.UPDATE_SNAPSHOT, [], "Snapshot nightly ({}) was updated."),
        (OperationMetadata.UPDATE_SNAPSHOT, ["rename"], "Snapshot nightly ({}) was updated."),
        (OperationMetadata.ADOPT_CHECKPOINT, ["rename"], "Snapshot nightly ({}) is on record."),
        (OperationMetadata.CREATE_SNAPSHOT, ["checkpoint", "rename"], "Snapshot nightly ({}) was taken (disk)."),
    ],
)
def test_what_became_of_a_snapshot_is_told_by_the_kind(
    kind: OperationMetadata.Kind.ValueType, steps: list[str], words: str
) -> None:
    done = Operation(name="operations/o.1", done=True)
    done.metadata.Pack(OperationMetadata(kind=kind, steps=[Step(name=name) for name in steps]))
    done.response.Pack(
        pb.Snapshot(name=NIGHTLY, display_name="nightly", kind=pb.Snapshot.DISK, requested_kind=pb.Snapshot.DISK)
    )
    assert succeeded(done, str) == f"operations/o.1 succeeded.\n{words.format(NIGHTLY[-36:])}"


def with_foreign(service: FakeService, *ids: str, ignored: bool = False) -> None:
    """Have checkpoints made by hand in the tree."""
    foreign = [pb.ForeignCheckpoint(display_name="by hand", checkpoint_id=i, marked_as_ours=ignored) for i in ids]
    for one in foreign if ignored else ():
        one.ignore.actor = "ann"
    nodes = [pb.SnapshotTree.Node(id=f"checkpoints/{c.checkpoint_id}", foreign_checkpoint=c) for c in foreign]
    service.answers["GetSnapshotTree"] = lambda _: pb.SnapshotTree(nodes=nodes, display_name="web01")


@pytest.mark.parametrize("text", ["by hand", FOREIGN, FOREIGN.upper()])
def test_a_checkpoint_is_adopted_or_ignored_by_name_or_id(ctl: Ctl, service: FakeService, text: str) -> None:
    with_foreign(service, FOREIGN)
    service.answers |= {
        "AdoptCheckpoint": lambda _: ACCEPTED,
        "IgnoreCheckpoint": lambda _: pb.ForeignCheckpoint(display_name="by hand"),
    }
    assert ctl("snapshot", "adopt", "web01", text, "--name", "ours", "--label", "by=hand", "--expires", "30d").code == 0
    (adopted,) = service.of(pb.AdoptCheckpointRequest)
    assert (adopted.parent, adopted.checkpoint_id, adopted.snapshot.display_name) == (WEB01, FOREIGN, "ours")
    assert (adopted.snapshot.labels, adopted.snapshot.HasField("expire_time")) == ({"by": "hand"}, True)
    said = ctl("snapshot", "ignore", "web01", text, "--reason", "vendor")
    assert said.out == "Checkpoint by hand is ignored: it may stay as it is.\n"
    assert ctl("snapshot", "ignore", "web01", text, "--undo").out == "Checkpoint by hand is no longer ignored.\n"
    assert [(i.reason, i.undo) for i in service.of(pb.IgnoreCheckpointRequest)] == [("vendor", False), ("", True)]


def test_a_checkpoint_that_is_not_there_or_not_the_only_one_is_told(ctl: Ctl, service: FakeService) -> None:
    assert "Cannot find checkpoint 'by hand'" in ctl("snapshot", "adopt", "web01", "by hand").err
    with_foreign(service, FOREIGN, FOREIGN.replace("ff", "fe"))
    said = ctl("snapshot", "adopt", "web01", "by hand")
    assert (said.code, FOREIGN in said.err) == (3, True)
    assert not service.of(pb.AdoptCheckpointRequest)


def test_the_tree_tells_what_is_ignored_and_what_bears_our_marker(ctl: Ctl, service: FakeService) -> None:
    with_foreign(service, FOREIGN, ignored=True)
    assert "not ours, with our marker, ignored" in ctl("snapshot", "tree", "web01").out


def test_a_vm_is_updated_and_lists_are_narrowed_by_labels(ctl: Ctl, service: FakeService) -> None:
    known = VirtualMachine(name=WEB01, display_name="web01", labels={"old": "x"})
    service.answers |= {"UpdateVirtualMachine": lambda r: r.virtual_machine, "GetVirtualMachine": lambda _: known}
    said = ctl("vm", "update", "web01", "--owner", "dev", "--label", "tier=gold")
    assert (said.code, "old=x, tier=gold" in said.out) == (0, True)
    (updated,) = service.of(UpdateVirtualMachineRequest)
    assert list(updated.update_mask.paths) == ["owner", "labels"]
    assert "Say what to change" in ctl("vm", "update", "web01").err
    ctl("vm", "list", "--label", "tier=gold", "--label", 'example.com/t"m', "--filter", 'owner != "x"')
    ctl("snapshot", "list", "web01", "--label", "tier=")
    assert service.of(ListVirtualMachinesRequest)[-2].filter == (
        'labels."tier" = "gold" AND labels:"example.com/t\\"m" AND owner != "x"'
    )
    assert service.of(pb.ListSnapshotsRequest)[-1].filter == 'labels."tier" = ""'


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--label", "tier"), "must be KEY=VALUE"),
        (("--label", "=x"), "must be KEY=VALUE"),
        (("--remove-label", "a=b"), "must be the KEY"),
        (("--expires", "soon"), "a duration"),
        (("--expires", "0d"), "a duration"),
        (("--expires", "999999w"), "a duration"),
    ],
)
def test_a_label_or_an_expiry_that_makes_no_sense_is_refused(ctl: Ctl, typed: tuple[str, str], said: str) -> None:
    refused = ctl("snapshot", "update", "web01", "nightly", *typed)
    assert (refused.code, said in refused.err) == (2, True)


@pytest.mark.parametrize("typed", ["2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00"])
def test_an_expiry_is_a_time_with_its_offset_or_in_utc(ctl: Ctl, service: FakeService, typed: str) -> None:
    service.answers["CreateSnapshot"] = lambda _: ACCEPTED
    assert ctl("snapshot", "create", "web01", "--name", "a", "--expires", typed, "--label", "a=b").code == 0
    (asked,) = service.of(pb.CreateSnapshotRequest)
    assert (asked.snapshot.expire_time.ToJsonString(), asked.snapshot.labels) == ("2026-01-31T12:00:00Z", {"a": "b"})


def test_the_living_one_is_meant_by_a_name_that_a_failed_create_had_too(ctl: Ctl, service: FakeService) -> None:
    failed = pb.Snapshot(name=f"{NIGHTLY[:-1]}2", display_name="nightly", state=pb.Snapshot.ERROR)
    service.answers |= {
        "ListSnapshots": lambda _: pb.ListSnapshotsResponse(snapshots=[failed, HELD]),
        "DeleteSnapshot": lambda _: ACCEPTED,
    }
    assert ctl("snapshot", "delete", "web01", "nightly").code == 0
    assert [r.name for r in service.of(pb.DeleteSnapshotRequest)] == [NIGHTLY]
    service.answers["ListSnapshots"] = lambda _: pb.ListSnapshotsResponse(snapshots=[failed])
    assert ctl("snapshot", "delete", "web01", "nightly").code == 0
    assert service.of(pb.DeleteSnapshotRequest)[-1].name == failed.name
