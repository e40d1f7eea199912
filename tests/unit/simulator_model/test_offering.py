"""Processors and memory: when they can be set, what fits together, and what a restore brings back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from snapshotd.simulator.model import SimulatedHyperV
from tests.unit.simulator_model.hosts import DB, WEB, Script, bring, host_at, of, truth
from tests.unit.simulator_model.test_drives import refused, view

GIB = 1 << 30


def offering(host: SimulatedHyperV, vm_id: str) -> tuple[object, ...]:
    vm = view(host, vm_id)
    return vm.cpu_count, vm.memory_bytes, vm.dynamic_memory, vm.minimum_bytes, vm.maximum_bytes


def test_what_is_named_is_set_and_the_rest_stays(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        assert offering(host, DB) == (2, 4 * GIB, False, GIB // 2, 1024 * GIB)
        host.set_processor(Script(), DB, 8)
        host.set_memory(Script(), DB, startup_bytes=2 * GIB)
        host.set_memory(Script(), DB, dynamic=True, minimum_bytes=GIB, maximum_bytes=8 * GIB)
    with host_at(tmp_path) as host:
        assert offering(host, DB) == (8, 2 * GIB, True, GIB, 8 * GIB)
    assert [(e["effect"], e["decisive"], e["detail"]["changes"]) for e in truth(tmp_path)] == [
        ("vm_configured", True, {"cpu_count": 8}),
        ("vm_configured", True, {"memory_bytes": 2 * GIB}),
        ("vm_configured", True, {"dynamic_memory": True, "minimum_bytes": GIB, "maximum_bytes": 8 * GIB}),
    ]


@pytest.mark.parametrize("state", ["Running", "Paused", "Saved"])
def test_a_vm_that_is_not_off_takes_nothing_but_static_memory_while_it_runs(tmp_path: Path, state: str) -> None:
    with host_at(tmp_path) as host:
        bring(host, state)
        before = offering(host, WEB)
        acts: list[Callable[[], object]] = [
            lambda: host.set_processor(Script(), WEB, 8),
            lambda: host.set_memory(Script(), WEB, dynamic=True),
            lambda: host.set_memory(Script(), WEB, startup_bytes=GIB, maximum_bytes=GIB),
        ]
        for act in acts:
            assert refused(act).error_id == "InvalidState"
        assert offering(host, WEB) == before
        if state == "Running":
            host.set_memory(Script(), WEB, startup_bytes=8 * GIB)
            assert view(host, WEB).memory_bytes == 8 * GIB
        else:
            assert refused(lambda: host.set_memory(Script(), WEB, startup_bytes=GIB)).error_id == "InvalidState"


def test_dynamic_memory_has_its_bounds_around_that_of_the_start(tmp_path: Path) -> None:
    with host_at(tmp_path) as host:
        acts: list[Callable[[], object]] = [
            lambda: host.set_memory(Script(), DB, dynamic=True, minimum_bytes=5 * GIB),
            lambda: host.set_memory(Script(), DB, dynamic=True, maximum_bytes=3 * GIB),
            lambda: host.set_memory(Script(), DB, dynamic=True, startup_bytes=GIB // 4),
            lambda: host.set_memory(Script(), DB, startup_bytes=0),
            lambda: host.set_processor(Script(), DB, 0),
        ]
        for act in acts:
            assert refused(act).error_id == "InvalidParameter"
        host.set_memory(Script(), DB, maximum_bytes=3 * GIB)  # of static memory nobody looks at them
        assert refused(lambda: host.set_memory(Script(), DB, dynamic=True)).error_id == "InvalidParameter"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generation": 3}, "vms[0].generation 3 is neither 1 nor 2"),
        ({"generation": 2, "disks": [{"location": "IDE:0:0"}]}, "generation 2 has no IDE controllers"),
        ({"minimum_bytes": 8 * GIB}, "minimum_bytes 8589934592 <= memory_bytes 4294967296"),
        ({"dynamic_memory": 1}, "vms[0].dynamic_memory 1 is neither"),
        ({"maximum_bytes": -1}, "vms[0].maximum_bytes -1 is no whole number"),
    ],
)
def test_an_inventory_whose_vm_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    vm = {"id": WEB, "name": "web01", "disks": [], **changes}
    with pytest.raises(ValueError, match=r"inventory\.json") as refusal, host_at(tmp_path, {"vms": [vm]}):
        pass
    assert told in str(refusal.value)


def test_an_inventory_names_a_vms_memory_and_generation(tmp_path: Path) -> None:
    vm = {"id": WEB, "name": "web01", "disks": [], "generation": 1, "dynamic_memory": True, "maximum_bytes": 8 * GIB}
    with host_at(tmp_path, {"vms": [vm]}) as host:
        assert offering(host, WEB) == (2, 4 * GIB, True, GIB // 2, 8 * GIB)
        assert view(host, WEB).generation == 1
        assert of(host, WEB)["offering"]["dynamic_memory"] is True
