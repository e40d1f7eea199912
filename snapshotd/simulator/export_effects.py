"""The actions of the host script about exports, and VMs that come and go, by cmdlets on the simulated hypervisor.

A part of effects.py.
What a script does to files itself goes through the host's own functions, so that the model notices it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from snapshotd.api.v1.executor_pb2 import HostCommand
from snapshotd.simulator.hypervisor import HyperVError, JobView, VmView
from snapshotd.simulator.journal import Output
from snapshotd.simulator.scene import Scene, until
from snapshotd.simulator.words import JOBS_UNDER_WAY

_MARKER: Final = "snapshotd.export"
"""The file by which a folder of ours is known. It is written before anything else, and removed last."""
_OF_A_COPY: Final = re.compile(r".*\.partial-[0-9]+")
"""The name of the folder of a copy of a disk."""
_EXPORT: Final = 62
"""JobType."""
_MISSING_FROM: Final = 40000
"""Messages of Compare-VM from here on say that files are missing: 40010 (documented), others (inferred)."""
_EPOCH_TICKS: Final = 621_355_968_000_000_000
"""1970 in ticks: 100 ns since the year 1."""
_UNKNOWN: Final = "unknown"
"""Names whichever job is at work."""


def _begin(scene: Scene, command: HostCommand) -> Output:
    directory, vm_id = command.vm_export.directory, scene.vm.vm_id
    make_folder(scene, directory, _written(scene.vm))
    try:
        job_id = scene.host.export_vm(scene.script, vm_id, directory, snapshots=0, subdirectory=False)
    except HyperVError:
        # A host that has refused it works for nobody. Else the job, which nobody knows, is left to be ended.
        if not any(_exports(job) for job in scene.host.jobs(vm_id)):
            remove_folder(scene, directory)
        raise
    return {"job_id": job_id}


def _complete(scene: Scene, command: HostCommand) -> Output:
    directory, target = command.export_complete.directory, command.export_complete.target
    check_root(directory)
    if scene.host.exists(directory):
        found = scene.host.compare_vm(_configuration(directory), copy=True).incompatibilities
        missing = [(number, text) for number, text in found if number >= _MISSING_FROM]
        if missing:
            raise HyperVError("ExportIncomplete,snapshotd", "", _told(missing))
        try:
            scene.host.move_folder(directory, target)
        except OSError as error:
            raise failed(directory, error) from error
    # Else an earlier script has given it its final name.
    size = sum(file.stat().st_size for file in Path(target).rglob("*") if file.is_file())
    return {"configuration_path": _configuration(target), "size_bytes": size}


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


def _import(scene: Scene, command: HostCommand) -> None:
    path = command.vm_import.configuration_path
    if not Path(path).is_file():
        raise HyperVError("ExportMissing,snapshotd", "", f"{path} is not there, or cannot be reached from this host.")
    report = scene.host.compare_vm(path)
    if report.incompatibilities:
        raise HyperVError("ImportIncompatible,snapshotd", "", _told(report.incompatibilities))
    if report.vm_id.lower() != command.vm_id.lower():
        text = f"{path} is of VM {report.vm_id}, not of {command.vm_id}."
        raise HyperVError("ImportIncompatible,snapshotd", "", text)
    scene.host.import_vm(scene.script, path)
    until(scene, lambda: scene.host.vm(command.vm_id) is not None, f"VM {command.vm_id} is not there")


def _release(scene: Scene, command: HostCommand) -> None:
    vm, folder = scene.vm, Path(command.vm_release.directory)
    check_root(str(folder))
    try:
        noted = (folder / _MARKER).read_text(encoding="utf-8")
    except FileNotFoundError:
        text = f"{folder} is not there, or cannot be reached from this host."
        raise HyperVError("ExportMissing,snapshotd", "", text) from None
    _configuration(str(folder))
    if noted != _written(vm):
        raise HyperVError("ExportOutdated,snapshotd", "", f"A disk of {vm.name} was written to since it was exported.")
    _remove(scene, command)


def _remove(scene: Scene, _command: HostCommand) -> None:
    scene.host.remove_vm(scene.script, scene.vm.vm_id)
    until(scene, lambda: scene.host.vm(scene.vm.vm_id) is None, "the host still has the VM")


def _written(vm: VmView) -> str:
    """Return when each disk of a VM was last written to, a line each, in the units of .NET's ticks."""
    lines = []
    for drive in vm.drives:
        try:
            ticks = Path(drive.path).stat().st_mtime_ns // 100 + _EPOCH_TICKS
        except OSError:
            ticks = 0
        lines.append(f"{ticks} {drive.path}\n")
    return "".join(sorted(lines))


