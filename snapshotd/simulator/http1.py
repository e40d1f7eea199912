"""HTTP/1.1 for the simulated host's two servers: one thread for each connection, kept alive. Never reads a body's text.

Not the standard library's handler: its header parser takes a multipart Content-Type for a mail to be parsed, and costs
more than everything else that a sealed request needs.
"""

from __future__ import annotations

import email.utils
import socketserver
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedIOBase
from typing import ClassVar, Final

_LONGEST_LINE: Final = 64 * 1024
_MOST_HEADERS: Final = 100


class BadRequest(Exception):
    """The request cannot be read, so the connection is of no more use."""

    def __init__(self, code: HTTPStatus) -> None:
        super().__init__(code.phrase)
        self.code = code


@dataclass(frozen=True)
class HttpRequest:
    """One request."""

    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    """By name in lower case."""
    length: int
    """Of the body, which is not read yet."""


def read_head(stream: BufferedIOBase, largest_body: int) -> HttpRequest | None:
    """Return a request, read up to its body; None at the end of the stream.

    Raises BadRequest for what is no request, is chunked, or brings more than so many bytes.
    """
    words = _line(stream).split()
    if not words:
        return None
    if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"}:
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    while line := _line(stream):
        name, separator, value = line.partition(":")
        if not separator or len(headers) >= _MOST_HEADERS:
            raise BadRequest(HTTPStatus.BAD_REQUEST)
        headers[name.lower()] = value.strip()
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isascii() or not length.isdigit():
        raise BadRequest(HTTPStatus.LENGTH_REQUIRED)
    if int(length) > largest_body:
        raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return HttpRequest(words[0], words[1].partition("?")[0], headers, int(length))


def _line(stream: BufferedIOBase) -> str:
    line = stream.readline(_LONGEST_LINE)
    if len(line) == _LONGEST_LINE:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    return line.decode("latin-1").rstrip("\r\n")


class HttpConnection(socketserver.StreamRequestHandler):
    """One connection; a subclass answers its POSTs."""

    disable_nagle_algorithm = True
    largest_body: ClassVar[int]
    """Bytes that one request may bring."""

    def handle(self) -> None:
        """Answer one request after the other until one side closes."""
        self.closing = False
        while not self.closing:
            try:
                request = read_head(self.rfile, self.largest_body)
                if request is None:
                    return
                if request.headers.get("expect", "").lower() == "100-continue":
                    self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = self.rfile.read(request.length)
            except BadRequest as error:
                self.reply(error.code, close=True)
                return
            if len(body) < request.length:
                return
            self.closing = request.headers.get("connection", "").lower() == "close"
            if request.method == "POST":
                self.post(request, body)
            else:
                self.reply(HTTPStatus.METHOD_NOT_ALLOWED)

    def post(self, request: HttpRequest, body: bytes) -> None:
        """Answer a POST: call reply() once, or set closing."""
        raise NotImplementedError

    def reply(self, code: HTTPStatus, body: bytes = b"", *, close: bool = False, **headers: str) -> None:
        """Write a whole reply at once: two writes would be two packets.

        Args:
            code: the HTTP status.
            body: the body.
            close: close the connection afterwards.
            headers: further headers, with _ for -; empty ones are left out.
        """
        self.closing = self.closing or close
        lines = [
            f"HTTP/1.1 {code.value} {code.phrase}",
            "Server: Microsoft-HTTPAPI/2.0",
            f"Date: {email.utils.formatdate(usegmt=True)}",
            f"Content-Length: {len(body)}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value),
            *(["Connection: close"] if self.closing else []),
        ]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
