"""What a random walk of an engine does about copies of disks, exports, and VMs that leave their host and come back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from snapshotd.simulator.hypervisor import DriveView, VmView
from tests.host_script.two_engines import Run
from tests.unit.simulator_model.hosts import of, until

LONG_MS: Final = 3_600_000
BEGIN: Final = ("disk_export", "disk_convert", "vm_export", "export_end")
"""The actions that wait for no job: there is no moment at which they could be cut off."""
T = TypeVar("T")


class Transfers:
    """A part of a walk: each act begins a job, and ends it or goes on with what it has made."""

    run: Run
    _job: str
    """What the last action has told of its job; "unknown": nothing."""

    def _one(self, options: Sequence[T]) -> T:
        raise NotImplementedError

    def _effect(self, action: str, **fields: object) -> str:
        raise NotImplementedError

    def _started_meanwhile(self) -> str:
        raise NotImplementedError

    def view(self) -> VmView:
        """Return the VM."""
        raise NotImplementedError

    def _checkpoint(self) -> str:
        raise NotImplementedError

    def _drive(self) -> DriveView:
        raise NotImplementedError

    def copy(self, number: int) -> str:
        """Copy a disk, of a checkpoint or as it is, and put the copy in its place, or end it half way."""
        root = self._folder("copies")
        folder, drive = str(root / f"c{number}.partial-1"), self._drive()
        self._slowly()
        frozen = self._one([True, False])
        if self.view().checkpoints and frozen:
            fields: dict[str, object] = {"checkpoint_id": self._checkpoint(), "location": drive.location}
            told = [self._effect("disk_export", directory=folder, **fields)]
        else:
            fields = {"path": drive.path, "location": drive.location}
            told = [self._effect("disk_convert", directory=folder, **fields)]
        if self._one([True, False]):
            self._at_its_end()
            told.append(self._effect("disk_place", directory=folder, target=str(root / f"c{number}.vhdx")))
        told.append(self._end(folder))
        return "; ".join(told)

    def leave(self, number: int) -> str:
        """Export the VM as snapshotd does; then remove the VM and import it again, or remove the export."""
        target = self._folder("exports") / self.run.vm / f"x{number}"
        partial = f"{target}.partial"
        self._slowly()
        told = [self._effect("vm_export", directory=partial), self._started_meanwhile()]
        if self._one([True, True, False]):
            self._at_its_end()
            told.append(self._effect("export_complete", directory=partial, target=str(target)))
        told.append(self._end(partial))
        if not target.exists():
            return "; ".join(told)
        released = {"directory": str(target)}
        told.append(self._effect("vm_release", **released) if self._one([True, False]) else self._effect("vm_remove"))
        for _ in range(5):
            if self.run.host.vm(self.run.vm) is None:
                (configuration,) = (target / "Virtual Machines").glob("*.vmcx")
                told.append(self._effect("vm_import", configuration_path=str(configuration)))
        self.view()
        return "; ".join([*told, self._effect("export_end", directory=str(target))])

    def _folder(self, name: str) -> Path:
        folder = self.run.host.storage_directory / name
        folder.mkdir(exist_ok=True)
        return folder

    def _slowly(self) -> None:
        """Have the host take long for a job."""
        self._job = "unknown"
        self.run.host.durations(export=LONG_MS, convert=LONG_MS)

    def _at_its_end(self) -> None:
        """Have the host come to the end of its jobs."""
        self.run.host.durations(export=0, convert=0)
        until(lambda: not of(self.run.host, self.run.vm)["job"])

    def _end(self, folder: str) -> str:
        """End a job, whose id is known or not, and remove its folder; in the end without any trouble."""
        told = self._effect("export_end", job_id=self._one([self._job, "unknown"]), directory=folder)
        self._at_its_end()
        return told
