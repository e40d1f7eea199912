"""Finds VMs and snapshots by name, id, or the beginning of an id. What is ambiguous is an error that lists the ids.

Names are free: one may look like an id, or like a resource name. What has the form of either is tried as that first, so
that nobody can hide a VM by naming another after it; if there is nothing of that id, it is a name like any other. The
beginning of an id comes last: a name that looks like one is the name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

import grpc

from snapshotd.api.v1.audit_pb2 import ListEventsRequest
from snapshotd.api.v1.snapshot_pb2 import (
    ForeignCheckpoint,
    GetSnapshotRequest,
    GetSnapshotTreeRequest,
    ListSnapshotsRequest,
    Snapshot,
    SnapshotTree,
)
from snapshotd.api.v1.virtual_machine_pb2 import (
    GetVirtualMachineRequest,
    ListVirtualMachinesRequest,
    VirtualMachine,
)
from snapshotd.client.calls import RequestT, ResponseT, Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.pages import pages
from snapshotd.client.render import last, quoted, shown, when
from snapshotd.domain.names import same_but_for_case, same_name

_GUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID: Final = re.compile(_GUID, re.IGNORECASE)
_VM: Final = re.compile(f"(?:virtualMachines/)?({_GUID})", re.IGNORECASE)
_BEGINNING: Final = re.compile("[0-9a-f]{4}[0-9a-f-]{0,31}", re.IGNORECASE)
"""The form of an id's beginning. A shorter one says too little."""
_SNAPSHOT: Final = re.compile(f"(virtualMachines/{_GUID})/snapshots/({_GUID})", re.IGNORECASE)

_LONGEST_NAME: Final = 1000
"""Characters; no VM has a longer name, and a filter has its limit."""
WORDS: Final = {
    "current": "no snapshot of the VM is current",
    "latest": "the VM has no snapshot that was taken",
    "parent": "the VM's current snapshot has no parent among its snapshots",
}
"""Words that stand for a snapshot of a VM, unless one is named so; and why there may be none."""
_NO_SUCH_VM: Final = "VIRTUAL_MACHINE_NOT_FOUND"
_NOT_TAKEN: Final = (Snapshot.ALLOCATED, Snapshot.CREATING, Snapshot.ERROR)
BEGIN_WITH: Final = "have ids that begin with"


def is_id(text: str) -> bool:
    """Return whether a text has the form of a VM's or a snapshot's id, a GUID."""
    return _ID.fullmatch(text) is not None


def is_beginning(text: str) -> bool:
    """Return whether a text may be the beginning of an id."""
    return _BEGINNING.fullmatch(text) is not None


def is_snapshot_name(text: str) -> bool:
    """Return whether a text has the form of a snapshot's resource name."""
    return _SNAPSHOT.fullmatch(text) is not None


def meant_perhaps(text: str, names: Iterable[str]) -> str:
    """Return a question whether the nearest of some names is meant by a text; empty if none is near."""
    near = get_close_matches(text, set(names), 1)
    return f" Did you mean {quoted(near[0])}?" if near else ""


def quoted_value(text: str) -> str:
    """Return a text as a value of a filter."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def host_name(text: str) -> str:
    """Return a host's resource name."""
    return text if text.startswith("hosts/") else f"hosts/{text}"


def all_vms(server: Server, filter_text: str = "") -> list[VirtualMachine]:
    """Return the registered VMs, from all pages."""
    request = ListVirtualMachinesRequest(filter=filter_text)
    return [vm for page in pages(server, server.vms.ListVirtualMachines, request) for vm in page.virtual_machines]


class VmNames:
    """The names of VMs, each asked for once: of those that are shown, and of no others.

    Args:
        server: the server to ask.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Return the name of a VM; empty if it is not on record any more."""
        if name and name not in self._known:
            request = GetVirtualMachineRequest(name=name)
            try:
                self._known[name] = self._server.call(self._server.vms.GetVirtualMachine, request).display_name
            except Failed as failed:
                if failed.exit_code is not ExitCode.NOT_FOUND:
                    raise
                self._known[name] = ""
        return self._known.get(name, "")


def all_snapshots(server: Server, vm: str, filter_text: str = "", *, deleted: bool = False) -> list[Snapshot]:
    """Return a VM's snapshots, from all pages."""
    request = ListSnapshotsRequest(parent=vm, show_deleted=deleted, filter=filter_text)
    return [s for page in pages(server, server.snapshots.ListSnapshots, request) for s in page.snapshots]


