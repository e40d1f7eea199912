"""What the cmdlets around power do: start, resume, stop, save, suspend, by the arrows of docs/hyperv.md."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.model.checkpointing import Checkpointing
from snapshotd.simulator.model.host import ADMINISTRATOR, Cause, HostState, invalid_state
from snapshotd.simulator.model.jobs import Job
from snapshotd.simulator.model.machine import Machine
from snapshotd.simulator.model.opened_files import check_unlocked


@dataclass(frozen=True, slots=True)
class _Arrow:
    """A row of the power's state machine (docs/hyperv.md, section 1, source read)."""

    cmdlet: str
    sources: tuple[str, ...]
    goal: str
    duration: str
    transition: str
    """What the VM's state reads meanwhile."""


_START: Final = _Arrow("Start-VM", ("Off", "Saved", "Paused"), "Running", "start", "Starting")
_RESUME: Final = _Arrow("Resume-VM", ("Paused",), "Running", "start", "Resuming")
_TURN_OFF: Final = _Arrow("Stop-VM", ("Running", "Paused", "Saved"), "Off", "turn_off", "Stopping")
_SHUT_DOWN: Final = _Arrow("Stop-VM", ("Running",), "Off", "shutdown", "Stopping")
_SAVE: Final = _Arrow("Save-VM", ("Running", "Paused"), "Saved", "save", "Saving")
_SUSPEND: Final = _Arrow("Suspend-VM", ("Running",), "Paused", "pause", "Pausing")


class Power:
    """The cmdlets that change a VM's power.

    Args:
        host: what they change.
        checkpointing: for the checkpoints that come and go with a start and a stop.
    """

    def __init__(self, host: HostState, checkpointing: Checkpointing) -> None:
        self._host = host
        self._checkpointing = checkpointing

    def start_vm(self, caller: Caller, vm_id: str) -> bool:
        """Start-VM."""
        return self._change(caller, vm_id, _START)

    def resume_vm(self, caller: Caller, vm_id: str) -> bool:
        """Resume-VM."""
        return self._change(caller, vm_id, _RESUME)

    def stop_vm(self, caller: Caller, vm_id: str, *, turn_off: bool, force: bool = False) -> bool:
        """Stop-VM: a shutdown by the guest, or -TurnOff."""
        if turn_off:
            return self._change(caller, vm_id, _TURN_OFF)
        with self._host.changed:
            machine = self._host.machine(vm_id, "Stop-VM", caller)
            if machine.state == "Running" and not machine.shutdown_service and not force:
                self._host.pass_by(caller, "Stop-VM", "before")
                # Observed: it asks, and under -NonInteractive that is an error; its id is not known.
                text = f"'{machine.name}' cannot be shut down: the guest's shutdown service is not healthy."
                raise HyperVError("OperationFailed", "Stop-VM", text)
            return self._change(caller, vm_id, _SHUT_DOWN, force=force)

    def begin_shutdown(self, machine: Machine) -> None:
        """Begin a shutdown, as an administrator who does not wait for its end. Raises HyperVError."""
        if machine.state not in _SHUT_DOWN.sources:
            raise invalid_state(_SHUT_DOWN.cmdlet)
        self._host.begin(_SHUT_DOWN.cmdlet, machine, self._job(machine, ADMINISTRATOR, _SHUT_DOWN))

    def save_vm(self, caller: Caller, vm_id: str) -> bool:
        """Save-VM."""
        return self._change(caller, vm_id, _SAVE)

    def suspend_vm(self, caller: Caller, vm_id: str) -> bool:
        """Suspend-VM."""
        return self._change(caller, vm_id, _SUSPEND)

    def restart_vm(self, caller: Caller, vm_id: str) -> bool:
        """Restart-VM: a reset, as a button has (documented). That a paused VM can be reset is not verified."""
        cmdlet = "Restart-VM"
        with self._host.changed:
            machine = self._host.machine(vm_id, cmdlet, caller)
            self._host.pass_by(caller, cmdlet, "before")
            if machine.state not in ("Running", "Paused"):
                raise invalid_state(cmdlet)
            cause = self._host.cause(caller, machine)
            reset = self._resetting(machine, cause)
            self._host.work(caller, cmdlet, machine, "start", reset, transition="Reset")
            self._host.pass_by(caller, cmdlet, "after")
            return True

    def _resetting(self, machine: Machine, cause: Cause) -> Callable[[], str]:
        def reset() -> str:
            was, machine.running_since = machine.state, ""
            machine.goes_to("Running")
            machine.memory = f"booted {uuid.uuid4()}"
            self._host.record(machine, cause, "power_changed", was=was, reset=True)
            return machine.state

        return reset

    def _change(self, caller: Caller, vm_id: str, arrow: _Arrow, *, force: bool = False) -> bool:
        """Take a VM along an arrow; False if it is there already."""
        with self._host.changed:
            machine = self._host.machine(vm_id, arrow.cmdlet, caller)
            self._host.pass_by(caller, arrow.cmdlet, "before")
            under_way = self._host.jobs.of(machine.vm_id)
            if under_way is None and machine.state == arrow.goal:
                return False
            if machine.state not in arrow.sources:
                raise invalid_state(arrow.cmdlet)
            job = self._job(machine, self._host.cause(caller, machine), arrow, force=force)
            if arrow is _TURN_OFF and under_way is not None and under_way.yields:
                under_way.become(job)
                job = under_way
                self._host.changed.notify_all()
            else:
                self._host.begin(arrow.cmdlet, machine, job)
            self._host.pass_by(caller, arrow.cmdlet, "started")
            self._host.jobs.wait(job, caller)
            self._host.pass_by(caller, arrow.cmdlet, "after")
            return True

    def _job(self, machine: Machine, cause: Cause, arrow: _Arrow, *, force: bool = False) -> Job:
        """Return the job that takes a VM along an arrow; a shutdown may never end, unless it is forced."""
        asks = arrow is _SHUT_DOWN and not force
        return Job(
            status="",
            transition=arrow.transition,
            lasts_s=lambda: self._host.duration_s(arrow.duration) if machine.shuts_down or not asks else math.inf,
            finish=self.bringing(machine, cause, arrow.goal, "power_changed"),
            yields=arrow is _SHUT_DOWN,
        )

    def bringing(self, machine: Machine, cause: Cause, goal: str, effect: str) -> Callable[[], str]:
        """Return the change that brings a VM to a state."""

        def change() -> str:
            if goal == "Saved" and machine.critical:
                # Inferred: there is no room for the memory, or no way to it. The text is not known.
                raise HyperVError("OperationFailed", "Save-VM", f"'{machine.name}' failed to save its state.")
            if goal == "Running" and machine.state in ("Off", "Saved"):
                self._host.check_files(machine, machine.disks, "Start-VM")
                check_unlocked(self._host, machine, machine.disks.values(), "Start-VM")
            if goal == "Running" and machine.state == "Off":
                # From Saved and Paused nothing boots: the memory is that of a guest that had.
                if not machine.boots:
                    text = f"'{machine.name}' failed to start."
                    raise HyperVError("OperationFailed", "Start-VM", text)
                self._checkpointing.renew_automatic(machine)
                machine.memory = f"booted {uuid.uuid4()}"
            if goal == "Off":
                machine.memory = ""
            was = machine.state
            machine.goes_to(goal)
            self._host.record(machine, cause, effect, was=was)
            if goal == "Off":
                self._checkpointing.drop_automatic(machine)
            return goal

        return change
