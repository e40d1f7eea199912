"""The actions of the host script (docs/host-protocol.md, 'Actions'), by cmdlets on the simulated hypervisor.

Never reads or writes a journal, and never decides whether an action may begin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from snapshotd.api.v1.executor_pb2 import PAUSED, RUNNING, SAVED, STOPPED, HostCommand, Power, VmConfigure, VmStop
from snapshotd.simulator import volume_effects
from snapshotd.simulator.copy_effects import COPY_ACTIONS, COPY_NEEDED
from snapshotd.simulator.export_effects import EXPORT_ACTIONS, EXPORT_NEEDED
from snapshotd.simulator.hypervisor import CheckpointView, HyperVError, VmView
from snapshotd.simulator.journal import Output
from snapshotd.simulator.scene import Scene, until
from snapshotd.simulator.words import power_of


def action_of(command: HostCommand) -> str:
    """Return the name of a command's action; empty if it has none that is known here."""
    return command.WhichOneof("action") or ""


def act(scene: Scene, command: HostCommand) -> Output:
    """Carry out an effect; return the output of its action.

    Raises HyperVError when the host refuses it, NotReached, ScriptKilled.
    """
    return _ACTIONS[action_of(command)](scene, command) or {}


def checkpoint_type_to_set(command: HostCommand, vm: VmView, own: str) -> str:
    """Return the CheckpointType that a command sets before it acts; empty: none.

    Args:
        command: the effect.
        vm: the VM as it is.
        own: the VM's own CheckpointType.
    """
    if action_of(command) != "checkpoint_create" or own == "Disabled":
        return ""
    if command.checkpoint_create.with_memory:
        needed = "Standard"
    elif command.before.power != RUNNING:
        return ""  # where nothing runs, a checkpoint needs no certain type
    else:
        needed = "Production" if command.checkpoint_create.allow_fallback else "ProductionOnly"
    return "" if needed == vm.checkpoint_type else needed


def is_complete(command: HostCommand) -> bool:
    """Return whether an effect names all that its action needs."""
    action = action_of(command)
    if action == "vm_configure":
        # One cmdlet, so that what is refused has changed nothing.
        return (command.vm_configure.cpu_count > 0) != bool(memory_change(command.vm_configure))
    return action != "" and all(getattr(getattr(command, action), field) for field in NEEDED[action])


def _start(scene: Scene, _command: HostCommand) -> None:
    start = scene.host.resume_vm if power_of(scene.vm.state) == PAUSED else scene.host.start_vm
    start(scene.script, scene.vm.vm_id)
    _until_power(scene, RUNNING)


def _stop(scene: Scene, command: HostCommand) -> None:
    host, script, vm_id = scene.host, scene.script, scene.vm.vm_id
    match command.vm_stop.mode:
        case VmStop.SAVE:
            host.save_vm(script, vm_id)
        case VmStop.PAUSE:
            host.suspend_vm(script, vm_id)
        case mode:
            # Never with -Force: a guest that cannot shut down is an error, not a power cut.
            host.stop_vm(script, vm_id, turn_off=mode == VmStop.TURN_OFF)
    _until_power(scene, _STOPS[command.vm_stop.mode])


def _create(scene: Scene, command: HostCommand) -> Output:
    if scene.own_checkpoint_type == "Disabled":
        raise HyperVError("CheckpointsDisabled,snapshotd", "Checkpoint-VM", f"{scene.vm.name}: checkpoints disabled.")
    if scene.type_to_set:
        scene.host.set_checkpoint_type(scene.script, scene.vm.vm_id, scene.type_to_set)
    name = command.checkpoint_create.checkpoint_name
    known = {checkpoint.checkpoint_id.lower() for checkpoint in scene.vm.checkpoints}
    scene.host.checkpoint_vm(scene.script, scene.vm.vm_id, name)
    # The cmdlet has been seen to return before the checkpoint is listed, and under its default name (observed).
    made: list[CheckpointView] = []

    def listed_and_named() -> bool:
        made[:] = [c for c in _listed(scene) if c.checkpoint_id.lower() not in known and c.name == name]
        return bool(made)

    until(scene, listed_and_named, f"no new checkpoint named {name}")
    return {"checkpoint_id": made[0].checkpoint_id, "has_memory": made[0].has_memory}


def _restore(scene: Scene, command: HostCommand) -> None:
    checkpoint_id = _own(scene, command.checkpoint_restore.checkpoint_id, "Restore-VMSnapshot")
    scene.host.restore_snapshot(scene.script, checkpoint_id)

    def applied() -> bool:
        vm = scene.host.vm(scene.vm.vm_id)
        return vm is not None and vm.parent_snapshot_id == checkpoint_id and not _leaves(vm) & _leaves(scene.vm)

    until(scene, applied, f"checkpoint {checkpoint_id} is not applied")


