"""What a running daemon shows to a scraper is what it has done; the dashboard and the alerts ask for nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
import yaml
from prometheus_client.metrics_core import Metric

from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.server.access_errors import SignInMissing
from tests.integration.watched_daemon import VM, Watched, page, watched

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"
SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}
"""What the samples of a family are called; those of others bear its name."""
ASKED_AS: Final = {"counter": "_total", "info": "_info"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    async with watched(tmp_path_factory.mktemp("watched")) as running:
        await running.snapshot("first")
        absent = snapshot_pb2.GetSnapshotRequest(name=f"virtualMachines/{VM}/snapshots/{VM}")
        with pytest.raises(grpc.aio.AioRpcError):
            await SnapshotServiceStub(running.channel).GetSnapshot(absent)
        await running.follow()
        yield running


def value(families: Mapping[str, Metric], sample: str, **labels: str) -> float:
    """Return the value of the one sample that has these labels."""
    (found,) = [
        s.value
        for family in families.values()
        for s in family.samples
        if s.name == sample and labels.items() <= s.labels.items()
    ]
    return float(found)


@pytest.mark.slow
async def test_a_scrape_tells_what_the_daemon_has_done_and_how_it_stands(daemon: Watched) -> None:
    families = await daemon.scrape()
    kind, action = "CREATE_SNAPSHOT", "checkpoint_create"
    assert value(families, "snapshotd_operations_ended_total", kind=kind, outcome="SUCCEEDED") == 1
    assert value(families, "snapshotd_operation_duration_seconds_count", kind=kind) == 1
    assert value(families, "snapshotd_operation_duration_seconds_sum", kind=kind) > 0
    assert value(families, "snapshotd_steps_ended_total", action=action, outcome="DONE") == 1
    assert value(families, "snapshotd_step_duration_seconds_count", action=action) == 1
    service = "/snapshotd.api.v1.SnapshotService"
    assert value(families, "snapshotd_calls_total", method=f"{service}/CreateSnapshot", code="OK") == 1
    assert value(families, "snapshotd_calls_total", method=f"{service}/GetSnapshot", code="NOT_FOUND") == 1
    assert value(families, "snapshotd_oldest_operation_age_seconds") == 0
    assert value(families, "snapshotd_oldest_transient_state_age_seconds") == 0
    assert value(families, "snapshotd_executors_attached") == value(families, "snapshotd_executor_attached") == 1
    assert value(families, "snapshotd_executor_sessions") >= 1
    assert value(families, "snapshotd_executor_commands_total", host="hv01", kind="EFFECT", outcome="DONE") == 1
    assert value(families, "snapshotd_host_reachable", host="hv01") == 1
    assert value(families, "snapshotd_host_slots", host="hv01") == 4
    assert value(families, "snapshotd_host_queue_length", host="hv01") == 0
    started = value(families, "snapshotd_start_time_seconds")
    assert value(families, "snapshotd_host_last_answer_timestamp_seconds", host="hv01") > started
    head = daemon.service.log.head_position()
    assert value(families, "snapshotd_log_head_position") == head
    assert value(families, "snapshotd_log_events_appended_total") == head
    assert 0 < value(families, "snapshotd_log_append_duration_seconds_count") <= head
    assert value(families, "snapshotd_storage_file_bytes", file="events.db") > 0
    assert 0 < value(families, "snapshotd_storage_free_bytes") < value(families, "snapshotd_storage_size_bytes")
    assert value(families, "snapshotd_view_stopped", view="tree") == 0
    assert value(families, "snapshotd_snapshots") == value(families, "snapshotd_snapshots_most_per_vm") == 1
    assert value(families, "snapshotd_snapshots_older", than="1d") == 0


async def test_who_is_refused_is_counted_with_the_reason(daemon: Watched) -> None:
    before = await daemon.scrape()
    daemon.service.refusals.refused("", "/x.X/Y", SignInMissing("x.X/Y"), "ipv4:10.0.0.1:1")
    after = await daemon.scrape()
    assert not before["snapshotd_callers_refused"].samples
    assert value(after, "snapshotd_callers_refused_total", reason=SignInMissing.reason) == 1


async def test_no_label_names_a_vm_or_a_caller_and_probes_are_answered(daemon: Watched) -> None:
    families = await daemon.scrape()
    assert {name for f in families.values() for s in f.samples for name in s.labels} == {
        *("kind", "outcome", "action", "method", "code", "host", "view", "file", "le", "than", "version", "reason"),
    }
    assert VM not in await page(daemon.metrics, "/metrics")
    assert await page(daemon.metrics, "/readyz") == await page(daemon.metrics, "/healthz") == "ok\n"


def samples_of(families: Mapping[str, Metric]) -> set[str]:
    """Return the names that samples of these families have."""
    return {f"{f.name}{suffix}" for f in families.values() for suffix in SUFFIXES.get(f.type, ("",))}


def strings(document: Any) -> Iterator[str]:  # noqa: ANN401  (any JSON)
    """Yield every query in a dashboard."""
    if isinstance(document, dict):
        if isinstance(document.get("expr"), str):
            yield document["expr"]
        for value in document.values():
            yield from strings(value)
    elif isinstance(document, list):
        for value in document:
            yield from strings(value)


def rules() -> list[dict[str, Any]]:
    """Return the alerts."""
    document = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def names_in(queries: Iterator[str] | list[str]) -> set[str]:
    """Return the names of our metrics in queries."""
    return {name for query in queries for name in re.findall(r"\bsnapshotd_\w+", query)}


async def test_each_metric_of_the_dashboard_and_of_the_alerts_is_in_a_scrape(daemon: Watched) -> None:
    known = samples_of(await daemon.scrape())
    dashboard = json.loads((DEPLOY / "grafana" / "snapshotd.json").read_text(encoding="utf-8"))
    assert len(dashboard["panels"]) > 10
    shown, watched_for = names_in(strings(dashboard)), names_in([rule["expr"] for rule in rules()])
    assert shown | watched_for <= known
    assert len(shown) > 20
    assert len(watched_for) > 10


async def test_the_document_has_each_metric_with_its_type_and_labels_and_each_alert(daemon: Watched) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = {r[0]: (r[1], r[2]) for r in re.findall(r"^\| `(snapshotd_\w+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE)}
    families = await daemon.scrape()
    asked = {f"{f.name}{ASKED_AS.get(f.type, '')}": f for f in families.values()}
    assert {name: kind for name, (kind, _) in rows.items()} == {name: f.type for name, f in asked.items()}
    for name, family in asked.items():
        labels = {label for s in family.samples for label in s.labels} - {"le"}
        assert not family.samples or labels == set(re.findall(r"\w+", rows[name][1])), name
    described = re.findall(r"^\| `(Snapshotd\w+)` \|", text, re.MULTILINE)
    assert described == [rule["alert"] for rule in rules()]