def vm_name(server: Server, text: str, *, unregistered_by: str = "") -> str:
    """Return the resource name of a VM that was named by id or by name. Raises Failed.

    Args:
        server: the server to ask.
        text: the user's text.
        unregistered_by: a request id that may have unregistered the VM already: then the audit trail names the VM.
    """
    by_id = _VM.fullmatch(text)
    name = f"virtualMachines/{by_id[1].lower()}" if by_id else ""
    if name and _is_there(server, server.vms.GetVirtualMachine, GetVirtualMachineRequest(name=name)):
        return name
    named = _vms_named(server, text)
    if named:
        one_of("VMs", "are named", text, [f"{vm.uid} on {vm.host}" for vm in named])
        return named[0].name
    if name:  # not registered, but there may be operations and events of it
        return name
    begun = all_vms(server, f"uid = {quoted_value(f'{text}*')}") if is_beginning(text) else []
    if begun:
        one_of("VMs", BEGIN_WITH, text, [f"{vm.uid} {shown(vm.display_name)} on {vm.host}" for vm in begun])
        return begun[0].name
    if unregistered_by and (name := _unregistered(server, unregistered_by)):
        return name
    why = _unregistered_text(unregistered_vms(server, text))
    if not why:
        perhaps = meant_perhaps(text, (vm.display_name for vm in all_vms(server)))
        why = f"it is not registered.{perhaps} See `snapshotctl vm list`."
    raise Failed(f"Cannot find VM {quoted(text)}: {why}", ExitCode.NOT_FOUND)


def unregistered_vms(server: Server, text: str) -> list[VirtualMachine]:
    """Return the VMs that were unregistered or destroyed and had a name, or have an id."""
    request = ListVirtualMachinesRequest(show_unregistered=True)
    listed = (vm for page in pages(server, server.vms.ListVirtualMachines, request) for vm in page.virtual_machines)
    gone = [vm for vm in listed if vm.HasField("unregister_time")]
    found = [vm for vm in gone if vm.uid == text.lower() or same_but_for_case(vm.display_name, text)]
    return [vm for vm in found if vm.uid == text.lower() or vm.display_name == text] or found


def _unregistered_text(vms: Sequence[VirtualMachine]) -> str:
    """Return what became of the first of some VMs and when, and how to see what it was; empty if there is none."""
    if not vms:
        return ""
    vm = vms[0]
    if _destroyed(vm):
        reads = (f"`snapshotctl {command} {vm.uid}`" for command in ("vm show", "audit list --vm"))
        return f"it was {how_it_went(vm)}. Its record stays: {', '.join(reads)}."
    # The version before is the last one at which it was registered.
    was = f", or `snapshotctl vm show {vm.uid} --at {vm.version - 1}` for what it was" if vm.version > 1 else ""
    return f"it was {how_it_went(vm)}. See `snapshotctl audit list --vm {vm.uid}` for what became of it{was}."


def how_it_went(vm: VirtualMachine) -> str:
    """Return what became of a VM that is not registered any more, and when: "destroyed 2026-09-21 14:13:20Z"."""
    return f"{'destroyed' if _destroyed(vm) else 'unregistered'} {when(vm.unregister_time)}"


def _destroyed(vm: VirtualMachine) -> bool:
    return VirtualMachine.DESTROYED in (vm.state, vm.activity)


def lead_on(server: Server, failed: Failed) -> None:
    """Add to an error about a VM that is not registered when it was unregistered, and how to see what it was."""
    vm_id = failed.metadata.get("name", "")
    if failed.reason != _NO_SUCH_VM or failed.hint or not is_id(vm_id):
        return
    try:
        said = _unregistered_text(unregistered_vms(server, vm_id))
    except Failed:
        return  # the error itself is what counts
    failed.hint = said[:1].upper() + said[1:]


def _vms_named(server: Server, text: str) -> list[VirtualMachine]:
    """Return the VMs of a name. Letter case counts only if there are several that differ by it."""
    if len(text) > _LONGEST_NAME:
        return []
    vms = all_vms(server, f"any_case_name = {quoted_value(text)}")
    exactly = [vm for vm in vms if vm.display_name == text]
    return exactly or [vm for vm in vms if same_but_for_case(vm.display_name, text)]


def _is_there(server: Server, method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT) -> bool:
    """Return whether the server knows a resource, or cannot tell just now. Raises Failed if there is no server."""
    try:
        server.call(method, request)
    except Failed as failed:
        if failed.exit_code is not ExitCode.NOT_FOUND and not failed.reason:
            raise  # there is no server
        return failed.exit_code is not ExitCode.NOT_FOUND
    return True


