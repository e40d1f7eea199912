"""What a fake host does of copies of disks: jobs that fill folders, files that bear an identity."""

from __future__ import annotations

from dataclasses import dataclass, field

from snapshotd.domain.host_report import HostJob, JobState
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace


class NotOurs(Exception):
    """A file has another identity than was named."""


@dataclass
class FakeCopies:
    """The folders and files of a host besides those of its VMs, and the jobs that fill them."""

    jobs: dict[str, HostJob] = field(default_factory=dict)
    of_vm: set[str] = field(default_factory=set)
    """The jobs that work on the VM itself: exports."""
    folders: dict[str, str] = field(default_factory=dict)
    """What is in each: the disk that was copied."""
    files: dict[str, str] = field(default_factory=dict)
    """The copies in their places, likewise."""
    made: int = 0

    def copied(self) -> FakeCopies:
        """Return another one that goes its own way from here."""
        return replace(
            self, jobs=dict(self.jobs), of_vm=set(self.of_vm), folders=dict(self.folders), files=dict(self.files)
        )

    def begin(self, directory: str, what: str, *, of_vm: bool) -> JsonObject:
        """Begin a job that fills a folder."""
        self.made += 1
        job_id = f"job-{self.made}"
        self.jobs[job_id] = HostJob(job_id=job_id, state=JobState.RUNNING, job_type=62 if of_vm else 0)
        self.of_vm |= {job_id} if of_vm else set()
        self.folders[directory] = what
        return {"job_id": job_id}

    def finish(self) -> None:
        """Let all jobs come to their ends."""
        running = {i: job for i, job in self.jobs.items() if job.state is JobState.RUNNING}
        self.jobs |= {i: replace(job, state=JobState.DONE, percent=100) for i, job in running.items()}

    def exporting(self) -> bool:
        """Return whether a job works on the VM itself."""
        return any(self.jobs[i].state is JobState.RUNNING for i in self.of_vm if i in self.jobs)

    def place(self, directory: str, target: str) -> JsonObject:
        """Move a copy to its place."""
        if directory in self.folders:
            self.files[target] = self.folders.pop(directory)
        return {"path": target, "size_bytes": 4096, "identifier": f"id of {self.files[target]}"}

    def end(self, job_id: str, directory: str) -> None:
        """End a job, and remove its folder."""
        self.jobs.pop(job_id, None)
        self.folders.pop(directory, None)

    def delete(self, paths: object, identifier: str) -> None:
        """Delete files of an identity. Raises NotOurs."""
        assert isinstance(paths, list), paths
        for path in paths:
            if path in self.files and identifier and f"id of {self.files[path]}" != identifier:
                raise NotOurs(path)
            self.files.pop(path, None)

    def forget(self) -> None:
        """Forget all jobs, as a restart does: what they were at is left as it is."""
        self.jobs.clear()
