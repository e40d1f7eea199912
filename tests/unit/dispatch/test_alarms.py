"""Alarms: what is due, in order, against an oracle that knows no heap; the heap does not grow with what is set anew."""

from __future__ import annotations

import math
import random
from datetime import timedelta

import pytest

from snapshotd.dispatch.alarms import Alarms, WallClock
from snapshotd.dispatch.outputs import Moment
from tests.fakes import START


@pytest.mark.parametrize("seed", range(20))
def test_each_is_due_at_the_earliest_time_that_was_set_since_it_was_last_due_or_cleared(seed: int) -> None:
    chance, alarms, oracle = random.Random(seed), Alarms[int](), dict[int, float]()
    for now in range(400):
        key, at = chance.randrange(12), float(now + chance.randrange(30))
        match chance.randrange(4):
            case 0:
                alarms.clear(key)
                oracle.pop(key, None)
            case 1:
                due = {k: when for k, when in oracle.items() if when <= now}
                assert alarms.any_due(now) == bool(due)
                found = alarms.due(now, 1000)
                assert sorted(found) == sorted(due)
                times = [oracle.pop(k) for k in found]
                assert times == sorted(times), "the earliest first"
            case _:
                alarms.by(key, at)
                oracle[key] = min(at, oracle.get(key, math.inf))
    assert len(alarms) == len(oracle)


def test_of_many_that_are_due_as_many_as_are_wanted_are_told_and_the_others_stay_due() -> None:
    alarms = Alarms[int]()
    for n in range(10):
        alarms.by(n, 5.0)
    assert (alarms.due(4.9, 3), alarms.due(5.0, 3), alarms.due(5.0, 3)) == ([], [0, 1, 2], [3, 4, 5])
    assert alarms.any_due(5.0)


def test_what_is_due_at_no_time_is_not_kept() -> None:
    alarms = Alarms[str]()
    alarms.by("a", math.inf)
    assert not len(alarms)
    assert not alarms.any_due(1e300)


def test_what_is_set_and_cleared_again_and_again_takes_no_memory() -> None:
    alarms = Alarms[int]()
    for n in range(5000):
        alarms.by(n % 10, 1e6)
        alarms.clear(n % 10)
    assert len(alarms._heap) < 200


@pytest.mark.parametrize(("by_s", "was_set"), [(3600.0, True), (-3600.0, True), (0.2, False), (-0.2, False)])
def test_a_clock_that_is_set_is_noticed_once_and_one_that_is_slewed_is_not(by_s: float, *, was_set: bool) -> None:
    clock = WallClock()

    def at(seconds: float, ahead_s: float) -> Moment:
        return Moment(utc=START + timedelta(seconds=seconds + ahead_s), monotonic_s=seconds)

    assert not clock.was_set(at(0, 0))
    assert not clock.was_set(at(100, 0))
    assert clock.was_set(at(101, by_s)) is was_set
    assert not clock.was_set(at(102, by_s))