def _unregistered(server: Server, request_id: str) -> str:
    """Return the VM that this caller's request has unregistered, or an empty text."""
    request = ListEventsRequest(type="VmUnregistered", actor="@me", order_by="position desc")
    events = (e for page in pages(server, server.audit.ListEvents, request) for e in page.events)
    return next((e.subject for e in events if e.request_id == request_id.lower()), "")


def refuse_unknown(server: Server, field: str, name: str, command: str) -> None:
    """Raise Failed if there is no event at all of a resource: then there was never one of that name.

    Args:
        server: the server to ask.
        field: the condition of ListEvents on such resources.
        name: resource name; empty: nothing is asked.
        command: the command of this program that lists such resources.
    """
    request = ListEventsRequest(page_size=1)
    setattr(request, field, name)
    if name and not server.call(server.audit.ListEvents, request).events:
        why = f"there is no event of it. See `snapshotctl {command}`."
        raise Failed(f"Cannot find {shown(name)}: {why}", ExitCode.NOT_FOUND)


def snapshot_name(server: Server, vm: str, text: str, *, repeated: bool = False) -> str:
    """Return the resource name of a VM's snapshot that was named by id or by name. Raises Failed.

    Args:
        server: the server to ask.
        vm: resource name of the VM; empty if the text is a full resource name.
        text: the user's text. A full name must be of this VM: else a slip would reach a VM that nobody has named.
        repeated: the request may have been carried out already. Then a name that no snapshot has now means the last
            one that had it. If another request deleted that one, the server refuses.
    """
    full = _SNAPSHOT.fullmatch(text)
    ours = full is not None and (not vm or full[1].lower() == vm.lower())
    name = text if ours else f"{vm}/snapshots/{text.lower()}" if is_id(text) else ""
    if name and _is_there(server, server.snapshots.GetSnapshot, GetSnapshotRequest(name=name)):
        return name
    found = _snapshots_of(server, vm, text, repeated=repeated) if vm else []
    if found:
        return found[0].name
    if vm and not (full and not ours):
        _refuse_foreign(server, vm, last(name) or text)
    if name:
        return name
    if full:
        raise Failed(f"Cannot use {shown(text)}: it is not a snapshot of {shown(vm)}.", ExitCode.USAGE)
    why = _deleted_text(_listed(server, vm, deleted=True) if vm else [], text)
    if not why:
        perhaps = meant_perhaps(text, (s.display_name for s in (_listed(server, vm) if vm else [])))
        why = f"the VM has none of that name.{perhaps} See `snapshotctl snapshot list {last(vm)}`."
    raise Failed(f"Cannot find snapshot {quoted(text)}: {why}", ExitCode.NOT_FOUND)


def _deleted_text(snapshots: Sequence[Snapshot], text: str) -> str:
    """Return when the last snapshot of a name was deleted, and how to see it; empty if there was none."""
    gone = [s for s in snapshots if s.state == Snapshot.REMOVED and same_name(s.display_name, text)]
    if not gone:
        return ""
    last_one = max(gone, key=lambda s: s.update_time.ToNanoseconds())
    vm, _, uid = last_one.name.removeprefix("virtualMachines/").partition("/snapshots/")
    return (
        f"it was deleted {when(last_one.update_time)}. See `snapshotctl snapshot list {vm} "
        f"--deleted`, or `snapshotctl audit list --vm {vm} --snapshot {uid}` for what became of it."
    )


def _snapshots_of(server: Server, vm: str, text: str, *, repeated: bool) -> list[Snapshot]:
    """Return the one snapshot that is meant by a name, a word or the beginning of an id; an empty list if none is.

    Raises Failed if several are meant.
    """
    snapshots = _listed(server, vm)
    named = [s for s in snapshots if same_name(s.display_name, text)]
    # A create that failed has given its name up, and means itself by it only as long as nobody else has it.
    named = [s for s in named if s.state != Snapshot.ERROR or s.checkpoint_id] or named
    if not named and repeated:
        gone = [s for s in _listed(server, vm, deleted=True) if same_name(s.display_name, text)]
        named = sorted(gone, key=lambda s: s.update_time.ToNanoseconds())[-1:]
    if named:
        one_of("snapshots", "are named", text, [f"{s.uid} ({Snapshot.State.Name(s.state)})" for s in named])
        return named
    if text in WORDS:
        return [_meant(snapshots, text)]
    if not is_beginning(text):
        return []
    begun = [s for s in snapshots if s.uid.startswith(text.lower())]
    begun = begun or _listed(server, vm, f"uid = {quoted_value(f'{text}*')}", deleted=True)
    lines = [f"{s.uid} {shown(s.display_name)} ({Snapshot.State.Name(s.state)})" for s in begun]
    one_of("snapshots", BEGIN_WITH, text, lines)
    return begun


