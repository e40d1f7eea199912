"""The actions of the host script about copies of disks, by cmdlets on the simulated host. Part of effects.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from snapshotd.api.v1.executor_pb2 import HostCommand
from snapshotd.simulator.export_effects import check_root, failed, make_folder, remove_folder
from snapshotd.simulator.hypervisor import HyperVError, VhdView
from snapshotd.simulator.journal import Output
from snapshotd.simulator.scene import Scene
from snapshotd.simulator.words import JOBS_UNDER_WAY

_DISKS: Final = (".vhdx", ".vhd")
"""What the files of disks that stand alone end in."""
_COPY: Final = "disk.vhdx"
"""The name of a converted disk in its folder."""
_ONE: Final = 2
"""CopySnapshotConfiguration: one checkpoint, whose disks become new files without parent."""


def _export(scene: Scene, command: HostCommand) -> Output:
    asked = command.disk_export
    checkpoint = next((c for c in scene.vm.checkpoints if c.checkpoint_id.lower() == asked.checkpoint_id.lower()), None)
    if checkpoint is None:
        text = f"{scene.vm.name} has no checkpoint {asked.checkpoint_id}."
        raise HyperVError("CheckpointNotFound,snapshotd", "", text)
    places = [drive.location for drive in checkpoint.drives]
    if asked.location not in places:
        raise _moved(f"checkpoint {checkpoint.name} has no disk at {asked.location}")
    return _begun(
        scene,
        asked.directory,
        lambda: scene.host.export_vm(
            scene.script,
            scene.vm.vm_id,
            asked.directory,
            snapshots=_ONE,
            snapshot_id=checkpoint.checkpoint_id,
            subdirectory=False,
            excluded=[place for place in places if place != asked.location],
            differential=False,
        ),
    )


def _convert(scene: Scene, command: HostCommand) -> Output:
    asked = command.disk_convert
    there = next((drive.path for drive in scene.vm.drives if drive.location == asked.location), "")
    if there.lower() != asked.path.lower():
        raise _moved(f"{there or 'nothing'} is at {asked.location}, not {asked.path}")
    target = str(Path(asked.directory) / _COPY)
    return _begun(scene, asked.directory, lambda: scene.host.convert_disk(scene.script, asked.path, target))


def _begun(scene: Scene, directory: str, begin: Callable[[], str]) -> Output:
    """Begin a job that fills a folder of its own. What an earlier attempt of this step has left there goes first."""
    remove_folder(scene, directory)
    make_folder(scene, directory)
    try:
        job_id = begin()
    except HyperVError:
        # A host that has refused it works for nobody. Else the job, which nobody knows, is left to be ended.
        if not any(job.state in JOBS_UNDER_WAY for job in scene.host.jobs(scene.vm.vm_id)):
            remove_folder(scene, directory)
        raise
    return {"job_id": job_id}


def _place(scene: Scene, command: HostCommand) -> Output:
    folder, target = Path(command.disk_place.directory), Path(command.disk_place.target)
    check_root(str(folder))
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _DISKS)
    if len(found) > 1:
        raise HyperVError("CopyNotFound,snapshotd", "", f"{folder} has {len(found)} disks.")
    if found:
        path = target.with_suffix(found[0].suffix)
        if _disk(scene, found[0]).parent_path:
            text = f"{found[0]} does not stand alone: it is based on {_disk(scene, found[0]).parent_path}."
            raise HyperVError("CopyNotAlone,snapshotd", "", text)
        if scene.host.exists(str(path)):
            raise HyperVError("CopyExists,snapshotd", "", f"{path} is there already.")
        try:
            found[0].rename(path)
        except OSError as error:
            raise failed(str(path), error) from error
    else:
        # An earlier script has moved it.
        there = [path for path in (target.with_suffix(ending) for ending in _DISKS) if scene.host.exists(str(path))]
        if len(there) != 1:
            raise HyperVError("CopyNotFound,snapshotd", "", f"{folder} has no disk.")
        path = there[0]
    remove_folder(scene, str(folder))
    disk = _disk(scene, path)
    return {"path": str(path), "size_bytes": disk.file_bytes, "identifier": disk.identifier.lower()}


def _disk(scene: Scene, path: Path) -> VhdView:
    found = scene.host.vhd(str(path))
    if found is None:
        raise HyperVError("CopyNotFound,snapshotd", "", f"{path} is not there.")
    return found


def _moved(what: str) -> HyperVError:
    return HyperVError("DiskMoved,snapshotd", "", f"{what[0].upper()}{what[1:]}.")


COPY_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "disk_export": ("checkpoint_id", "location", "directory"),
    "disk_convert": ("path", "location", "directory"),
    "disk_place": ("directory", "target"),
}
"""The fields that an action cannot do without; by its name."""
COPY_ACTIONS: Final[dict[str, Callable[[Scene, HostCommand], Output | None]]] = {
    "disk_export": _export,
    "disk_convert": _convert,
    "disk_place": _place,
}
"""Carries an action out; by its name."""
