"""A WS-Management endpoint whose every request can be made to fail, for tests of the sessions.

Signs in by NTLM and seals as Windows does (docs/hyperv.md, section 4), keeps shells with one process each, and runs a
Python function in the place of the host script. Knows nothing of Hyper-V: that is what the simulated host is for.
"""

from __future__ import annotations

import base64
import re
import struct
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import spnego
from google.protobuf import json_format

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.hyperv.session import KeptScript

SCRIPT = KeptScript("powershell.exe", ("-NoProfile", "-EncodedCommand", "AAAA"), b"c2NyaXB0" * 20_000, b"READY 42")

TIMED_OUT = 2150858793
NO_SUCH_SHELL = 2150858843

_BOUNDARY = b"--Encrypted Boundary"
_SEALED = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'

Script = Callable[[HostCommand], bytes | int | None]
"""The host script: what it writes, an exit code, or nothing at all."""


def answer_line(answer: HostAnswer) -> bytes:
    """Write an answer as the host script does."""
    text = json_format.MessageToJson(answer, preserving_proto_field_name=True, indent=None)
    return base64.b64encode(text.encode()) + b"\r\n"


def reports(command: HostCommand) -> bytes:
    """Answer REPORTED, with the command's VM."""
    answer = HostAnswer(protocol=1, verdict=HostAnswer.REPORTED)
    answer.vms.add(vm_id=command.vm_id)
    return answer_line(answer)


@dataclass
class _Process:
    """One kept process: what came in, what is still to be read."""

    loaded: bool = False
    stdin: bytes = b""
    stdout: bytes = b""
    exit_code: int | None = None


