"""How long reads take, by the size of the log: a page of VMs, an audit query by caller and time, a VM's tree."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.large_logs import Kept
from benchmarks.programs import daemon, until_followed, until_quiet
from benchmarks.progress import Figures, quantile, say
from benchmarks.sizes import EVENTS, log_of
from benchmarks.stamping import ACTORS, FIRST, actor
from snapshotd.api.v1 import audit_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from tests.e2e.system import Client

_CALLS: Final = 400
_WARM: Final = 20
"""Calls before those that count."""
_PAGE: Final = 100
_WINDOW: Final = timedelta(hours=2)


def measure(directory: Path, figures: Figures) -> None:
    """Read from daemons with logs of several sizes."""
    del directory
    say(f"\nreads, ms, one caller ({_CALLS} calls each)")
    say(f"{'events':>10} {'VMs':>8} {'what':<32} {'p50':>7} {'p99':>7}")
    for events in EVENTS[1:]:
        log = log_of(events)
        with log.copied() as files, daemon(files) as running:
            until_followed(running.address)
            until_quiet(running)
            client = Client(running.address)
            for name, label, calls in _reads(client, log):
                for call in islice(calls, _WARM):
                    call()
                took = [_timed_ms(call) for call in islice(calls, _CALLS)]
                p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
                figures[f"reads.{events}.{name}_p50_ms"], figures[f"reads.{events}.{name}_p99_ms"] = p50, p99
                if (before := figures.get(f"reads.{events // 10}.{name}_p99_ms")) is not None:
                    figures[f"reads.{events}.{name}_p99_ratio"] = p99 / before
                say(f"{log.events:>10,} {log.shape.count:>8,} {label:<32} {p50:>7.1f} {p99:>7.1f}")
            client.channel.close()


def _reads(client: Client, log: Kept) -> Iterator[tuple[str, str, Iterator[Callable[[], object]]]]:
    yield "list", f"a page of {_PAGE} VMs, one by one", _pages(client)
    yield "audit", "events of a caller in two hours", _audits(client, log)
    yield "tree", "a VM's tree of five snapshots", _trees(client, list(log.vm_ids("with snapshots")))


def _pages(client: Client) -> Iterator[Callable[[], object]]:
    """Yield calls that read the list of VMs page by page, and from the start again after its end."""
    token = ""

    def read() -> None:
        nonlocal token
        request = vm_pb2.ListVirtualMachinesRequest(page_size=_PAGE, page_token=token)
        answer = client.vms.ListVirtualMachines(request)
        assert len(answer.virtual_machines) == _PAGE, answer
        token = answer.next_page_token

    while True:
        yield read


def _audits(client: Client, log: Kept) -> Iterator[Callable[[], object]]:
    """Yield calls that read a page of what one caller did in two hours, anywhere in the log."""
    chosen = random.Random(1)  # noqa: S311  (the same in each run)

    def read() -> None:
        begins = FIRST + chosen.random() * (log.span - _WINDOW)
        request = audit_pb2.ListEventsRequest(
            actor=actor(chosen.randrange(ACTORS)),
            start_time=_timestamp(begins),
            end_time=_timestamp(begins + _WINDOW),
            page_size=_PAGE,
        )
        assert client.audit.ListEvents(request).events, request

    while True:
        yield read


def _trees(client: Client, vm_ids: list[str]) -> Iterator[Callable[[], object]]:
    """Yield calls that read the tree of a VM."""
    chosen = random.Random(1)  # noqa: S311  (as above)

    def read() -> None:
        name = f"virtualMachines/{chosen.choice(vm_ids)}"
        assert client.snapshots.GetSnapshotTree(snapshot_pb2.GetSnapshotTreeRequest(name=name)).ByteSize()

    while True:
        yield read


def _timestamp(time_: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time_)
    return stamp


def _timed_ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000
