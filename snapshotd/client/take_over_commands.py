"""`snapshotctl host take-over` and `snapshotctl vm take-over`: shows what it means, asks, and does it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from google.protobuf.message import Message

from snapshotd.api.v1 import host_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.client.calls import Server
from snapshotd.client.confirmation import confirm
from snapshotd.client.failure import ExitCode
from snapshotd.client.options import output, request_id
from snapshotd.client.render import counted, last, quoted, shown
from snapshotd.client.resolve import host_name, vm_name

M = TypeVar("M", bound=Message)
_CALL: Final = "snapshotctl"


def host(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Take a host over."""
    name, reason = host_name(arguments.host), arguments.reason
    request = host_pb2.TakeOverHostRequest(name=name, reason=reason, validate_only=True)

    def call() -> host_pb2.TakeOverHostResponse:
        return server.call(server.hosts.TakeOverHost, request)

    def text(said: host_pb2.TakeOverHostResponse) -> str:
        return "\n".join(_host_lines(said, arguments.host, done=not request.validate_only))

    plan = call()
    needed = plan.changes_hands or bool(plan.virtual_machines)
    if _is_all(arguments, needed=needed):
        return output(arguments, plan, text)
    _confirm(arguments, text(plan), arguments.host, needed=needed)
    request.validate_only, request.request_id = False, request_id(arguments)
    return _told(arguments, call(), text, lambda said: said.virtual_machines)


def vm(server: Server, arguments: argparse.Namespace) -> ExitCode:
    """Take a VM over."""
    name, reason = vm_name(server, arguments.vm), arguments.reason
    request = vm_pb2.TakeOverVirtualMachineRequest(name=name, reason=reason, validate_only=True)

    def call() -> vm_pb2.TakeOverVirtualMachineResponse:
        return server.call(server.vms.TakeOverVirtualMachine, request)

    def text(said: vm_pb2.TakeOverVirtualMachineResponse) -> str:
        return "\n".join(_vm_lines([said.taken_over], done=not request.validate_only))

    plan = call()
    needed = not plan.taken_over.nothing_to_do
    if _is_all(arguments, needed=needed):
        return output(arguments, plan, text)
    _confirm(arguments, text(plan), arguments.vm, needed=needed)
    request.validate_only, request.request_id = False, request_id(arguments)
    return _told(arguments, call(), text, lambda said: [said.taken_over])


def _is_all(arguments: argparse.Namespace, *, needed: bool) -> bool:
    """Return whether the plan is all that there is to do. A request that is repeated gets its first answer again."""
    return bool(arguments.dry_run or not (needed or arguments.request_id))


def _told(
    arguments: argparse.Namespace,
    said: M,
    text: Callable[[M], str],
    vms: Callable[[M], Sequence[vm_pb2.TakenOver]],
) -> ExitCode:
    """Print what was done. The exit code tells whether something is left to do."""
    code = output(arguments, said, text)
    return ExitCode.REFUSED if any(vm.HasField("failure") for vm in vms(said)) and not code else code


def _confirm(arguments: argparse.Namespace, plan: str, name: str, *, needed: bool) -> None:
    if needed:
        confirm(arguments, plan, name, verb="take {} over", done="taken over")


def _host_lines(said: host_pb2.TakeOverHostResponse, host: str, *, done: bool) -> Iterator[str]:
    host = shown(host)
    if said.changes_hands:
        whose = f"installation {said.former_installation_id}" if said.former_installation_id else "nobody that is known"
        if done:
            yield f"Host {host} is taken over from {whose}. Only this installation can work on it from now on."
        else:
            yield f"Host {host} belongs to {whose}. Would take it over: only this installation could work on it."
    elif not said.virtual_machines:
        yield f"Nothing to take over: host {host} belongs to this installation, and no journal is newer than the log."
    yield from _vm_lines(said.virtual_machines, done=done)
    if said.virtual_machines_omitted:
        yield f"{counted(said.virtual_machines_omitted, 'more VM')} left out here."
    if said.changes_hands and said.unregistered_count:
        yield (
            f"{counted(said.unregistered_count, 'VM')} on it not registered. To register them: "
            f"{_CALL} vm register {host} --all"
        )
    if not done and (said.changes_hands or said.virtual_machines):
        yield "Nothing was done."


def _vm_lines(vms: Sequence[vm_pb2.TakenOver], *, done: bool) -> Iterator[str]:
    for vm in vms:
        name = shown(vm.display_name)
        if vm.HasField("failure"):
            yield f"VM {name}: {shown(vm.failure.message)} [{vm.failure.reason}]"
            continue
        if vm.nothing_to_do:
            yield f"Nothing to take over: the journal of VM {name} is not newer than the log."
            continue
        verb = "is taken over" if done else "would be taken over"
        yield f"VM {name} {verb}, from token {vm.journal_token} of its journal."
        verb = "Ended" if done else "Would end"
        yield from (f"  {verb} with an outcome that nobody knows: {last(name)}" for name in vm.operations_ended)
        for checkpoint in vm.marked_checkpoints:
            yield (
                f"  Not on record, and marked as ours: {quoted(checkpoint.display_name, 100)}. To adopt it: "
                f"{_CALL} snapshot adopt {shlex.quote(vm.display_name)} {checkpoint.checkpoint_id}"
            )