def make_folder(scene: Scene, directory: str, noted: str = "") -> None:
    """Make a folder of ours. One that is there already is refused: what is in it is of another attempt.

    Args:
        scene: where.
        directory: the folder, whose root must be there.
        noted: what to write into the file by which it is known.
    """
    check_root(directory)
    if scene.host.exists(directory):
        raise HyperVError("ExportFolderExists,snapshotd", "", f"{directory} is there already.")
    try:
        Path(directory).mkdir(parents=True)
        (Path(directory) / _MARKER).write_text(noted, encoding="utf-8")
    except OSError as error:
        raise failed(directory, error) from error


def root_of(directory: str) -> Path:
    """Return the root of a folder of ours: of a copy's, one above it; of any other, which is an export's, two above.

    The root of all folders has nothing above it, and is its own.
    """
    folder = Path(directory)
    return folder.parent if _OF_A_COPY.fullmatch(folder.name) else folder.parent.parent


def check_root(directory: str) -> None:
    """Check that the root of a folder of ours is there: it is never made, since it may be a share that is away."""
    root = root_of(directory)
    if not root.is_dir():
        text = f"{root} is not there, or cannot be reached from this host."
        raise HyperVError("ExportFolderFailed,snapshotd", "", text)


def remove_folder(scene: Scene, directory: str) -> None:
    """Remove a folder of ours with all that is in it, unless a VM uses a file of it."""
    check_root(directory)
    if not scene.host.exists(directory):
        return
    if not (Path(directory) / _MARKER).is_file() and any(Path(directory).iterdir()):
        text = f"{directory} stays: it has no file {_MARKER}, so it is not ours."
        raise HyperVError("ExportNotOurs,snapshotd", "", text)
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


def _configuration(directory: str) -> str:
    """Return the file that an export is imported by."""
    machines = Path(directory) / "Virtual Machines"
    found = sorted(machines.glob("*.vmcx"))
    if len(found) != 1:
        raise HyperVError("ExportIncomplete,snapshotd", "", f"{machines} has {len(found)} configurations.")
    return str(found[0])


def _exports(job: JobView) -> bool:
    return job.job_type == _EXPORT and job.state in _AT_WORK


def _told(incompatibilities: Iterator[tuple[int, str]] | tuple[tuple[int, str], ...] | list[tuple[int, str]]) -> str:
    return " ".join(f"{number}: {text}" for number, text in incompatibilities)


def failed(directory: str, error: OSError) -> HyperVError:
    """Build the error for a folder that cannot be written to."""
    return HyperVError("ExportFolderFailed,snapshotd", "", f"{directory}: {error.strerror}")


_AT_WORK: Final = JOBS_UNDER_WAY | {6}
"""JobState: also one that is shutting down."""

EXPORT_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "vm_export": ("directory",),
    "export_complete": ("directory", "target"),
    "export_end": ("directory",),
    "vm_import": ("configuration_path",),
    "vm_release": ("directory",),
    "vm_remove": (),
}
"""The fields that an action cannot do without; by its name."""
EXPORT_ACTIONS: Final[dict[str, Callable[[Scene, HostCommand], Output | None]]] = {
    "vm_export": _begin,
    "export_complete": _complete,
    "export_end": _end,
    "vm_import": _import,
    "vm_release": _release,
    "vm_remove": _remove,
}
"""Carries an action out; by its name."""
