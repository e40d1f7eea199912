"""Who is fed for a host follows from who is attached; nobody changes it by asking."""

from __future__ import annotations

import random

import pytest

from snapshotd.dispatch.feeding import EVERY_HOST, Feeding
from snapshotd.domain.ids import HostId

HV01, HV02 = HostId("hv01"), HostId("hv02")
ALL = frozenset({EVERY_HOST})


def test_the_first_attached_that_reaches_a_host_is_fed_until_it_leaves() -> None:
    feeding = Feeding(8.0)
    assert feeding.fed(HV01) is None
    feeding.attach("a", frozenset({HV02}), 0)
    feeding.attach("b", ALL, 0)
    feeding.attach("c", ALL, 0)
    assert (feeding.fed(HV01), feeding.fed(HV02)) == ("b", "a")
    feeding.detach("b")
    assert (feeding.fed(HV01), feeding.fed(HV02)) == ("c", "a")


def test_one_that_attaches_again_takes_no_host_from_another() -> None:
    feeding = Feeding(8.0)
    feeding.attach("a", frozenset({HV02}), 0)
    feeding.attach("b", ALL, 0)
    feeding.attach("a", ALL, 1)
    assert (feeding.fed(HV01), feeding.fed(HV02)) == ("b", "b")


@pytest.mark.parametrize("seed", range(20))
def test_who_asks_changes_nothing(seed: int) -> None:
    chance, asked, unasked = random.Random(seed), Feeding(8.0), Feeding(8.0)
    for now_s in range(50):
        name = chance.choice("abc")
        hosts = chance.choice((ALL, frozenset({HV01}), frozenset({HV02})))
        leaves = chance.random() < 0.4
        for feeding in (asked, unasked):
            if leaves:
                feeding.detach(name)
            else:
                feeding.attach(name, hosts, now_s)
        asked.fed(chance.choice((HV01, HV02)))
    assert [asked.fed(host) for host in (HV01, HV02)] == [unasked.fed(host) for host in (HV01, HV02)]


@pytest.mark.parametrize("seed", range(20))
def test_it_is_always_the_first_attached_of_those_that_reach_a_host(seed: int) -> None:
    chance, feeding, attached = random.Random(seed), Feeding(8.0), dict[str, frozenset[str]]()
    for now_s in range(100):
        name = chance.choice("abcd")
        attached.pop(name, None)
        if chance.random() < 0.3:
            feeding.detach(name)
        else:
            attached[name] = chance.choice((ALL, frozenset({HV01}), frozenset({HV02}), frozenset({HV01, HV02})))
            feeding.attach(name, attached[name], now_s)
        for host in (HV01, HV02):
            reaching = [name for name, hosts in attached.items() if hosts & {host, EVERY_HOST}]
            assert feeding.fed(host) == next(iter(reaching), None)
