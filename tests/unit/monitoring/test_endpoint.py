"""The endpoint answers a few paths, and whoever is slow, mute or many holds nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from prometheus_client.metrics_core import Metric

from snapshotd.monitoring.endpoint import Endpoint, MetricsNotServed, Scrapes
from snapshotd.monitoring.meters import OTHER, Meters
from snapshotd.setting_values import as_listening
from tests.scraped import families_of


@dataclass
class Watched:
    """An endpoint, and how it is asked."""

    endpoint: Endpoint
    is_ready: bool = True

    async def send(self, request: bytes) -> bytes:
        """Send a request, and return all that comes back until the connection ends."""
        host, _, port = self.endpoint.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def get(self, path: str) -> tuple[int, str]:
        """Get a page; return its status and text."""
        head, _, body = (await self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()


@asynccontextmanager
async def watched(meters: Meters, time_s: float = 10.0) -> AsyncIterator[Watched]:
    """Run an endpoint."""
    made: Watched
    endpoint = Endpoint("127.0.0.1:0", Scrapes(meters.registry), lambda: made.is_ready, time_s)
    made = Watched(endpoint)
    await endpoint.open()
    running = asyncio.create_task(endpoint.run())
    await asyncio.sleep(0)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_was_counted_is_there_to_read() -> None:
    meters = Meters()
    meters.call_ended("/snapshotd.v1.AdminService/GetStatus", "OK", 0.01)
    meters.callers.refused("TOKEN_EXPIRED")
    async with watched(meters) as at:
        status, text = await at.get("/metrics?name=x")
    assert status == 200
    samples = {(s.name, *sorted(s.labels.values())): s.value for f in families_of(text) for s in f.samples}
    method = "/snapshotd.v1.AdminService/GetStatus"
    assert samples["snapshotd_calls_total", method, "OK"] == 1
    assert samples["snapshotd_call_duration_seconds_bucket", method, "0.02"] == 1
    assert samples["snapshotd_callers_refused_total", "TOKEN_EXPIRED"] == 1


async def test_reasons_that_are_too_many_are_counted_as_one() -> None:
    meters = Meters()
    for n in range(100):
        meters.callers.refused(f"REASON_{n}")
    assert meters.registry.get_sample_value("snapshotd_callers_refused_total", {"reason": OTHER}) == 70


async def test_probes_tell_whether_it_is_alive_and_whether_it_is_at_work() -> None:
    async with watched(Meters()) as at:
        assert [await at.get("/healthz"), await at.get("/readyz")] == [(200, "ok\n"), (200, "ok\n")]
        at.is_ready = False
        assert [await at.get("/healthz"), await at.get("/readyz")] == [(200, "ok\n"), (503, "no\n")]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01 tls\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000, b"431"),
    ],
)
async def test_what_is_no_request_for_a_page_is_refused(request_: bytes, status: bytes) -> None:
    async with watched(Meters()) as at:
        assert (await at.send(request_)).split()[1] == status


async def test_mute_callers_are_few_and_are_ended_and_then_others_are_answered() -> None:
    async with watched(Meters(), time_s=0.2) as at:
        host, _, port = at.endpoint.address.rpartition(":")
        mute = [await asyncio.open_connection(host, int(port)) for _ in range(16)]
        assert await at.send(b"GET /healthz HTTP/1.1\r\n\r\n") == b""
        async with asyncio.timeout(10):
            assert [await reader.read() for reader, _ in mute] == [b""] * 16
        assert await at.get("/healthz") == (200, "ok\n")
        for _, writer in mute:
            writer.close()


async def test_a_scrape_that_fails_or_hangs_ends_and_the_next_one_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def defect() -> Iterable[Metric]:
        raise KeyError("a defect")

    async def hang() -> Iterable[Metric]:
        await asyncio.get_running_loop().create_future()
        return ()

    async def none() -> Iterable[Metric]:
        return ()

    gauges = [defect, hang, none]

    async def following() -> Iterable[Metric]:
        return await gauges.pop(0)()

    scrapes = Scrapes(Meters().registry, following)
    patient, hasty = Endpoint("127.0.0.1:0", scrapes), Endpoint("127.0.0.1:0", scrapes, time_s=0.1)
    await patient.open()
    await hasty.open()
    running = [asyncio.create_task(endpoint.run()) for endpoint in (patient, hasty)]
    await asyncio.sleep(0)
    at = Watched(patient)
    assert (await at.get("/metrics"))[0] == 500
    assert "a defect" in caplog.text
    assert await Watched(hasty).send(b"GET /metrics HTTP/1.1\r\n\r\n") == b""
    assert (await at.get("/metrics"))[0] == 200
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_an_address_that_is_taken_is_refused_with_what_to_do() -> None:
    async with watched(Meters()) as at:
        second = Endpoint(at.endpoint.address, Scrapes(Meters().registry))
        with pytest.raises(MetricsNotServed, match=r"it is in use\. Set another metrics\.listen, or none"):
            await second.open()


@pytest.mark.parametrize("text", ["9464", "127.0.0.1:99999", "unix:/run/s", "http://127.0.0.1:9464"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        as_listening(text)
    assert [as_listening(good) for good in ("", "0.0.0.0:9464", "[::]:0")] == ["", "0.0.0.0:9464", "[::]:0"]
