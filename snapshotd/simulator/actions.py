"""The six actions of a remote shell: from a request's body to the shells, and to the reply. Never sees HTTP."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from snapshotd.simulator import soap
from snapshotd.simulator.shells import Shells

_ENVELOPE_BYTES: Final = 2_000
"""What a Receive's reply takes besides its output, with some room to spare."""


@dataclass(frozen=True)
class Call:
    """One request and what it acts on."""

    request: soap.Request
    shells: Shells
    connected: Callable[[], bool]
    """Returns whether the client still waits for the reply."""


def act(call: Call) -> bytes:
    """Carry out a request and write its reply.

    Raises WsmanFault when the host refuses it or has nothing, ConnectionDropped when its connection is to be lost,
    MalformedEnvelope for a body that cannot be read.
    """
    request = call.request
    if request.resource_uri != soap.SHELL_RESOURCE:
        raise soap.unknown_resource(request.resource_uri)
    action = _ACTIONS.get(request.action)
    if action is None:
        raise soap.unknown_action(request.action)
    return action(call)


def _create(call: Call) -> bytes:
    body = call.request.body
    idle = "" if body is None else body.findtext(f"{soap.SHELL}IdleTimeOut", "")
    return soap.created(call.request, call.shells.create(soap.parse_duration(idle) if idle else None))


def _command(call: Call) -> bytes:
    body = call.request.body
    command = "" if body is None else body.findtext(f"{soap.SHELL}Command", "")
    if body is None or not command:
        raise soap.invalid_body("CommandLine without Command")
    arguments = [element.text or "" for element in body.iterfind(f"{soap.SHELL}Arguments")]
    command_id = call.shells.start(call.request.shell_id, " ".join([command, *arguments]))
    return soap.started(call.request, command_id)


def _send(call: Call) -> bytes:
    body = call.request.body
    streams = [] if body is None else body.findall(f"{soap.SHELL}Stream")
    if not streams:
        raise soap.invalid_body("Send without Stream")
    for stream in streams:
        try:
            data = base64.b64decode(stream.text or "", validate=True)
        except binascii.Error as error:
            raise soap.invalid_body(f"Stream is not base64: {error}") from error
        end = stream.get("End", "").lower() in {"true", "1"}
        call.shells.send(call.request.shell_id, stream.get("CommandId", ""), data, end=end)
    return soap.sent(call.request)


def _receive(call: Call) -> bytes:
    request = call.request
    desired = None if request.body is None else request.body.find(f"{soap.SHELL}DesiredStream")
    if desired is None:
        raise soap.invalid_body("Receive without DesiredStream")
    command_id = desired.get("CommandId", "")
    room = max(1, (request.envelope_bytes - _ENVELOPE_BYTES) * 3 // 4)
    output = call.shells.receive(request.shell_id, command_id, request.timeout_s, room, call.connected)
    return soap.received(request, command_id, output.stdout, output.stderr, output.exit_code)


def _signal(call: Call) -> bytes:
    body = call.request.body
    if body is None:
        raise soap.invalid_body("Signal without body")
    # Terminate, ctrl_c and ctrl_break: for a PowerShell that runs a script all three end it [not verified].
    call.shells.signal(call.request.shell_id, body.get("CommandId", ""))
    return soap.signalled(call.request)


def _delete(call: Call) -> bytes:
    call.shells.delete(call.request.shell_id)
    return soap.deleted(call.request)


_ACTIONS: Final[dict[str, Callable[[Call], bytes]]] = {
    f"{soap.TRANSFER_ACTION}Create": _create,
    f"{soap.SHELL_ACTION}Command": _command,
    f"{soap.SHELL_ACTION}Send": _send,
    f"{soap.SHELL_ACTION}Receive": _receive,
    f"{soap.SHELL_ACTION}Signal": _signal,
    f"{soap.TRANSFER_ACTION}Delete": _delete,
}
