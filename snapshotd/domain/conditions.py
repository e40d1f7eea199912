"""What is wrong with a VM, or needs somebody's attention, though no operation is at fault."""

from __future__ import annotations

from snapshotd.domain.errors import LogRolledBack
from snapshotd.domain.operation import Failure
from snapshotd.domain.virtual_machine import VmRecord


def conditions(vm: VmRecord) -> tuple[Failure, ...]:
    """Return the conditions of a VM, each with a reason and words for people."""
    return (Failure.of(LogRolledBack(vm.name, vm.rolled_back)),) if vm.rolled_back else ()
