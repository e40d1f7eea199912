"""WS-Management envelopes as text: reads requests, writes replies and faults. Never acts on them.

The messages are those of MS-WSMV [documented], cut to what WinRS needs. The fault codes are Windows' own
[documented: its header wsmerror.h]; which of them a real host picks is said beside each.
"""

from __future__ import annotations

import base64
import re
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

_SOAP: Final = "{http://www.w3.org/2003/05/soap-envelope}"
_ADDRESSING: Final = "{http://schemas.xmlsoap.org/ws/2004/08/addressing}"
_WSMAN: Final = "{http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd}"
SHELL: Final = "{http://schemas.microsoft.com/wbem/wsman/1/windows/shell}"
"""Namespace of the elements in a shell request's body."""

SHELL_RESOURCE: Final = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd"
SHELL_ACTION: Final = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/"
TRANSFER_ACTION: Final = "http://schemas.xmlsoap.org/ws/2004/09/transfer/"
_STATE: Final = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/"

_DEFAULT_TIMEOUT_S: Final = 60.0
"""MaxTimeoutms of a host as installed, which counts where a request names none [documented]."""
_DEFAULT_ENVELOPE: Final = 153_600
_DURATION: Final = re.compile(
    r"P(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?", re.ASCII
)


class MalformedEnvelope(ValueError):
    """The text is not a SOAP envelope that can be answered."""


class WsmanFault(Exception):
    """What a host answers instead of doing what it was asked.

    Args:
        code: Windows' number for it.
        subcode: the WS-Management or WS-Addressing name.
        reason: the text for people.
        by_sender: the request was wrong, rather than the host unable.
    """

    def __init__(self, code: int, subcode: str, reason: str, *, by_sender: bool = True) -> None:
        super().__init__(reason)
        self.code = code
        self.subcode = subcode
        self.reason = reason
        self.by_sender = by_sender


def timed_out() -> WsmanFault:
    """Return the fault that the operation time-out passed without output [observed; pywinrm relies on the number]."""
    reason = "The WS-Management service cannot complete the operation within the time specified in OperationTimeout."
    return WsmanFault(2150858793, "w:TimedOut", reason, by_sender=False)


def no_such_shell(shell_id: str) -> WsmanFault:
    """Return the fault that there is no such shell [observed]."""
    reason = (
        "The request for the Windows Remote Shell with ShellId "
        f"{shell_id} failed because the shell was not found on the server."
    )
    return WsmanFault(2150858843, "w:InvalidSelectors", reason)


def no_such_command(command_id: str) -> WsmanFault:
    """Return the fault that the shell has no such command. Its number is that of a missing shell [observed]."""
    reason = (
        "The Windows Remote Shell received a request to perform an operation on command "
        f"{command_id}, which does not exist."
    )
    return WsmanFault(2150858843, "w:InvalidSelectors", reason)


def aborted() -> WsmanFault:
    """Return the fault that Signal, Delete or a restart ended the command under a pending request [observed]."""
    reason = "The I/O operation has been aborted because of either a thread exit or an application request."
    return WsmanFault(995, "w:InternalError", reason, by_sender=False)


def too_many_shells(limit: int) -> WsmanFault:
    """Return the fault that MaxShellsPerUser is reached [observed: number and text]."""
    reason = (
        "The WS-Management service cannot process the request. This user is allowed a maximum number of "
        f"{limit} concurrent shells, which has been exceeded. Close existing shells or raise the quota for this user."
    )
    return WsmanFault(2150859173, "w:QuotaLimit", reason)


def too_many_processes(limit: int) -> WsmanFault:
    """Return the fault that MaxProcessesPerShell is reached.

    Number and text are those of the like quota of a plugin's shell [observed]; that this one has them is not verified.
    """
    reason = (
        "The WS-Management service cannot process the request. The maximum number of concurrent commands per shell "
        f"has been exceeded ({limit}). Retry the request later or raise the Maximum Commands per Shell quota."
    )
    return WsmanFault(2150859241, "w:QuotaLimit", reason)


