"""The actions of the host script about exports, by cmdlets on the simulated hypervisor. A part of effects.py.

What a script does to files itself goes through the host's own functions, so that the model notices it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from snapshotd.api.v1.executor_pb2 import HostCommand
from snapshotd.simulator.hypervisor import HyperVError, JobView
from snapshotd.simulator.journal import Output
from snapshotd.simulator.scene import Scene, until
from snapshotd.simulator.words import JOBS_UNDER_WAY

_MARKER: Final = "snapshotd.export"
"""The file by which a folder of ours is known. It is written before anything else, and removed last."""
_EXPORT: Final = 62
"""JobType."""
_UNKNOWN: Final = "unknown"
"""Names whichever job is at work."""


def _end(scene: Scene, command: HostCommand) -> None:
    asked = command.export_end
    for job_id in (jobs := _jobs_to_end(scene, asked.job_id, asked.directory)):
        job = scene.host.job(job_id)
        if job is not None and job.state in JOBS_UNDER_WAY:
            scene.host.terminate_job(scene.script, job_id)

    def ended() -> bool:
        found = (scene.host.job(job_id) for job_id in jobs)
        return not any(job is not None and job.state in _AT_WORK for job in found)

    until(scene, ended, f"job {', '.join(jobs)} is still at work")
    remove_folder(scene, asked.directory)


def _jobs_to_end(scene: Scene, job_id: str, directory: str) -> list[str]:
    if job_id != _UNKNOWN:
        return [job_id] if job_id else []
    if scene.found is None or not scene.host.exists(directory):
        return []
    return [job.job_id for job in scene.host.jobs(scene.found.vm_id) if _exports(job)]


def make_folder(scene: Scene, directory: str, noted: str = "") -> None:
    """Make a folder of ours. One that is there already is refused: what is in it is of another attempt.

    Args:
        scene: where.
        directory: the folder, two below that of all exports, which must be there.
        noted: what to write into the file by which it is known.
    """
    _check_root(directory)
    if scene.host.exists(directory):
        raise HyperVError("ExportFolderExists,snapshotd", "", f"{directory} is there already.")
    try:
        Path(directory).mkdir(parents=True)
        (Path(directory) / _MARKER).write_text(noted, encoding="utf-8")
    except OSError as error:
        raise failed(directory, error) from error


def _check_root(directory: str) -> None:
    """Check that the folder of all exports is there: it is never made, since it may be a share that is away."""
    root = Path(directory).parent.parent
    if not root.is_dir():
        text = f"{root} is not there, or cannot be reached from this host."
        raise HyperVError("ExportFolderFailed,snapshotd", "", text)


def remove_folder(scene: Scene, directory: str) -> None:
    """Remove a folder of ours with all that is in it, unless a VM uses a file of it."""
    _check_root(directory)
    if not scene.host.exists(directory):
        return
    within = f"{Path(directory)}/".lower()
    for name, path in _used(scene):
        if path.lower().startswith(within):
            raise HyperVError("ExportInUse,snapshotd", "", f"{directory} stays: VM {name} uses {path}.")
    try:
        for entry in Path(directory).iterdir():
            if entry.name != _MARKER:
                (scene.host.delete_folder if entry.is_dir() else scene.host.delete_file)(str(entry))
        scene.host.delete_folder(directory)
    except OSError as error:
        raise failed(directory, error) from error


def _used(scene: Scene) -> Iterator[tuple[str, str]]:
    """Yield the disks of all VMs of the host, those that their checkpoints have frozen too, with the VM's name."""
    for vm in scene.host.vms():
        for drives in (vm.drives, *(checkpoint.drives for checkpoint in vm.checkpoints)):
            yield from ((vm.name, drive.path) for drive in drives)


def _exports(job: JobView) -> bool:
    return job.job_type == _EXPORT and job.state in _AT_WORK


def failed(directory: str, error: OSError) -> HyperVError:
    """Build the error for a folder that cannot be written to."""
    return HyperVError("ExportFolderFailed,snapshotd", "", f"{directory}: {error.strerror}")


_AT_WORK: Final = JOBS_UNDER_WAY | {6}
"""JobState: also one that is shutting down."""

EXPORT_NEEDED: Final[dict[str, tuple[str, ...]]] = {"export_end": ("directory",)}
"""The fields that an action cannot do without; by its name."""
EXPORT_ACTIONS: Final[dict[str, Callable[[Scene, HostCommand], Output | None]]] = {"export_end": _end}
"""Carries an action out; by its name."""
