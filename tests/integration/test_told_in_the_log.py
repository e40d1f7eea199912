"""The log of a running daemon: what happened, with what each line is about, and no secret in any of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc
import pytest

from demo.programs import CREDENTIAL, PASSWORD, USERNAME
from snapshotd.api.v1 import host_pb2, snapshot_pb2
from snapshotd.api.v1.host_pb2_grpc import HostServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.logs import FORMATS
from tests.integration.watched_daemon import VM, page, watched

WRONG: Final = "canary-4711-Pa55word"
TOKEN: Final = "canary-4711-token"
REQUEST: Final = "b7b2c5c2-6d0e-4b52-9a0e-3f2b7a0c9d11"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Yield the lines that a daemon would write as JSON, libraries' warnings and our own details included."""
    told = list[str]()

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(self.format(record))

    handler, root = Kept(), logging.getLogger()
    handler.setFormatter(FORMATS["json"]())
    root.addHandler(handler)
    levels = {name: logging.getLogger(name).level for name in ("snapshotd", "projections")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield told
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def one(lines: list[str], begins: str) -> Mapping[str, str]:
    """Return the first line whose message begins so."""
    found = [line for line in map(json.loads, lines) if line["message"].startswith(begins)]
    assert found, begins
    return dict(found[0])


@pytest.mark.slow
async def test_each_line_says_what_it_is_about_and_none_holds_a_secret(tmp_path: Path, lines: list[str]) -> None:
    async with watched(tmp_path, retries__first="50 ms", retries__longest="100 ms") as daemon:
        request = snapshot_pb2.CreateSnapshotRequest(
            parent=f"virtualMachines/{VM}",
            snapshot=snapshot_pb2.Snapshot(display_name="first", kind=snapshot_pb2.Snapshot.DISK),
            request_id=REQUEST,
        )
        metadata = (("authorization", f"Bearer {TOKEN}"), ("x-snapshotd-actor", "ann"))
        snapshots, hosts = SnapshotServiceStub(daemon.channel), HostServiceStub(daemon.channel)
        asked = await snapshots.CreateSnapshot(request, metadata=metadata)
        await daemon.ended(asked)
        request.snapshot.display_name = "second"
        with pytest.raises(grpc.aio.AioRpcError):
            await snapshots.CreateSnapshot(request, metadata=metadata)
        (tmp_path / "credentials" / "wrong").touch(mode=0o600)
        (tmp_path / "credentials" / "wrong").write_text(f"{USERNAME}:{WRONG}\n", encoding="utf-8")
        for credential in ("wrong", CREDENTIAL):
            host = host_pb2.Host(name="hosts/hv01", credential=credential)
            await hosts.UpdateHost(host_pb2.UpdateHostRequest(host=host))
            with suppress(grpc.aio.AioRpcError):  # the first one is refused
                await hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"))
        text = await page(daemon.metrics, "/metrics")
    ended = one(lines, "operation succeeded")
    assert {name: ended[name] for name in ("operation", "vm", "vm_name", "host", "request", "actor", "kind")} == {
        "operation": asked.name,
        "vm": VM,
        "vm_name": "web01",
        "host": "hv01",
        "request": REQUEST,
        "actor": "ann",
        "kind": "CREATE_SNAPSHOT",
    }
    refused = one(lines, "call refused")
    assert refused["message"] == (
        f"call refused: Cannot accept request id {REQUEST}: another request used it. Use a new UUID for each request."
    )
    assert refused["method"] == "/snapshotd.api.v1.SnapshotService/CreateSnapshot"
    assert (refused["reason"], refused["request"]) == ("REQUEST_ID_REUSED", REQUEST)
    effect = one(lines, "hosts/hv01: EFFECT")
    assert (effect["operation"], effect["vm"], effect["host"]) == (asked.name, VM, "hv01")
    away = one(lines, "host hv01 does not answer")
    assert (away["host"], away["reason"]) == ("hv01", "AUTHENTICATION_FAILED")
    for what in ("attached", "detached"):
        assert any(f" {what}" in json.loads(line)["message"] and '"executor": ' in line for line in lines)
    stored = b"".join(file.read_bytes() for file in (tmp_path / "storage").rglob("*") if file.is_file())
    for secret in (PASSWORD, WRONG, TOKEN):
        assert not [line for line in lines if secret in line]
        assert secret not in text
        assert secret.encode() not in stored
