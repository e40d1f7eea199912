"""Finds operations: by name, by the tag at its end or the tag's beginning, by the VM, or the caller's last one."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Final

from google.longrunning.operations_pb2 import ListOperationsRequest, Operation

from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.pages import pages
from snapshotd.client.render import quoted, shown
from snapshotd.client.resolve import BEGIN_WITH, one_of, quoted_value, vm_name

_PREFIX: Final = "operations/"
_TAG: Final = re.compile(r"([0-9]+-)?([0-9a-f]{4,8})", re.IGNORECASE)
"""The form of a tag or its beginning, with the operation's number or without."""


def operation_name(server: Server, text: str) -> str:
    """Return the resource name of an operation that was named whole, or by its tag. Raises Failed.

    Args:
        server: the server to ask; it is not asked about a whole name.
        text: the user's text.
    """
    tag = _TAG.fullmatch(text.removeprefix(_PREFIX))
    if tag is None:
        return _PREFIX + text.removeprefix(_PREFIX)
    beginning = f"{tag[1] or ''}{tag[2]}".lower()
    request = ListOperationsRequest(filter=f"tag = {quoted_value(f'{tag[2]}*')}")
    listed = (o.name for page in pages(server, server.operations.ListOperations, request) for o in page.operations)
    found = [name for name in listed if tag[1] is None or name.rpartition(".")[2].startswith(beginning)]
    if not found:
        why = "there is none whose name ends like that. See `snapshotctl operation list`."
        raise Failed(f"Cannot find operation {quoted(text)}: {why}", ExitCode.NOT_FOUND)
    one_of("operations", BEGIN_WITH, text, found)
    return found[0]


def asked_for(server: Server, arguments: argparse.Namespace) -> str:
    """Return the operation that a command is about: a named one, the VM's active one, or the caller's last one.

    Raises Failed.
    """
    if getattr(arguments, "vm", None):
        return _only_one_on(server, arguments.vm)
    if not arguments.last:
        return operation_name(server, arguments.operation)
    request = ListOperationsRequest(filter='actor = "@me"', page_size=1)
    found = server.call(server.operations.ListOperations, request).operations
    if not found:
        why = "you have requested none. See `snapshotctl operation list`."
        raise Failed(f"Cannot find the last operation: {why}", ExitCode.NOT_FOUND)
    return found[0].name


def _only_one_on(server: Server, text: str) -> str:
    """Return the active operation of a VM. Raises Failed if there is none, or several."""
    found = [operation.name for operation in active_on(server, vm_name(server, text))]
    if not found:
        why = f"none is active on {shown(text)}. See `snapshotctl operation list --vm {shlex.quote(text)}`."
        raise Failed(f"Cannot find an operation: {why}", ExitCode.NOT_FOUND)
    one_of("operations", "are active on", text, found)
    return found[0]


def active_on(server: Server, vm: str) -> list[Operation]:
    """Return the active operations of a VM, the oldest first."""
    request = ListOperationsRequest(filter=f'done = "false" AND virtual_machine = {quoted_value(vm)}')
    found = [o for page in pages(server, server.operations.ListOperations, request) for o in page.operations]
    return found[::-1]
