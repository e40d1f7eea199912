"""Records are derived from one another by `replace`, whether they are Structs or dataclasses.

The ignored type errors below are those that `tools/mypy_replace.py` finds: mypy tells of an ignore that nothing needs.
"""

from __future__ import annotations

import pytest

from snapshotd.domain.host_report import DiskFile
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.offering import Offering
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.vm_record import VmRecord


def test_a_record_with_some_fields_changed_has_the_others_as_they_were_and_leaves_the_first_alone() -> None:
    vm = VirtualMachine(vm_id=VmId("a"), host_id=HostId("hv01"), version=7)
    changed = replace(vm, power=Power.RUNNING)
    assert changed == VirtualMachine(vm_id=VmId("a"), host_id=HostId("hv01"), version=7, power=Power.RUNNING)
    assert vm.power is Power.UNKNOWN


def test_dataclasses_are_derived_by_the_same_function() -> None:
    offering = Offering(cpu_count=1, memory_bytes=2)
    assert replace(offering, cpu_count=4) == Offering(cpu_count=4, memory_bytes=2)


def test_a_field_that_a_class_does_not_have_is_refused_and_a_value_of_another_type_fails_in_mypy() -> None:
    record, offering = VmRecord(vm_id=VmId("a")), Offering(cpu_count=1, memory_bytes=2)
    with pytest.raises(TypeError):
        replace(record, snapshots={})  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        replace(offering, cpus=4)  # type: ignore[call-arg]
    replace(record, version="7")  # type: ignore[arg-type]
    replace(offering, cpu_count="4")  # type: ignore[arg-type]


def test_files_that_differ_in_what_a_guest_changes_all_the_time_are_equal() -> None:
    file = DiskFile(path="C:\\a.vhdx", file_bytes=1, minimum_bytes=1, size_bytes=9)
    grown = replace(file, file_bytes=2, minimum_bytes=2)
    assert (grown, hash(grown)) == (file, hash(file))
    assert replace(file, size_bytes=10) != file
    assert replace(file, path="C:\\b.vhdx") != file
