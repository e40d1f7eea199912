"""A small HTTP server for scrapers and probes: GET only, a few paths, one answer a connection.

    GET /metrics   OpenMetrics
    GET /healthz   200: the process is alive
    GET /readyz    200: it does its work, 503: it does not

It knows no caller and changes nothing. A caller that is slow, mute or greedy holds nothing up: connections are few,
their time is limited, and the text is written in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

_log = logging.getLogger(__name__)

_CONNECTIONS: Final = 16
"""How many there may be at a time. One more is closed at once."""
_TIME_S: Final = 10.0
"""How long a connection may last."""
_HEAD_BYTES: Final = 8 * 1024
"""The largest head of a request."""
_TEXT: Final = "text/plain; charset=utf-8"


class MetricsNotServed(OSError):
    """The address for metrics is taken or cannot be used."""

    def __init__(self, listen: str, error: OSError) -> None:
        known = {errno.EADDRINUSE: "it is in use", errno.EADDRNOTAVAIL: "this machine does not have it"}
        why = known.get(error.errno or 0, (error.strerror or str(error)).lower())
        super().__init__(f"Cannot serve metrics on {listen}: {why}. Set another metrics.listen, or none.")


@dataclass(frozen=True, slots=True)
class _Families:
    """The metrics of one scrape, as the library asks for them."""

    metrics: tuple[Metric, ...]

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self.metrics


class Scrapes:
    """Writes what a scrape gets.

    Args:
        registry: what is counted.
        gauges: returns what is read for each scrape, on the event loop.
    """

    def __init__(
        self, registry: CollectorRegistry, gauges: Callable[[], Awaitable[Iterable[Metric]]] | None = None
    ) -> None:
        self._registry = registry
        self._gauges = gauges
        self._one = asyncio.Lock()

    async def text(self) -> bytes:
        """Return all metrics as OpenMetrics. Of several scrapes, one is read at a time."""
        async with self._one:
            read = tuple(await self._gauges()) if self._gauges is not None else ()
            return await asyncio.to_thread(self._written, read)

    def _written(self, read: tuple[Metric, ...]) -> bytes:
        families = _Families((*read, *self._registry.collect()))
        return bytes(generate_latest(families))  # type: ignore[no-untyped-call]  # it takes whatever collects


class Endpoint:
    """The server.

    Args:
        listen: host:port; port 0 means any free one.
        scrapes: writes the metrics.
        ready: returns whether the process does its work.
        time_s: how long a connection may last.
    """

    def __init__(
        self, listen: str, scrapes: Scrapes, ready: Callable[[], bool] = lambda: True, time_s: float = _TIME_S
    ) -> None:
        self._listen = listen
        self._time_s = time_s
        self._server: asyncio.Server | None = None
        self._connections = 0
        self.address = listen
        """Where it is, once it is open."""

        async def metrics() -> tuple[HTTPStatus, str, bytes]:
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, await scrapes.text()

        async def alive() -> tuple[HTTPStatus, str, bytes]:
            return HTTPStatus.OK, _TEXT, b"ok\n"

        async def at_work() -> tuple[HTTPStatus, str, bytes]:
            return (HTTPStatus.OK, _TEXT, b"ok\n") if ready() else (HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"no\n")

        self._pages: Mapping[str, Callable[[], Awaitable[tuple[HTTPStatus, str, bytes]]]] = {
            "/metrics": metrics,
            "/healthz": alive,
            "/readyz": at_work,
        }

    async def open(self) -> None:
        """Take the address; nobody is answered yet. Raises MetricsNotServed."""
        host, _, port = self._listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            self._server = await asyncio.start_server(
                self._connected, host, int(port), limit=_HEAD_BYTES, backlog=_CONNECTIONS, start_serving=False
            )
        except OSError as error:
            raise MetricsNotServed(self._listen, error) from error
        bound = self._server.sockets[0].getsockname()[1]
        self.address = f"{self._listen.rpartition(':')[0]}:{bound}"

    async def run(self) -> None:
        """Answer until cancelled."""
        if self._server is None:
            await self.open()
        assert self._server is not None
        async with self._server:
            await self._server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= _CONNECTIONS:
            writer.transport.abort()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(self._time_s):
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the caller has gone, or is too slow
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST)
        if words[0] != b"GET":
            return _response(HTTPStatus.METHOD_NOT_ALLOWED)
        page = self._pages.get(words[1].split(b"?", 1)[0].decode("latin-1"))
        if page is None:
            return _response(HTTPStatus.NOT_FOUND)
        try:
            return _response(*await page())
        except TimeoutError:
            raise
        except Exception:  # noqa: BLE001  (a defect that a scrape shows must not end the server)
            _log.exception("the metrics could not be read")
            return _response(HTTPStatus.INTERNAL_SERVER_ERROR)


def _response(status: HTTPStatus, content: str = _TEXT, body: bytes | None = None) -> bytes:
    body = f"{status.phrase}\n".encode() if body is None else body
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
