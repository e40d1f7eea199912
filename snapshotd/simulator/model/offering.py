"""Set-VMProcessor and Set-VMMemory: what a VM's state allows, and what fits together (docs/hyperv.md)."""

from __future__ import annotations

from collections.abc import Mapping

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.model.host import HostState, invalid_state
from snapshotd.simulator.model.machine import OFFERING, Machine


class Offering:
    """The cmdlets that change a VM's processors and memory.

    Args:
        host: what they change.
    """

    def __init__(self, host: HostState) -> None:
        self._host = host

    def set_processor(self, caller: Caller, vm_id: str, count: int) -> None:
        """Set-VMProcessor -Count: only while the VM is off (documented)."""
        self._set(caller, "Set-VMProcessor", vm_id, {"cpu_count": count})

    def set_memory(
        self,
        caller: Caller,
        vm_id: str,
        *,
        startup_bytes: int | None = None,
        dynamic: bool | None = None,
        minimum_bytes: int | None = None,
        maximum_bytes: int | None = None,
    ) -> None:
        """Set-VMMemory; None: as it is. Only while the VM is off, but for a static VM's startup memory (documented)."""
        named = {
            "memory_bytes": startup_bytes,
            "dynamic_memory": dynamic,
            "minimum_bytes": minimum_bytes,
            "maximum_bytes": maximum_bytes,
        }
        self._set(caller, "Set-VMMemory", vm_id, {name: value for name, value in named.items() if value is not None})

    def _set(self, caller: Caller, cmdlet: str, vm_id: str, changes: Mapping[str, int | bool]) -> None:
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            check_offering(machine, changes, cmdlet)
            hot = changes.keys() == {"memory_bytes"} and not machine.dynamic_memory and cmdlet == "Set-VMMemory"
            if machine.state not in (("Off", "Running") if hot else ("Off",)):
                raise invalid_state(cmdlet)
            cause = self._host.cause(caller, machine)

            def put() -> str:
                for name, value in changes.items():
                    setattr(machine, name, value)
                self._host.record(machine, cause, "vm_configured", changes=dict(changes))
                return machine.name

            self._host.work(caller, cmdlet, machine, "", put)
            self._host.pass_by(caller, cmdlet, "after")


def check_offering(machine: Machine, changes: Mapping[str, object], cmdlet: str) -> None:
    """Check that processors and memory make sense together: Minimum <= Startup <= Maximum (documented).

    Raises HyperVError. What is no field of an offering is not looked at.
    """
    for name in OFFERING:
        value = changes.get(name, 1)
        if name != "dynamic_memory" and (not isinstance(value, int) or value <= 0):
            raise HyperVError("InvalidParameter", cmdlet, f"{value!r} is no {name}.")
    then = {name: changes.get(name, getattr(machine, name)) for name in OFFERING}
    least, startup, most = (int(str(then[name])) for name in ("minimum_bytes", "memory_bytes", "maximum_bytes"))
    if then["dynamic_memory"] and not least <= startup <= most:
        # The text of the real one is not known.
        text = f"The memory of '{machine.name}' does not fit together: {least} <= {startup} <= {most} does not hold."
        raise HyperVError("InvalidParameter", cmdlet, text)
