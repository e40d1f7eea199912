"""What is written is read back the same, and what does not fit is an error."""

import json
import re
from typing import get_args

import msgspec
import pytest

from snapshotd.domain.events import Event, StepFailed, StepIssued, VmDescribed, VmEvent
from snapshotd.domain.host_report import DiskFile
from snapshotd.domain.lifecycle import Power, StepState
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Failure
from snapshotd.store import topics
from snapshotd.store.codec import decode, encode
from snapshotd.store.errors import UnreadableEvent
from tests.fakes import World
from tests.unit.application.cases import CASES, Case, ready


def log_of(case: Case) -> list[Event]:
    """Return all events of a world in which a case has run, with lost answers."""
    world = ready(case)
    world.do(case.request)
    world.run(lose=True)
    return [e for e in world.log if isinstance(e, get_args(VmEvent))]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_event_of_a_history_is_read_back_the_same(case: Case) -> None:
    for event in log_of(case):
        topic, text = encode(event)
        assert decode(topic, text) == event


def test_every_event_has_one_topic_of_its_own() -> None:
    assert set(topics.TOPICS) == set(get_args(Event))
    assert len(set(topics.TOPICS.values())) == len(topics.TOPICS)
    assert all(re.fullmatch(r"snapshotd\.[a-z_.]+:[1-9]", topic) for topic in topics.TOPICS.values())
    assert not set(topics.UPCASTS) & set(topics.TOPICS.values()), "what is written is not an older version"


def test_data_is_readable_json() -> None:
    event = next(e for e in log_of(CASES[0]) if isinstance(e, StepIssued))
    data = json.loads(encode(event)[1])
    assert data["to_state"] == "ISSUED"
    assert data["before"]["values"]["power"] in Power.__members__
    assert data["deadline"].endswith("Z")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attempt": "1"}, r"Expected `int`, got `str` - at `\$.attempt`"),
        ({"deadline": "yesterday"}, "Invalid RFC3339"),
        ({"deadline": "2026-11-25T09:00:00"}, "timezone"),
        ({"to_state": "LOST"}, "LOST"),
        ({"surprise": 1}, "Unknown field `surprise`"),
    ],
)
def test_data_that_does_not_fit_is_an_error(change: dict[str, object], said: str) -> None:
    event = next(e for e in log_of(CASES[0]) if isinstance(e, StepIssued))
    topic, text = encode(event)
    with pytest.raises(UnreadableEvent, match=said):
        decode(topic, json.dumps(json.loads(text) | change))


@pytest.mark.parametrize("field", ["attempt", "before"])
def test_data_that_lacks_a_field_is_an_error(field: str) -> None:
    event = next(e for e in log_of(CASES[0]) if isinstance(e, StepIssued))
    topic, text = encode(event)
    data = {k: v for k, v in json.loads(text).items() if k != field}
    with pytest.raises(UnreadableEvent, match=field):
        decode(topic, json.dumps(data))


def test_a_field_is_asked_for_also_where_it_has_a_default() -> None:
    failure = Failure(reason="HOST_ERROR", message="It refused.")
    event = StepFailed(number=1, step=1, from_state=StepState.ISSUED, to_state=StepState.FAILED, failure=failure)
    topic, text = encode(event)
    data = json.loads(text)
    del data["failure"]["error_id"]
    with pytest.raises(UnreadableEvent, match=r"Missing field `error_id` - at `\$.failure`"):
        decode(topic, json.dumps(data))


@pytest.mark.parametrize("event", get_args(Event), ids=lambda cls: cls.__name__)
def test_no_event_takes_a_time_without_an_offset(event: type) -> None:
    assert "DateTimeType(tz=None)" not in repr(msgspec.inspect.type_info(event))


def test_an_unknown_topic_and_broken_json_are_errors() -> None:
    with pytest.raises(UnreadableEvent, match="newer release"):
        decode("snapshotd.vm.teleported:1", "{}")
    with pytest.raises(UnreadableEvent, match="not JSON"):
        decode("snapshotd.vm.registered:1", "{")


def test_an_older_version_is_upcast(monkeypatch: pytest.MonkeyPatch) -> None:
    event = next(e for e in World().log if type(e).__name__ == "VmRegistered")
    assert isinstance(event, get_args(VmEvent))
    topic, text = encode(event)
    older = {k: v for k, v in json.loads(text).items() if k != "owner"}
    monkeypatch.setitem(topics.UPCASTS, "snapshotd.vm.registered:0", (topic, lambda data: data | {"owner": "ops"}))
    assert decode("snapshotd.vm.registered:0", json.dumps(older)) == event


def test_a_description_of_the_first_version_is_read_with_what_it_told_of_the_offering() -> None:
    older = {
        "description": {
            "name": "web01",
            "checkpoint_type": "Production",
            "current_checkpoint_id": "c1",
            "checkpoints": [
                {
                    "checkpoint_id": "c1",
                    "name": "nightly",
                    "parent_id": None,
                    "created_at": "2026-11-25T09:00:00Z",
                    "checkpoint_type": "Standard",
                    "has_memory": False,
                    "automatic": False,
                    "system_files_bytes": 4096,
                    "disks": [{"location": "SCSI:0:0", "path": "base.vhdx"}],
                }
            ],
            "disks": [{"location": "SCSI:0:0", "path": "d1.avhdx"}],
            "files": [{"path": "base.vhdx", "parent_path": "", "missing": False, "file_bytes": 7}],
            "snapshot_blockers": [],
            "cpu_count": 2,
            "memory_bytes": 1024,
            "is_replica": False,
            "critical": False,
        }
    }
    read = decode("snapshotd.vm.described:1", json.dumps(older))
    assert isinstance(read, VmDescribed)
    assert read.description.offering == Offering(cpu_count=2, memory_bytes=1024)
    assert read.description.files == (DiskFile(path="base.vhdx", file_bytes=7),)
    assert read.description.checkpoints[0].offering is None
    topic, text = encode(read)
    assert (topic, decode(topic, text)) == ("snapshotd.vm.described:2", read)
