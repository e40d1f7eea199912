"""The times at which hosts reported VMs, kept small: they equal those of a plain dictionary."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest

from snapshotd.dispatch.observed import Observed
from snapshotd.domain.ids import HostId, VmId
from tests.fakes import START

HOSTS = (HostId("hv01"), HostId("hv02"))


def guid(chance: random.Random) -> VmId:
    """Return the id of one of a few VMs, whose ids have nothing to do with their order of appearance."""
    digits = f"{random.Random(chance.randrange(60)).getrandbits(128):032x}"
    return VmId("-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])))


@pytest.mark.parametrize("seed", range(10))
def test_each_vm_has_the_latest_time_at_which_each_host_reported_it(seed: int) -> None:
    chance, observed, oracle = random.Random(seed), Observed(), dict[tuple[HostId, VmId], datetime]()
    for _ in range(500):
        host_id, vm_id = chance.choice(HOSTS), guid(chance)
        at = START + timedelta(microseconds=chance.randrange(10**15))
        assert observed.get(host_id, vm_id) == oracle.get((host_id, vm_id))
        observed.note(host_id, vm_id, at)
        oracle[host_id, vm_id] = max(at, oracle.get((host_id, vm_id), at))
    assert all(observed.get(*at) == when for at, when in oracle.items())
    observed.forget(HOSTS[0])
    assert {observed.get(HOSTS[0], vm_id) for host_id, vm_id in oracle if host_id == HOSTS[0]} == {None}
    assert all(observed.get(*at) == when for at, when in oracle.items() if at[0] == HOSTS[1])
