"""A profile divided among the parts of snapshotd."""

import cProfile
import json
from collections.abc import Callable
from types import CodeType
from typing import NamedTuple

import pytest

from benchmarks.profiling import by_part, part_of, role_of
from snapshotd.dispatch import dispatcher
from snapshotd.ports import plain
from snapshotd.store import codec, sqlite_log


class Called(NamedTuple):
    """What a function has called, as a profile tells it."""

    code: CodeType | str
    inlinetime: float


class Entry(NamedTuple):
    """A function, as a profile tells it."""

    code: CodeType | str
    inlinetime: float
    calls: list[Called] | None = None


def code_of(function: Callable[..., object]) -> CodeType:
    return function.__code__


ENCODING = code_of(codec.encode)
COMMIT = code_of(sqlite_log.SqliteEventLog.append)
STANDARD = code_of(json.dumps)


def test_a_function_of_ours_counts_to_its_part_and_what_is_nobodys_to_none() -> None:
    codes = [ENCODING, COMMIT, code_of(dispatcher.Dispatcher.__init__), STANDARD]
    assert [part_of(code) for code in codes] == ["encoding", "commit", "decision", None]
    assert part_of("<built-in method builtins.len>") is None


def test_what_is_nobodys_counts_to_its_callers_in_proportion() -> None:
    entries = [
        Entry(ENCODING, 1.0, [Called("len", 3.0)]),
        Entry(COMMIT, 2.0, [Called("len", 1.0)]),
        Entry("len", 4.0),
    ]
    assert by_part(entries) == {"encoding": pytest.approx(4.0), "commit": pytest.approx(3.0)}


def test_what_is_called_through_the_standard_library_counts_to_whoever_called_that() -> None:
    entries = [
        Entry(ENCODING, 1.0, [Called(STANDARD, 0.5)]),
        Entry(STANDARD, 0.5, [Called("encode", 2.0)]),
        Entry("encode", 2.0),
    ]
    assert by_part(entries) == {"encoding": pytest.approx(3.5)}


def test_what_nobody_of_ours_called_is_other() -> None:
    assert by_part([Entry(STANDARD, 0.5, [Called("encode", 2.0)]), Entry("encode", 2.0)]) == {
        "other": pytest.approx(2.5)
    }


def test_a_real_profile_adds_up() -> None:
    profile = cProfile.Profile()
    profile.runcall(plain.encode_text, {"a": 1})
    entries = profile.getstats()
    assert sum(by_part(entries).values()) == pytest.approx(sum(entry.inlinetime for entry in entries))


def test_threads_of_a_pool_are_one_kind() -> None:
    assert [role_of(name) for name in ("views_0", "asyncio_12", "event-log-writer", "MainThread")] == [
        *("views", "asyncio", "event-log-writer", "MainThread"),
    ]