def _listed(server: Server, vm: str, filter_text: str = "", *, deleted: bool = False) -> list[Snapshot]:
    """Return snapshots of a VM; of one that is not registered, none."""
    try:
        return all_snapshots(server, vm, filter_text, deleted=deleted)
    except Failed as failed:
        if failed.exit_code is not ExitCode.NOT_FOUND:
            raise
        return []


def _meant(snapshots: Sequence[Snapshot], word: str) -> Snapshot:
    """Return the snapshot that a word stands for. Raises Failed if there is none."""
    current = [s for s in snapshots if s.current]
    if word == "latest":
        taken = [s for s in snapshots if s.state not in _NOT_TAKEN]
        found = sorted(taken, key=lambda s: s.create_time.ToNanoseconds())[-1:]
    elif word == "current":
        found = current
    else:
        found = [s for s in snapshots if current and s.name == current[0].parent]
    if not found:
        raise Failed(f"Cannot find snapshot '{word}': {WORDS[word]}.", ExitCode.NOT_FOUND)
    return found[0]


def _refuse_foreign(server: Server, vm: str, text: str) -> None:
    """Raise Failed if a text is the name or the id of a checkpoint in the VM's tree that is not ours."""
    try:
        tree = server.call(server.snapshots.GetSnapshotTree, GetSnapshotTreeRequest(name=vm))
    except Failed:
        return  # what is not found is said by whoever asked
    if found := _foreign(tree, text) or _foreign_beginning(tree, text):
        adopt = f"snapshotctl snapshot adopt {shlex.quote(tree.display_name or last(vm))} {found[0].checkpoint_id}"
        raise Failed(
            f"Cannot use {quoted(text)}: it is a checkpoint that is not ours, so snapshotd neither reverts to it nor "
            f"deletes it. `{adopt}` makes it a snapshot; or use Hyper-V Manager.",
            ExitCode.NOT_FOUND,
        )


def foreign_checkpoint(server: Server, vm: str, text: str) -> str:
    """Return the id of a checkpoint in a VM's tree that is not ours, named by id, the beginning of one, or name.

    Raises Failed.
    """
    if is_id(text):
        return text.lower()
    tree = server.call(server.snapshots.GetSnapshotTree, GetSnapshotTreeRequest(name=vm))
    found, what = _foreign(tree, text), "are named"
    if not found:
        found, what = _foreign_beginning(tree, text), BEGIN_WITH
    if not found:
        why = f"the VM has none of that name that is not ours. See `snapshotctl snapshot tree {last(vm)}`."
        raise Failed(f"Cannot find checkpoint {quoted(text)}: {why}", ExitCode.NOT_FOUND)
    one_of("checkpoints", what, text, [c.checkpoint_id for c in found])
    return found[0].checkpoint_id


def _foreign(tree: SnapshotTree, text: str) -> list[ForeignCheckpoint]:
    """Return the checkpoints in a tree that are not ours and have a name, or an id."""
    found = _all_foreign(tree)
    return [c for c in found if same_name(c.display_name, text) or c.checkpoint_id.lower() == text.lower()]


def _foreign_beginning(tree: SnapshotTree, text: str) -> list[ForeignCheckpoint]:
    """Return the checkpoints in a tree that are not ours and whose ids begin with a text."""
    return [c for c in _all_foreign(tree) if is_beginning(text) and c.checkpoint_id.lower().startswith(text.lower())]


def _all_foreign(tree: SnapshotTree) -> list[ForeignCheckpoint]:
    return [node.foreign_checkpoint for node in tree.nodes if node.HasField("foreign_checkpoint")]


def one_of(things: str, what: str, text: str, ids: Sequence[str]) -> None:
    """Raise Failed, with the ids, if there are several."""
    if len(ids) > 1:
        what_to_do = "Give the id of one:" + "".join(f"\n  {i}" for i in ids)
        raise Failed(f"Cannot choose: {len(ids)} {things} {what} {quoted(text)}. {what_to_do}", ExitCode.REFUSED)
