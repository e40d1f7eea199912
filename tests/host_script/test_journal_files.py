"""Two slots, the newest valid one counts, and whatever cannot be relied on is never 'not begun'."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import JournalReport
from snapshotd.domain.state import replace
from snapshotd.simulator.journal import (
    SLOT_BYTES,
    JournalChanged,
    JournalEntry,
    JournalUnreadable,
    journal_path,
    read_journal,
    write_journal,
)
from snapshotd.simulator.ownership import Ownership, read_host, write_host
from tests.host_script.conversation import Conversation
from tests.host_script.host_commands import look, observe
from tests.host_script.recording_host import OTHER, WEB, RecordingHost

FULL = JournalEntry(
    vm=WEB,
    id="0e9d0a35-25f6-4a6e-9a0b-1d7e1d3c0001",
    token=17,
    operation="operations/web.1",
    step=2,
    phase="BEGUN",
    deadline=datetime(2026, 11, 25, 12, 30, tzinfo=UTC),
    begun_at=datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC),
    begun_token=4,
    pid=4711,
    pid_started="2026-11-25T11:00:00.0000001Z",
    owed_checkpoint_type="Production",
    temporary_checkpoint_type="ProductionOnly",
    output={"checkpoint_id": "C1"},
)


def slot(fields: object) -> bytes:
    """Write a slot as the other engine would."""
    payload = json.dumps(fields).encode()
    return (hashlib.sha256(payload).hexdigest().encode() + b" " + payload).ljust(SLOT_BYTES - 1) + b"\n"


def fields(**changes: object) -> dict[str, object]:
    return {
        "v": 1,
        "seq": 3,
        "vm": WEB.upper(),
        "id": "j",
        "token": 5,
        "operation": "",
        "step": 0,
        "phase": "",
        "begun_token": 0,
        "deadline": "2026-11-25T12:30:00.1234567Z",
        "begun_at": "",
        "pid": 0,
        "pid_started": "",
        "owed_checkpoint_type": "",
        "temporary_checkpoint_type": "",
        "output": {},
        **changes,
    }


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_written_is_read_again(tmp_path: Path, *, durable: bool) -> None:
    write_journal(tmp_path / "new" / "directory", FULL, durable=durable)
    assert read_journal(tmp_path / "new" / "directory", WEB.upper()) == replace(FULL, seq=1)


def test_a_vm_without_a_file_has_no_journal(tmp_path: Path) -> None:
    assert read_journal(tmp_path, WEB) is None


def test_the_file_bears_the_vm_id_in_lower_case_and_has_two_slots_of_ascii(tmp_path: Path) -> None:
    write_journal(tmp_path, replace(FULL, vm=WEB.upper()))
    content = (tmp_path / f"{WEB}.journal").read_bytes()
    assert len(content) == 2 * SLOT_BYTES
    assert content.isascii()
    assert content[SLOT_BYTES - 1 : SLOT_BYTES] == b"\n"


def test_a_write_goes_to_the_other_slot_and_counts_on(tmp_path: Path) -> None:
    slots = []
    for token in (1, 2, 3):
        assert write_journal(tmp_path, replace(FULL, token=token, seq=token - 1)).seq == token
        content = journal_path(tmp_path, WEB).read_bytes()
        slots.append((content[:SLOT_BYTES], content[SLOT_BYTES:]))
    assert slots[0][0] == slots[1][0]
    assert slots[1][1] == slots[2][1]
    assert slots[1][0] != slots[2][0]


@pytest.mark.parametrize("read", [0, 1, 3])
def test_an_entry_that_was_not_the_newest_when_it_is_written_changes_nothing(tmp_path: Path, read: int) -> None:
    for seq in range(2):
        write_journal(tmp_path, replace(FULL, seq=seq))
    with pytest.raises(JournalChanged):
        write_journal(tmp_path, replace(FULL, token=99, seq=read))
    assert read_journal(tmp_path, WEB) == replace(FULL, seq=2)


@pytest.mark.parametrize("kept", [0, 1, 64, 65, 300, SLOT_BYTES - 1])
@pytest.mark.parametrize("writes", [2, 3])
def test_a_write_torn_at_any_place_leaves_the_entry_before_it(tmp_path: Path, writes: int, kept: int) -> None:
    for token in range(1, writes):
        write_journal(tmp_path, replace(FULL, token=token, seq=token - 1))
    path = journal_path(tmp_path, WEB)
    before = path.read_bytes()
    write_journal(tmp_path, replace(FULL, token=writes, seq=writes - 1, operation="operations/web.2"))
    after = path.read_bytes()
    start = 0 if before[:SLOT_BYTES] != after[:SLOT_BYTES] else SLOT_BYTES
    torn = before[:start] + after[start : start + kept] + before[start + kept :]
    path.write_bytes(torn)
    entry = read_journal(tmp_path, WEB)
    # What is left of the slot may be the same as what stood there; without its last byte it is as good as whole.
    whole = torn == after or kept == SLOT_BYTES - 1
    assert entry is not None
    assert entry.token == (writes if whole else writes - 1)


def test_two_torn_slots_are_unreadable_and_not_missing(tmp_path: Path) -> None:
    journal_path(tmp_path, WEB).write_bytes(b"0" * 64 + b" {}".ljust(SLOT_BYTES - 65) + b"\n")
    with pytest.raises(JournalUnreadable):
        read_journal(tmp_path, WEB)


def test_an_empty_file_is_unreadable(tmp_path: Path) -> None:
    journal_path(tmp_path, WEB).touch()
    with pytest.raises(JournalUnreadable):
        read_journal(tmp_path, WEB)


def test_a_file_that_names_another_vm_is_unreadable(tmp_path: Path) -> None:
    write_journal(tmp_path, replace(FULL, vm=OTHER))
    journal_path(tmp_path, OTHER).rename(journal_path(tmp_path, WEB))
    with pytest.raises(JournalUnreadable, match=OTHER):
        read_journal(tmp_path, WEB)


def test_a_new_journal_over_a_foreign_one_leaves_nothing_of_it(tmp_path: Path) -> None:
    for seq in range(3):
        write_journal(tmp_path, replace(FULL, vm=OTHER, seq=seq))
    journal_path(tmp_path, OTHER).rename(journal_path(tmp_path, WEB))
    write_journal(tmp_path, FULL)
    assert read_journal(tmp_path, WEB) == replace(FULL, seq=1)


def test_the_other_engines_file_is_read(tmp_path: Path) -> None:
    older, newer = fields(seq=9, token=1), fields(seq=10, token=2, phase="DONE")
    journal_path(tmp_path, WEB).write_bytes(slot(newer) + slot(older))
    entry = read_journal(tmp_path, WEB)
    assert entry is not None
    assert (entry.token, entry.phase) == (2, "DONE")
    assert entry.deadline == datetime(2026, 11, 25, 12, 30, 0, 123456, tzinfo=UTC)


NOT_UNDERSTOOD: list[dict[str, object]] = [
    {"v": 2},
    {"phase": "PAUSED"},
    {"token": None},
    {"token": "abc"},
    {"token": "7"},
    {"token": 5.5},
    {"token": -1},
    {"seq": 1 << 63},
    {"begun_token": None},
    {"step": "x"},
    {"pid": 1 << 32},
    {"id": None},
    {"output": 1},
    {"output": None},
    {"output": "C1"},
    {"output": []},
    {"output": ["C1"]},
    {"deadline": "tomorrow"},
    {"deadline": "11/25/2026"},
    {"begun_at": "2026-13-01T00:00:00Z"},
]


@pytest.mark.parametrize("newest", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_unreadable_to_both_engines(
    newest: dict[str, object], script: Conversation, host: RecordingHost
) -> None:
    journal_path(host.journal_directory, WEB).parent.mkdir()
    content = slot(fields(seq=1, vm=WEB)) + slot(fields(**{"seq": 2, "vm": WEB, **newest}))
    journal_path(host.journal_directory, WEB).write_bytes(content)
    assert script.ask(look()).vms[0].journal.state == JournalReport.UNREADABLE
    assert script.ask(observe(6)).vms[0].journal.state == JournalReport.PRESENT


@pytest.mark.parametrize("newest", NOT_UNDERSTOOD)
def test_an_entry_that_is_not_understood_does_not_bring_the_older_one_back(
    tmp_path: Path, newest: dict[str, object]
) -> None:
    journal_path(tmp_path, WEB).write_bytes(slot(fields(seq=1)) + slot(fields(**{"seq": 2, **newest})))
    with pytest.raises(JournalUnreadable):
        read_journal(tmp_path, WEB)


def test_a_host_without_host_json_has_no_owner(tmp_path: Path) -> None:
    assert read_host(tmp_path) is None


def test_the_first_owner_stays(tmp_path: Path) -> None:
    write_host(tmp_path / "new", "first")
    write_host(tmp_path / "new", "second")
    assert read_host(tmp_path / "new") == Ownership("first")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["host.json"]


def test_host_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_bytes(b'\xef\xbb\xbf{"v":1,"installation_id":"first"}\r\n')
    assert read_host(tmp_path) == Ownership("first")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"v":2,"installation_id":"x"}', '{"v":1}'])
def test_a_host_json_that_is_not_understood_is_unreadable(tmp_path: Path, content: str) -> None:
    (tmp_path / "host.json").write_text(content)
    with pytest.raises(JournalUnreadable):
        read_host(tmp_path)
