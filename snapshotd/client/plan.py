"""The plan of a call as text: what it would do, and how to have just that done."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan, Step
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import answered
from snapshotd.client.render import last, shown, word
from snapshotd.client.resolve import all_snapshots

_PROGRAM = "snapshotctl"
_DRY_RUN = "--dry-run"


def describe(plan: Plan, vm: str, snapshot: str, named: Callable[[str], str] = last, what: str = "") -> str:
    """Return a plan for people, without how to have it done.

    Args:
        plan: the server's answer.
        vm: the VM, as the user named it.
        snapshot: the snapshot's name; empty if the plan is of none.
        named: turns the resource name of a snapshot into a name for people.
        what: would be done, for people; empty: the kind, the snapshot and the VM tell it.
    """
    kind = OperationMetadata.Kind.Name(plan.kind)
    on = "" if kind.endswith("VIRTUAL_MACHINE") else "on "
    about = f"{shown(snapshot)} " if snapshot else ""
    lines = [f"Would {what or f'{word(kind)} {about}{on}{shown(vm)}'}:"]

    def of(name: str) -> str:
        return shown(named(name)) if name else "none"

    wide = max([10, *(len(step.name) for step in plan.steps)])
    for step in plan.steps:
        loses = f" May lose: {step.may_lose}." if step.may_lose else ""
        nature = word(Step.Class.Name(step.step_class)).replace(" ", "-")
        about = f"{of(step.snapshot)}: " if step.snapshot and len({s.snapshot for s in plan.steps}) > 1 else ""
        does = f"{about}{shown(step.description)} [{nature}, on {last(step.host)}]{loses}"
        lines.append(f"  {step.number}. {step.name:{wide}} {does}")
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
    return "\n".join(lines)


def dry_run(arguments: argparse.Namespace, plan: Plan, described: str) -> str:
    """Return what a dry run prints: the plan, that nothing was done, and the command that does just this."""
    lines = [described, "Nothing was done."]
    if plan.etag:
        # A prefix of an option stands for it.
        kept = [one for one in arguments.typed if not (len(one) > 2 and _DRY_RUN.startswith(one))]
        if arguments.expect:
            lines.append(f"This is the plan {plan.etag}, as expected.")
        else:
            lines.append(f"To do just this: {shown(shlex.join([_PROGRAM, *kept]))} --expect {plan.etag}")
    return "\n".join(lines)


def about_vm(
    server: Server, arguments: argparse.Namespace, operation: Operation, *, what: str = "", made: str = ""
) -> ExitCode:
    """Print the plan of a call about a VM if it was a dry run; else go on with the operation.

    Args:
        server: the server that has answered.
        arguments: those of the command.
        operation: the answer.
        what: would be done, for people, with the VM; empty: the kind and the VM tell it.
        made: what is said of something that the user did not name.
    """
    return answered(
        server, arguments, operation, lambda p: dry_run(arguments, p, plan_text(server, arguments, p, what)), made
    )


def plan_text(server: Server, arguments: argparse.Namespace, plan: Plan, what: str = "") -> str:
    """Return the plan of a call about a VM for people, without how to have it done. Takes arguments of `about_vm`."""
    about_snapshots = plan.snapshots_discarded or any(step.snapshot for step in plan.steps)
    named = snapshot_names(server, plan.virtual_machine) if about_snapshots else last
    return describe(plan, arguments.vm, "", named, what)


def about_snapshot(
    server: Server,
    arguments: argparse.Namespace,
    vm: str,
    operation: Operation,
    snapshot: str,
    made: str = "",
    *,
    what: Callable[[str], str] | None = None,
) -> ExitCode:
    """Print the plan of a call about a snapshot, with names, if it was a dry run; else go on with the operation.

    Args:
        server: the server that has answered.
        arguments: those of the command.
        vm: the VM's resource name.
        operation: the answer.
        snapshot: the snapshot, as the user named it: it may be a word or an id. Empty if the user did not.
        made: what is said of a snapshot that the user did not name.
        what: tells what would be done to a snapshot of a name, for people; None: the kind tells it.
    """

    def text(plan: Plan) -> str:
        named = snapshot_names(server, vm)
        known = snapshot and plan.snapshot and not plan.snapshot.endswith("/-")
        name = named(plan.snapshot) if known else snapshot
        done = f"{what(shown(name))} on {shown(arguments.vm)}" if what else ""
        return dry_run(arguments, plan, describe(plan, arguments.vm, name, named, done))

    return answered(server, arguments, operation, text, made)


def snapshot_names(server: Server, vm: str) -> Callable[[str], str]:
    """Return a function that turns the resource names of a VM's snapshots into names for people."""
    names = {s.name: s.display_name for s in all_snapshots(server, vm)}

    def named(name: str) -> str:
        return "the new snapshot" if name.endswith("/-") else names.get(name, last(name))

    return named