@dataclass
class Endpoint:
    """The state of the endpoint, and what is to go wrong with it."""

    script: Script = reports
    ready: bytes = b"READY 42\r\n"
    piece_bytes: int = 50
    """How much one Receive gives: a real host, too, may tear a line anywhere."""
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    """By action (Create, Command, Send, Receive, Signal, Delete): a fault's code, or one of these words.

    cut_before, cut_after: the connection is cut. unsealed: the reply. redirect: to https. unauthorized: 401, and
    the connection is closed. signed_out: 401, and another sign-in on this connection would be taken.
    """
    commands: list[HostCommand] = field(default_factory=list)
    """What the script was given."""
    requests: list[str] = field(default_factory=list)
    """The actions that came, in order."""
    shells: dict[str, _Process] = field(default_factory=dict)
    created: int = 0
    sign_ins: int = 0
    refused: int = 0
    """Sign-ins that were refused, as a domain counts them before it locks the account."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    connections: list[_Handler] = field(default_factory=list)
    port: int = 0

    def cut_connections(self) -> None:
        """Cut every connection, as a network or a restarting host does."""
        for handler in self.connections:
            handler.cut()

    def next_fault(self, action: str) -> int | str | None:
        """Take the next thing that is to go wrong with an action."""
        planned = self.faults.get(action)
        return planned.pop(0) if planned else None

    def feed(self, process: _Process, data: bytes) -> None:
        """Give a process its input, and run it on every whole line."""
        with self.changed:
            process.stdin += data
            while b"\n" in process.stdin:
                line, _, process.stdin = process.stdin.partition(b"\n")
                self._line(process, line)
            self.changed.notify_all()

    def _line(self, process: _Process, line: bytes) -> None:
        if not process.loaded:
            process.loaded = line.strip() == SCRIPT.first_line
            process.stdout += self.ready
            return
        command = json_format.Parse(base64.b64decode(line), HostCommand())
        self.commands.append(command)
        match self.script(command):
            case bytes(output):
                process.stdout += output
            case int(code):
                process.exit_code = code
            case None:
                pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint
    context: spnego.ContextProxy | None = None
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.endpoint.connections.append(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Stay quiet."""

    def cut(self) -> None:
        """Cut this connection."""
        self.close_connection = True
        try:
            self.connection.shutdown(2)
        except OSError:
            return

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "Authorization" in self.headers:
            if not self._sign_in(self.headers["Authorization"].partition(" ")[2]):
                return
        elif self.context is None or not self.context.complete:
            self._reply(401, b"", "text/plain", {"WWW-Authenticate": "Negotiate"})
            return
        if not body:
            self._reply(200, b"", "text/plain")
            return
        assert self.context is not None
        self._wsman(self.context, ET.fromstring(_unseal(self.context, body)))  # noqa: S314  (our own client)

    def _sign_in(self, token: str) -> bool:
        raw = base64.b64decode(token)
        if raw[8:12] == b"\x01\x00\x00\x00":
            self.context = spnego.server(protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
            challenge = base64.b64encode(self.context.step(raw) or b"").decode()
            self._reply(401, b"", "text/plain", {"WWW-Authenticate": f"Negotiate {challenge}"})
            return False
        try:
            assert self.context is not None
            self.context.step(raw)
        except spnego.exceptions.SpnegoError:
            self.context = None
            with self.endpoint.changed:
                self.endpoint.refused += 1
            self._reply(401, b"", "text/plain", {"WWW-Authenticate": "Negotiate"})
            return False
        self.endpoint.sign_ins += 1
        return True

    def _wsman(self, context: spnego.ContextProxy, envelope: ET.Element) -> None:
        action = _text(envelope, "Action").rpartition("/")[2]
        self.endpoint.requests.append(action)
        planned = self.endpoint.next_fault(action)
        if planned == "cut_before":
            self.cut()
            return
        reply = _fault(planned) if isinstance(planned, int) else self._carry_out(action, envelope)
        if planned == "cut_after":
            self.cut()
            return
        if planned == "redirect":
            self._reply(307, b"", "text/plain", {"Location": "https://127.0.0.1:1/wsman"})
            return
        if planned == "unauthorized":
            self._reply(401, b"", "text/plain", {"WWW-Authenticate": "Negotiate", "Connection": "close"})
            return
        if planned == "signed_out":
            self._reply(401, b"", "text/plain", {"WWW-Authenticate": "Negotiate"})
            return
        code = 500 if b":Fault>" in reply else 200
        if planned == "unsealed":
            self._reply(code, reply, "application/soap+xml;charset=UTF-8")
            return
        sealed = context.wrap_winrm(reply)
        part = struct.pack("<i", len(sealed.header)) + sealed.header + sealed.data
        original = f"OriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(reply)}".encode()
        self._reply(
            code,
            _BOUNDARY
            + b"\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n\t"
            + original
            + b"\r\n"
            + _BOUNDARY
            + b"\r\n\tContent-Type: application/octet-stream\r\n"
            + part
            + _BOUNDARY
            + b"--\r\n",
            _SEALED,
        )

    def _carry_out(self, action: str, envelope: ET.Element) -> bytes:
        endpoint = self.endpoint
        message_id = _text(envelope, "MessageID")
        if action == "Create":
            endpoint.created += 1
            shell = f"shell-{endpoint.created}"
            endpoint.shells[shell] = _Process()
            return _envelope(f'<w:Selector Name="ShellId">{shell}</w:Selector>')
        shell = next(e.text or "" for e in envelope.iter() if e.get("Name") == "ShellId")
        process = endpoint.shells.get(shell)
        if process is None:
            return _fault(NO_SUCH_SHELL)
        match action:
            case "Command":
                return _envelope("<rsp:CommandId>command</rsp:CommandId>")
            case "Send":
                endpoint.feed(process, base64.b64decode(_text(envelope, "Stream")))
                return _envelope("")
            case "Receive":
                return self._receive(process, float(re.sub("[PTS]", "", _text(envelope, "OperationTimeout"))))
            case "Delete":
                del endpoint.shells[shell]
            case _:
                assert action == "Signal", action
        return _envelope("", message_id)

    def _receive(self, process: _Process, wait_s: float) -> bytes:
        deadline = time.monotonic() + wait_s
        with self.endpoint.changed:
            while not process.stdout and process.exit_code is None:
                if not self.endpoint.changed.wait(deadline - time.monotonic()):
                    return _fault(TIMED_OUT)
            size = self.endpoint.piece_bytes
            piece, process.stdout = process.stdout[:size], process.stdout[size:]
        stream = f'<rsp:Stream Name="stdout">{base64.b64encode(piece).decode()}</rsp:Stream>' if piece else ""
        if process.exit_code is not None and not process.stdout:
            stderr = base64.b64encode(b"out of luck").decode()
            return _envelope(
                f'{stream}<rsp:Stream Name="stderr">{stderr}</rsp:Stream><rsp:CommandState State="x/CommandState/Done">'
                f"<rsp:ExitCode>{process.exit_code}</rsp:ExitCode></rsp:CommandState>"
            )
        return _envelope(stream + '<rsp:CommandState State="x/CommandState/Running"/>')

    def _reply(self, code: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet about connections that a test cuts."""


def serve(endpoint: Endpoint) -> ThreadingHTTPServer:
    """Serve an endpoint on a free port of loopback, in threads."""
    server = _Server(("127.0.0.1", 0), type("_Handler", (_Handler,), {"endpoint": endpoint}))
    endpoint.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@contextmanager
def served(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Serve an endpoint, and end every connection afterwards."""
    server = serve(endpoint)
    try:
        yield endpoint
    finally:
        server.shutdown()
        endpoint.cut_connections()
        server.server_close()


def _unseal(context: spnego.ContextProxy, body: bytes) -> bytes:
    sealed = body.split(b"application/octet-stream\r\n", 1)[1].removesuffix(_BOUNDARY + b"--\r\n")
    length = struct.unpack("<i", sealed[:4])[0]
    return context.unwrap_winrm(sealed[4 : 4 + length], sealed[4 + length :])


def _text(envelope: ET.Element, name: str) -> str:
    return next(e.text or "" for e in envelope.iter() if e.tag.endswith("}" + name))


def _envelope(body: str, message_id: str = "uuid:0") -> bytes:
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="urn:a" xmlns:w="urn:w"'
        ' xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell">'
        f"<s:Header><a:RelatesTo>{message_id}</a:RelatesTo></s:Header><s:Body><b>{body}</b></s:Body></s:Envelope>"
    ).encode()


def _fault(code: int) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code>'
        "<s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:Some</s:Value></s:Subcode></s:Code><s:Reason><s:Text>"
        'it was not to be</s:Text></s:Reason><s:Detail><f:WSManFault Code="' + str(code) + '" Machine="h" '
        'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"/></s:Detail></s:Fault></s:Body></s:Envelope>'
    ).encode()
