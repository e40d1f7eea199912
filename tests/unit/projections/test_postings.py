"""What postings find is what a look at each event would find, whatever the conditions and wherever a page begins."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest

from projections.audit import AUDIT, find
from projections.postings import BLOCK
from projections.projections import SCRIPT
from projections.rows import Rows
from projections.store import open_views
from snapshotd.domain.events import Envelope, HostSynced, SnapshotHeld, SnapshotRemoved, VmPowerChanged
from snapshotd.domain.ids import HostId, OperationName, SnapshotId, StreamId, VmId, vm_stream
from snapshotd.domain.lifecycle import Power, SnapshotState
from snapshotd.domain.state import replace
from snapshotd.ports.views import EventQuery
from tests.fakes import START

COUNT: Final = 2 * BLOCK + 900
VMS: Final = tuple(VmId(f"33333333-3333-4333-8333-{n:012d}") for n in range(40))
SNAPSHOTS: Final = tuple(SnapshotId(f"aaaaaaaa-0000-4000-8000-{n:012d}") for n in range(3))
OPERATIONS: Final = tuple(OperationName(f"operations/{VMS[0]}-{n}-0000000{n}") for n in range(3))
ACTORS: Final = ("ann", "bob", "carl")
CONDITIONS: Final[dict[str, EventQuery]] = {
    "vm": EventQuery(vm_id=VMS[0]),
    "host": EventQuery(host_id=HostId("hv01")),
    "snapshot": EventQuery(snapshot_id=SNAPSHOTS[0]),
    "operation": EventQuery(operation=OPERATIONS[1]),
    "actor": EventQuery(actors=("bob",)),
    "actors": EventQuery(actors=("carl", "bob")),
    "type": EventQuery(event_types=("SnapshotHeld",)),
    "types": EventQuery(event_types=("HostSynced", "SnapshotHeld")),
    "since": EventQuery(since=START + timedelta(seconds=COUNT // 3)),
    "until": EventQuery(until=START + timedelta(seconds=COUNT // 2)),
    "only once": EventQuery(actors=("once",)),
    "nothing": EventQuery(actors=("nobody",)),
}


@dataclass(frozen=True)
class Indexed:
    """Events, and the file that finds them."""

    envelopes: list[Envelope]
    connection: sqlite3.Connection


def events() -> Iterator[Envelope]:
    """Yield events of all sorts, some positions left out, while the clock is set back now and then."""
    chance, time = random.Random(1), START
    for position in range(1, COUNT):
        time += timedelta(seconds=-1000 if chance.random() < 0.001 else 1)
        if chance.random() < 0.01:
            continue
        actor = "once" if position == 77 else chance.choice(ACTORS)
        host = Envelope(
            event_id=f"{position}",
            stream=StreamId("host/hv01"),
            version=position,
            position=position,
            time=time,
            actor=actor,
            request_id="",
            operation=None,
            event=HostSynced(vms=1, drifts=0, skipped=()),
        )
        match chance.randrange(4):
            case 0:
                yield host
            case 1:
                own = chance.choice(SNAPSHOTS)
                held = SnapshotHeld(snapshot_id=own, why="", request_digest="")
                states = SnapshotState.EXPUNGING, SnapshotState.REMOVED
                removed = SnapshotRemoved(snapshot_id=own, from_state=states[0], to_state=states[1])
                yield replace(host, stream=vm_stream(VMS[0]), event=chance.choice((held, removed)))
            case _:
                power = VmPowerChanged(from_power=Power.STOPPED, to_power=Power.RUNNING, cause="drift")
                operation = chance.choice((None, *OPERATIONS))
                yield replace(host, stream=vm_stream(chance.choice(VMS)), event=power, operation=operation)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    """Return an index that was made batch by batch, with a batch rolled back and a restart on the way."""
    path: Path = tmp_path_factory.mktemp("postings") / "views.db"
    envelopes, chance = list(events()), random.Random(2)
    with closing(open_views(path, COUNT, SCRIPT)) as connection:
        rows, taken = Rows(connection), 0
        while taken < len(envelopes):
            batch = envelopes[taken : taken + chance.choice((1, 7, 500))]
            for envelope in batch:
                AUDIT.handle(rows, envelope)
            if chance.random() < 0.1:
                rows.forget()
                continue
            rows.flush()
            assert AUDIT.finish is not None
            AUDIT.finish(connection, batch[-1].position)
            taken += len(batch)
        yield Indexed(envelopes, connection)


def meets(envelope: Envelope, query: EventQuery) -> bool:
    """Return whether an event meets a query."""
    about = getattr(envelope.event, "snapshot_id", None)
    return (
        query.vm_id in (None, VmId(envelope.stream.removeprefix("vm/")))
        and query.host_id in (None, HostId(envelope.stream.removeprefix("host/")))
        and query.snapshot_id in (None, about)
        and query.operation in (None, envelope.operation)
        and (not query.actors or envelope.actor in query.actors)
        and (not query.event_types or type(envelope.event).__name__ in query.event_types)
        and (query.since is None or envelope.time >= query.since)
        and (query.until is None or envelope.time < query.until)
    )


def joined(*queries: EventQuery) -> EventQuery:
    """Return the query that has the conditions of all."""
    said = {name: value for query in queries for name in query.__slots__ if (value := getattr(query, name))}
    return EventQuery(**said)


PAIRS: Final = (("vm", "vm"), *combinations(CONDITIONS, 2), ("since", "actor", "until"), ("since", "vm", "types"))


@pytest.mark.slow
@pytest.mark.parametrize("beyond", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, COUNT - 5, COUNT + BLOCK])
def test_each_pair_of_conditions_finds_what_meets_both(indexed: Indexed, beyond: int) -> None:
    for names in PAIRS:
        query = joined(*(CONDITIONS[name] for name in names))
        expected = [e.position for e in indexed.envelopes if meets(e, query)]
        for limit in (10, COUNT):
            later = [position for position in expected if position > beyond][:limit]
            assert list(find(indexed.connection, query, beyond, limit, descending=False)) == later, names
            earlier = [position for position in reversed(expected) if position < beyond or not beyond][:limit]
            assert list(find(indexed.connection, query, beyond, limit, descending=True)) == earlier, names


def test_everything_is_found_without_a_condition(indexed: Indexed) -> None:
    everything = [e.position for e in indexed.envelopes]
    assert list(find(indexed.connection, EventQuery(), 0, COUNT, descending=False)) == everything
    assert list(find(indexed.connection, EventQuery(), 0, COUNT, descending=True)) == everything[::-1]


def test_no_query_reads_more_of_the_file_than_it_searches_for(indexed: Indexed) -> None:
    statements: set[str] = set()
    indexed.connection.set_trace_callback(statements.add)
    for names in PAIRS:
        for descending in (False, True):
            find(indexed.connection, joined(*(CONDITIONS[name] for name in names)), 0, 100, descending=descending)
    indexed.connection.set_trace_callback(None)
    plans = {
        detail
        for statement in statements
        for *_, detail in indexed.connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    }
    # There is one block in 4,096 events.
    assert {p for p in plans if p.startswith("SCAN")} == {"SCAN blocks", "SCAN json_each VIRTUAL TABLE INDEX 1:"}
    assert not any("TEMP B-TREE" in plan for plan in plans), plans