def too_many_operations(limit: int) -> WsmanFault:
    """Return the fault that MaxConcurrentOperationsPerUser is reached [observed: number and text]."""
    reason = (
        "The WS-Management service cannot process the request. This user is allowed a maximum number of "
        f"{limit} concurrent operations, which has been exceeded. Close existing operations for this user, or raise "
        "the quota for this user."
    )
    return WsmanFault(2150859174, "w:QuotaLimit", reason)


def cannot_do(reason: str) -> WsmanFault:
    """Return the fault that the host itself failed; the reason is ours [not verified which one a host gives]."""
    return WsmanFault(1359, "w:InternalError", reason, by_sender=False)


def unknown_action(action: str) -> WsmanFault:
    """Return the fault that the action is not one of a shell's [documented]."""
    return WsmanFault(2150858753, "a:ActionNotSupported", f"The WS-Addressing action URI is invalid: {action}")


def unknown_resource(uri: str) -> WsmanFault:
    """Return the fault that the resource is not the command shell: no PSRP, no WMI here [documented]."""
    return WsmanFault(2150858752, "a:DestinationUnreachable", f"The service cannot find the resource {uri}.")


def invalid_body(reason: str) -> WsmanFault:
    """Return the fault that the body does not hold what its action needs [documented, observed]."""
    return WsmanFault(2150858817, "w:SchemaValidationError", reason)


@dataclass(frozen=True)
class Request:
    """One request, with the headers that a shell cares for."""

    action: str
    message_id: str
    resource_uri: str
    shell_id: str
    timeout_s: float
    envelope_bytes: int
    """The largest reply that the client takes."""
    options: dict[str, str]
    body: ET.Element | None
    """The only element of the SOAP body."""


class _NoDoctype(ET.TreeBuilder):
    """Builds a tree from documents without a DOCTYPE: no entities, so nothing to expand or to fetch."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002  (ElementTree's hook)
        raise MalformedEnvelope("a DOCTYPE is not allowed in SOAP")


def parse_request(text: bytes) -> Request:
    """Return the request in an envelope.

    Raises MalformedEnvelope when it is not XML, has a DOCTYPE, or lacks action or message id.
    """
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314  (it refuses every DOCTYPE)
    try:
        parser.feed(text)
        root: ET.Element = parser.close()
    except ET.ParseError as error:
        raise MalformedEnvelope(f"not XML: {error}") from error
    header, body = root.find(f"{_SOAP}Header"), root.find(f"{_SOAP}Body")
    if root.tag != f"{_SOAP}Envelope" or header is None or body is None:
        raise MalformedEnvelope(f"not a SOAP 1.2 envelope: {root.tag}")
    action = header.findtext(f"{_ADDRESSING}Action", "").strip()
    message_id = header.findtext(f"{_ADDRESSING}MessageID", "").strip()
    if not action or not message_id:
        raise MalformedEnvelope("without Action or MessageID")
    limit = header.findtext(f"{_WSMAN}MaxEnvelopeSize", "").strip()
    timeout = header.findtext(f"{_WSMAN}OperationTimeout", "").strip()
    selectors = _named(header, "SelectorSet", "Selector")
    return Request(
        action=action,
        message_id=message_id,
        resource_uri=header.findtext(f"{_WSMAN}ResourceURI", "").strip(),
        shell_id=selectors.get("SHELLID", ""),
        timeout_s=parse_duration(timeout) if timeout else _DEFAULT_TIMEOUT_S,
        envelope_bytes=int(limit) if limit.isascii() and limit.isdigit() else _DEFAULT_ENVELOPE,
        options=_named(header, "OptionSet", "Option"),
        body=body[0] if len(body) else None,
    )


def _named(header: ET.Element, group: str, item: str) -> dict[str, str]:
    """Return a set of named values, by name in upper case."""
    elements = header.iterfind(f"{_WSMAN}{group}/{_WSMAN}{item}")
    return {element.get("Name", "").upper(): (element.text or "").strip() for element in elements}


def parse_duration(text: str) -> float:
    """Return an xs:duration (days to seconds) in seconds. Raises MalformedEnvelope for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise MalformedEnvelope(f"not a duration: {text[:40]!r}")
    days, hours, minutes, seconds = (float(match[part] or 0) for part in "dhms")
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def created(request: Request, shell_id: str) -> bytes:
    """Return the reply to Create."""
    return _reply(
        request,
        f"{TRANSFER_ACTION}CreateResponse",
        f"<x:ResourceCreated><a:ReferenceParameters><w:ResourceURI>{SHELL_RESOURCE}</w:ResourceURI>"
        f'<w:SelectorSet><w:Selector Name="ShellId">{escape(shell_id)}</w:Selector></w:SelectorSet>'
        "</a:ReferenceParameters></x:ResourceCreated>"
        f"<rsp:Shell><rsp:ShellId>{escape(shell_id)}</rsp:ShellId><rsp:ResourceUri>{SHELL_RESOURCE}</rsp:ResourceUri>"
        "<rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>",
    )


