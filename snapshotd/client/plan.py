"""The plan of a call as text: what it would do."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan, Step
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import answered
from snapshotd.client.render import last, shown, word
from snapshotd.client.resolve import all_snapshots


def describe(plan: Plan, vm: str, snapshot: str, named: Callable[[str], str] = last, what: str = "") -> str:
    """Return a plan for people.

    Args:
        plan: the server's answer.
        vm: the VM, as the user named it.
        snapshot: the snapshot, as the user named it; empty if the user did not.
        named: turns the resource name of a snapshot into a name for people.
        what: would be done, for people; empty: the kind tells it.
    """
    what = what or f"{word(OperationMetadata.Kind.Name(plan.kind))} {shown(snapshot)}".rstrip()
    of_vm = OperationMetadata.Kind.Name(plan.kind).endswith("VIRTUAL_MACHINE")
    lines = [f"Would {what} {shown(vm)}:" if of_vm else f"Would {what} on {shown(vm)}:"]

    def of(name: str) -> str:
        return shown(named(name)) if name else "none"

    for step in plan.steps:
        loses = f" May lose: {step.may_lose}." if step.may_lose else ""
        nature = word(Step.Class.Name(step.step_class)).replace(" ", "-")
        about = f"{of(step.snapshot)}: " if step.snapshot and len({s.snapshot for s in plan.steps}) > 1 else ""
        lines.append(
            f"  {step.number}. {step.name:10} {about}{shown(step.description)} [{nature}, on {last(step.host)}]{loses}"
        )
    if not plan.steps:
        lines.append("  nothing is asked of the host")
    lines += [
        f"Moves:   {of(m.snapshot)} from below {of(m.old_parent)} to below {of(m.new_parent)}"
        for m in plan.children_moved
    ]
    if plan.snapshot or plan.new_current != plan.old_current:
        lines.append(f"Current: {of(plan.old_current)} -> {of(plan.new_current)}")
    lines.append(f"Power:   {Power.Name(plan.power_before)} -> {Power.Name(plan.power_after)}")
    if plan.snapshots_discarded:
        lines.append(f"Gone:    {', '.join(of(s) for s in plan.snapshots_discarded)}")
    if plan.guest_memory_lost:
        lines.append("Lost:    what the guest holds in memory")
    lines += [f"Note:    {shown(warning)}" for warning in plan.warnings]
    lines.append("Nothing was done.")
    return "\n".join(lines)


def about_snapshot(
    server: Server,
    arguments: argparse.Namespace,
    vm: str,
    operation: Operation,
    snapshot: str,
    made: str = "",
    *,
    what: str = "",
) -> ExitCode:
    """Print the plan of a call about a snapshot, with names, if it was a dry run; else go on with the operation.

    Args:
        server: the server that has answered.
        arguments: those of the command.
        vm: the VM's resource name.
        operation: the answer.
        snapshot: the snapshot, as the user named it; empty if the user did not.
        made: what is said of a snapshot that the user did not name.
        what: would be done, for people; empty: the kind tells it.
    """
    names = {s.name: s.display_name for s in all_snapshots(server, vm)} if arguments.dry_run else {}

    def named(name: str) -> str:
        return "the new snapshot" if name.endswith("/-") else names.get(name, last(name))

    return answered(server, arguments, operation, lambda p: describe(p, arguments.vm, snapshot, named, what), made)
