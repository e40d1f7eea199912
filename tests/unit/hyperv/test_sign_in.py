"""Who may sign in to a host: what time does to a refusal, and that nobody waits beyond a deadline."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from snapshotd.api.v1.executor_pb2 import HostConnection
from snapshotd.hyperv.credentials import Credential, Secret
from snapshotd.hyperv.no_answer import AuthenticationFailed, ConnectionLost, DeadlineExceeded, HostUnreachable
from snapshotd.hyperv.sign_in import SignIns

HOST = HostConnection(host="hosts/hv01", address="hv01", port=5985)
CREDENTIAL = Credential("snap", Secret("Geheim"))
PAUSE_S = 1800.0


class Time:
    """A monotonic clock that the test turns."""

    s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.s


class Attempts:
    """Attempts that end as the test says."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.made = 0
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def __call__(self) -> None:
        """Make one."""
        self.made += 1
        self.begun.set()
        assert self.may_end.wait(10)
        if self.error is not None:
            raise self.error


def test_after_the_pause_there_is_one_more_attempt_and_another_pause() -> None:
    time, attempts = Time(), Attempts(AuthenticationFailed("refused"))
    sign = SignIns(PAUSE_S, time).of(HOST, CREDENTIAL)
    for pauses in range(1, 4):
        for _ in range(100):
            with pytest.raises(AuthenticationFailed, match="refused"):
                sign(attempts, None, time.s + 60)
            time.s += PAUSE_S / 100 - 0.001
        assert attempts.made == pauses
        time.s += 1
    attempts.error = None
    sign(attempts, None, time.s + 60)
    assert attempts.made == 4


@pytest.mark.parametrize("error", [None, HostUnreachable("no"), ConnectionLost("cut"), KeyError("a defect")])
def test_nothing_but_a_refusal_pauses_and_each_attempt_makes_way_for_the_next(error: Exception | None) -> None:
    time, attempts = Time(), Attempts(error)
    sign = SignIns(PAUSE_S, time).of(HOST, CREDENTIAL)
    for _ in range(3):
        with pytest.raises(type(error)) if error else nullcontext():
            sign(attempts, None, time.s + 60)
    assert attempts.made == 3


@pytest.mark.parametrize("error", [AuthenticationFailed("refused"), HostUnreachable("not there"), None])
def test_who_waits_for_an_attempt_shares_its_failure_and_follows_its_success(error: Exception | None) -> None:
    attempts, sign_ins = Attempts(error), SignIns(PAUSE_S)
    attempts.may_end.clear()
    deadline = threading.TIMEOUT_MAX

    def sign() -> str:
        try:
            sign_ins.of(HOST, CREDENTIAL)(attempts, None, deadline)
        except (AuthenticationFailed, HostUnreachable) as failure:
            return type(failure).__name__
        return "signed in"

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(sign)
        assert attempts.begun.wait(10)
        second = threads.submit(sign)
        attempts.may_end.set()
        assert first.result() == second.result() == (type(error).__name__ if error else "signed in")
    assert attempts.made <= (2 if not isinstance(error, AuthenticationFailed) else 1)


def test_who_waits_for_an_attempt_does_so_until_the_deadline() -> None:
    attempts, sign_ins = Attempts(), SignIns(PAUSE_S, Time())
    attempts.may_end.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(sign_ins.of(HOST, CREDENTIAL), attempts, None, Time.s + 60)
        assert attempts.begun.wait(10)
        with pytest.raises(DeadlineExceeded, match="nothing was sent"):
            sign_ins.of(HOST, CREDENTIAL)(Attempts(), None, Time.s)
        attempts.may_end.set()
        first.result()


def test_of_many_who_ask_at_once_those_who_waited_for_a_refusal_take_it_and_a_later_one_tries_again() -> None:
    time, attempts = Time(), Attempts(AuthenticationFailed("refused"))
    sign = SignIns(PAUSE_S, time).of(HOST, CREDENTIAL)
    asked_s = time.s
    for made in (1, 2):
        time.s += 1
        for _ in range(10):
            with pytest.raises(AuthenticationFailed, match="refused"):
                sign(attempts, asked_s, time.s + 60)
        assert attempts.made == made
        time.s += 1
        asked_s = time.s


def test_the_secret_is_in_nothing_that_is_kept() -> None:
    sign_ins = SignIns(PAUSE_S)
    with pytest.raises(AuthenticationFailed):
        sign_ins.of(HOST, CREDENTIAL)(Attempts(AuthenticationFailed("refused")), None, 0)
    kept = [vars(sign_ins), *(vars(host) for host in sign_ins._hosts.values())]
    assert "Geheim" not in f"{kept}"