def started(request: Request, command_id: str) -> bytes:
    """Return the reply to Command."""
    body = f"<rsp:CommandResponse><rsp:CommandId>{escape(command_id)}</rsp:CommandId></rsp:CommandResponse>"
    return _reply(request, f"{SHELL_ACTION}CommandResponse", body)


def sent(request: Request) -> bytes:
    """Return the reply to Send."""
    return _reply(request, f"{SHELL_ACTION}SendResponse", "<rsp:SendResponse/>")


def received(request: Request, command_id: str, stdout: bytes, stderr: bytes, exit_code: int | None) -> bytes:
    """Return the reply to Receive: output, and the exit code when the command is done and everything was read."""
    command = quoteattr(command_id)
    streams = "".join(
        f'<rsp:Stream Name="{name}" CommandId={command}>{base64.b64encode(data).decode()}</rsp:Stream>'
        for name, data in (("stdout", stdout), ("stderr", stderr))
        if data
    )
    if exit_code is None:
        state = f'<rsp:CommandState CommandId={command} State="{_STATE}Running"/>'
    else:
        streams += "".join(
            f'<rsp:Stream Name="{name}" CommandId={command} End="true"/>' for name in ("stdout", "stderr")
        )
        state = (
            f'<rsp:CommandState CommandId={command} State="{_STATE}Done">'
            f"<rsp:ExitCode>{exit_code}</rsp:ExitCode></rsp:CommandState>"
        )
    body = f"<rsp:ReceiveResponse>{streams}{state}</rsp:ReceiveResponse>"
    return _reply(request, f"{SHELL_ACTION}ReceiveResponse", body)


def signalled(request: Request) -> bytes:
    """Return the reply to Signal."""
    return _reply(request, f"{SHELL_ACTION}SignalResponse", "<rsp:SignalResponse/>")


def deleted(request: Request) -> bytes:
    """Return the reply to Delete."""
    return _reply(request, f"{TRANSFER_ACTION}DeleteResponse", "")


def faulted(request: Request, fault: WsmanFault, machine: str) -> bytes:
    """Return the reply with a fault; it goes with HTTP 500."""
    body = (
        f"<s:Fault><s:Code><s:Value>{'s:Sender' if fault.by_sender else 's:Receiver'}</s:Value>"
        f"<s:Subcode><s:Value>{fault.subcode}</s:Value></s:Subcode></s:Code>"
        f'<s:Reason><s:Text xml:lang="en-US">{escape(fault.reason)}</s:Text></s:Reason>'
        '<s:Detail><f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" '
        f'Code="{fault.code}" Machine={quoteattr(machine)}><f:Message>{escape(fault.reason)}</f:Message>'
        "</f:WSManFault></s:Detail></s:Fault>"
    )
    return _reply(request, "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", body)


def _reply(request: Request, action: str, body: str) -> bytes:
    text = (
        '<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        'xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer" '
        'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" '
        'xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell">'
        f"<s:Header><a:Action>{action}</a:Action><a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        "<a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To>"
        f"<a:RelatesTo>{escape(request.message_id)}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
    return text.encode()
