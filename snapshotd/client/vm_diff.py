"""What differs between a VM then and then. Pure: it compares two answers of the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.api.v1.snapshot_pb2 import Snapshot, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from snapshotd.client.exports import policy_text, released_text
from snapshotd.client.offerings import memory_text
from snapshotd.client.render import last
from snapshotd.client.standing import Standing, name_of

NOTHING = ""
"""Stands for a value that is not there."""


@dataclass(frozen=True, slots=True)
class State:
    """A VM with its tree, at one version."""

    vm: VirtualMachine
    tree: SnapshotTree


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs."""

    subject: str
    """Resource name of what it is a value of; of a foreign checkpoint, checkpoints/{id}."""
    name: str
    """The subject's, for people."""
    field: str
    """Which value; empty: the subject itself, which is there only before or only after."""
    before: str
    after: str


def changes(before: State, after: State) -> Iterator[Change]:
    """Yield what differs: first of the VM, then of its snapshots and foreign checkpoints, as the trees have them."""
    vm = after.vm
    then, now = _of_vm(before), _of_vm(after)
    yield from (
        Change(vm.name, vm.display_name, field, then.get(field, NOTHING), now.get(field, NOTHING))
        for field in {**then, **now}
        if then.get(field, NOTHING) != now.get(field, NOTHING)
    )
    nodes_then = {node.id: node for node in before.tree.nodes}
    nodes_now = {node.id: node for node in after.tree.nodes}
    standing_then, standing_now = Standing(before.tree), Standing(after.tree)
    for node_id in {**nodes_then, **nodes_now}:
        old = _of_node(nodes_then[node_id], standing_then) if node_id in nodes_then else {}
        new = _of_node(nodes_now[node_id], standing_now) if node_id in nodes_now else {}
        name = name_of(nodes_now.get(node_id) or nodes_then[node_id])
        if not old or not new:
            yield Change(node_id, name, "", _whole(old), _whole(new))
            continue
        for field in {**old, **new}:
            if (was := old.get(field, NOTHING)) != (now_is := new.get(field, NOTHING)):
                yield Change(node_id, name, field, was, now_is)


def _of_vm(state: State) -> Mapping[str, str]:
    vm, offering = state.vm, state.vm.service_offering
    return {
        "name": vm.display_name,
        "power": Power.Name(vm.power),
        "host": last(vm.host),
        "owner": vm.owner,
        "current": Standing(state.tree).vm_text(),
        "cpus": str(offering.cpu_count) if offering.cpu_count else NOTHING,
        "memory": memory_text(offering),
        "export policy": policy_text(vm),
        "released": released_text(vm),
        **{f"export {last(one.directory)}": one.directory for one in vm.exports},
        "conditions": ", ".join(sorted(condition.reason for condition in vm.conditions)),
        "blocked by": ", ".join(sorted(vm.snapshot_blockers)),
        **{f"label {key}": value for key, value in sorted(vm.labels.items())},
        **{f"disk {disk.location}": disk.path for disk in vm.disks},
    }


def _of_node(node: SnapshotTree.Node, standing: Standing) -> Mapping[str, str]:
    above = standing.parent(node)
    parent = f"{standing.name(above)} ({last(above)})" if above else "none"
    if node.HasField("foreign_checkpoint"):
        foreign = node.foreign_checkpoint
        return {"state": "not ours", "name": foreign.display_name, "parent": parent}
    own = node.snapshot
    state = Snapshot.State.Name(own.state)
    expires = own.expire_time.ToJsonString() if own.HasField("expire_time") else NOTHING
    return {
        "state": f"{state} ({own.failure.reason})" if own.state == Snapshot.ERROR else state,
        "name": own.display_name,
        "kind": Snapshot.Kind.Name(own.kind),
        "parent": parent,
        "description": own.description,
        "held": f"by {own.hold.actor}" if own.HasField("hold") else NOTHING,
        "expires": expires,
        **{f"label {key}": value for key, value in sorted(own.labels.items())},
    }


def _whole(values: Mapping[str, str]) -> str:
    """Return what is there of a snapshot or a checkpoint, in a few words; nothing for none."""
    return f"{values['state']}, below {values['parent']}" if values else NOTHING