def _remove(scene: Scene, command: HostCommand) -> None:
    checkpoint_id = _own(scene, command.checkpoint_remove.checkpoint_id, "Remove-VMSnapshot")
    scene.host.remove_snapshot(scene.script, checkpoint_id)
    until(
        scene,
        lambda: all(checkpoint.checkpoint_id != checkpoint_id for checkpoint in _listed(scene)),
        f"checkpoint {checkpoint_id} is still listed",
    )


def _rename(scene: Scene, command: HostCommand) -> None:
    checkpoint_id = _own(scene, command.checkpoint_rename.checkpoint_id, "Rename-VMSnapshot")
    name = command.checkpoint_rename.checkpoint_name
    scene.host.rename_snapshot(scene.script, checkpoint_id, name)
    until(
        scene,
        lambda: any(c.checkpoint_id == checkpoint_id and c.name == name for c in _listed(scene)),
        f"the checkpoint is not named {name}",
    )


def _configure(scene: Scene, command: HostCommand) -> None:
    told = command.vm_configure
    if memory := memory_change(told):
        scene.host.set_memory(
            scene.script,
            scene.vm.vm_id,
            startup_bytes=memory.get("memory_bytes"),
            dynamic=told.dynamic_memory if "dynamic_memory" in memory else None,
            minimum_bytes=memory.get("minimum_bytes"),
            maximum_bytes=memory.get("maximum_bytes"),
        )
    else:
        scene.host.set_processor(scene.script, scene.vm.vm_id, told.cpu_count)
    wanted = memory or {"cpu_count": told.cpu_count}

    def configured() -> bool:
        vm = scene.host.vm(scene.vm.vm_id)
        return vm is not None and all(getattr(vm, name) == value for name, value in wanted.items())

    until(scene, configured, "the VM does not have what was set")


def memory_change(told: VmConfigure) -> dict[str, int]:
    """Return what a command sets of a VM's memory, by the names of an offering; 0: as it is."""
    names = ("memory_bytes", "minimum_bytes", "maximum_bytes")
    changes = {name: value for name in names if (value := getattr(told, name))}
    return changes | ({"dynamic_memory": told.dynamic_memory} if told.HasField("dynamic_memory") else {})


def _own(scene: Scene, checkpoint_id: str, cmdlet: str) -> str:
    """Find a checkpoint among this VM's, so that an id of another VM's can never be acted on."""
    for checkpoint in scene.vm.checkpoints:
        if checkpoint.checkpoint_id.lower() == checkpoint_id.lower():
            return checkpoint.checkpoint_id
    raise HyperVError("CheckpointNotFound,snapshotd", cmdlet, f"{scene.vm.name} has no checkpoint {checkpoint_id}.")


def _leaves(vm: VmView) -> set[str]:
    return {drive.path.lower() for drive in vm.drives if not drive.pass_through}


def _listed(scene: Scene) -> tuple[CheckpointView, ...]:
    vm = scene.host.vm(scene.vm.vm_id)
    return vm.checkpoints if vm else ()


def _until_power(scene: Scene, power: Power.ValueType) -> None:
    def reached() -> bool:
        vm = scene.host.vm(scene.vm.vm_id)
        return vm is not None and power_of(vm.state) == power

    until(scene, reached, f"the VM is not {Power.Name(power)}")


_STOPS: Final[dict[VmStop.Mode.ValueType, Power.ValueType]] = {
    VmStop.SHUTDOWN: STOPPED,
    VmStop.TURN_OFF: STOPPED,
    VmStop.SAVE: SAVED,
    VmStop.PAUSE: PAUSED,
}
"""What each way to stop ends in."""

NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "vm_start": (),
    "vm_stop": ("mode",),
    "checkpoint_create": ("checkpoint_name",),
    "checkpoint_rename": ("checkpoint_id", "checkpoint_name"),
    "checkpoint_restore": ("checkpoint_id",),
    "checkpoint_remove": ("checkpoint_id",),
    **volume_effects.NEEDED,
    "vm_configure": (),
    **COPY_NEEDED,
    **EXPORT_NEEDED,
}
"""The fields that an action cannot do without; by its name."""

_ACTIONS: Final[dict[str, Callable[[Scene, HostCommand], Output | None]]] = {
    "vm_start": _start,
    "vm_stop": _stop,
    "checkpoint_create": _create,
    "checkpoint_rename": _rename,
    "checkpoint_restore": _restore,
    "checkpoint_remove": _remove,
    **volume_effects.ACTIONS,
    "vm_configure": _configure,
    **COPY_ACTIONS,
    **EXPORT_ACTIONS,
}
"""Carries an action out; returns its output, or None. By the action's name."""
