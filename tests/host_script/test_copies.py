"""Copies of one disk by the host script: begun, waited for, placed, ended, and deleted again. On both engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, JobReport
from snapshotd.simulator.export_effects import root_of
from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.model.disks import AWAY
from tests.host_script.conversation import SCRIPT, Conversation
from tests.host_script.engines import BOTH, engine_on
from tests.host_script.host_commands import effect, known_journal, look, observe
from tests.host_script.other_scripts import running_on
from tests.unit.simulator_model.hosts import Script, host_at, truth, until

VM = str(uuid4())
"""Its own: the mutexes of PowerShell processes are the machine's."""
FIRST, SECOND = "SCSI:0:0", "IDE:0:1"
FOLDER = "copy.partial-1"


@dataclass
class Place:
    """A host, a script on it, and a folder for copies."""

    host: SimulatedHyperV
    script: Conversation
    copies: Path
    journal: str = ""
    token: int = 1
    step: int = 0

    def command(self, action: str, **values: str | list[str]) -> HostCommand:
        """Write an action as the next step."""
        if not self.journal:
            self.journal = known_journal(self.script, vm=VM)
        self.token += 1
        self.step += 1
        command = effect(action, self.host, self.journal, self.token, self.step, VM)
        for name, value in values.items():
            if isinstance(value, list):
                getattr(getattr(command, action), name).extend(value)
            else:
                setattr(getattr(command, action), name, value)
        return command

    def ask(self, action: str, **values: str | list[str]) -> HostAnswer:
        """Have an action done, as the next step."""
        return self.script.ask(self.command(action, **values))

    def export(self, checkpoint_id: str, location: str = FIRST, folder: str = FOLDER) -> HostAnswer:
        """Begin the export of one disk."""
        directory = str(self.copies / folder)
        return self.ask("disk_export", checkpoint_id=checkpoint_id, location=location, directory=directory)

    def convert(self, location: str = FIRST, folder: str = FOLDER) -> HostAnswer:
        """Begin the conversion of one disk."""
        vm = self.host.vm(VM)
        assert vm is not None
        path = next(drive.path for drive in vm.drives if drive.location == location)
        return self.ask("disk_convert", path=path, location=location, directory=str(self.copies / folder))

    def put(self, folder: str = FOLDER, name: str = "copy.vhdx") -> HostAnswer:
        """Move a copy to its place."""
        return self.ask("disk_place", directory=str(self.copies / folder), target=str(self.copies / name))

    def job(self, job_id: str) -> JobReport:
        """Return what a poll tells of a job."""
        command = look(HostCommand.POLL, VM)
        command.watched_jobs.append(job_id)
        (job,) = self.script.ask(command).vms[0].jobs
        return job

    def ends(self, job_id: str) -> JobReport:
        """Wait until a job has ended; return it."""
        until(lambda: self.job(job_id).state != JobReport.RUNNING)
        return self.job(job_id)

    def files(self) -> list[str]:
        """Return what is in the folder for copies."""
        return sorted(path.name for path in self.copies.iterdir())

    def blocks(self, name: str = "copy.vhdx") -> dict[str, str]:
        """Return what a guest would see of a copy, which stands on nothing."""
        document = json.loads((self.copies / name).read_text(encoding="utf-8"))
        assert document["parent"] == ""
        return dict(document["blocks"])


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    disks = [{"location": FIRST}, {"location": SECOND}]
    inventory = {"host": {"name": "hv01"}, "vms": [{"id": VM, "name": "db01", "state": "Running", "disks": disks}]}
    (tmp_path / "copies").mkdir()
    with host_at(tmp_path / "hv01", inventory) as host:
        for engine in engine_on(request.param, host, tmp_path / "engine"):
            script = Conversation(engine)
            yield Place(host, script, tmp_path / "copies")
            script.process.kill()


def frozen(place: Place) -> str:
    """Write to both disks before and after a checkpoint, on which others stand already; return its id."""
    host = place.host
    host.write_disk(VM, FIRST, "1", "one")
    host.checkpoint_vm(Script(), VM, "earlier")
    host.write_disk(VM, FIRST, "2", "two")
    host.write_disk(VM, SECOND, "1", "other disk")
    made = host.checkpoint_vm(Script(), VM, "temporary")
    host.write_disk(VM, FIRST, "2", "since")
    return made


@pytest.mark.parametrize(
    ("location", "blocks"), [(FIRST, {"1": "one", "2": "two"}), (SECOND, {"1": "other disk"})], ids=["SCSI", "IDE"]
)
def test_one_disk_of_a_running_vm_is_copied_as_a_checkpoint_has_frozen_it(
    place: Place, location: str, blocks: dict[str, str]
) -> None:
    made = frozen(place)
    place.host.durations(export=400)
    begun = place.export(made, location)
    assert begun.verdict == HostAnswer.DONE, begun
    assert "EXPORT" in begun.vms[0].activities
    assert (place.job(begun.disk_export.job_id).type, place.ends(begun.disk_export.job_id).state) == (
        62,
        JobReport.DONE,
    )
    placed = place.put()
    assert placed.verdict == HostAnswer.DONE, placed
    file = place.host.vhd(placed.disk_place.path)
    assert file is not None
    assert (file.path, file.file_bytes, file.identifier.lower()) == (
        str(place.copies / "copy.vhdx"),
        placed.disk_place.size_bytes,
        placed.disk_place.identifier,
    )
    assert (place.files(), place.blocks()) == (["copy.vhdx"], blocks)


def test_a_disk_of_a_vm_that_is_off_is_copied_with_all_that_it_stands_on(place: Place) -> None:
    frozen(place)
    place.host.stop_vm(Script(), VM, turn_off=True)
    place.host.durations(convert=400)
    begun = place.convert()
    assert begun.verdict == HostAnswer.DONE, begun
    assert list(begun.vms[0].activities) == []
    assert place.ends(begun.disk_convert.job_id).state == JobReport.DONE
    assert place.put().verdict == HostAnswer.DONE
    assert (place.files(), place.blocks()) == (["copy.vhdx"], {"1": "one", "2": "since"})


def test_an_observation_raises_the_fence_while_the_job_that_was_begun_is_at_work(place: Place) -> None:
    made = frozen(place)
    place.host.durations(export=600_000)
    place.export(made)
    seen = place.script.ask(observe(place.token + 1, "disk_export", step=place.step, vm=VM))
    assert (seen.verdict, seen.vms[0].journal.highest_token) == (HostAnswer.OBSERVED, place.token + 1)
    assert dict(seen.vms[0].journal.output.fields.items()).keys() == {"job_id"}


@pytest.mark.parametrize("known", [True, False])
def test_a_copy_under_way_is_ended_and_leaves_nothing(place: Place, tmp_path: Path, *, known: bool) -> None:
    made = frozen(place)
    place.host.durations(export=600_000)
    job_id = place.export(made).disk_export.job_id
    ended = place.ask("export_end", job_id=job_id if known else "unknown", directory=str(place.copies / FOLDER))
    assert ended.verdict == HostAnswer.DONE, ended
    assert (list(ended.vms[0].activities), place.files()) == ([], [])
    assert place.job(job_id).state == JobReport.FAILED
    assert truth(tmp_path / "hv01")[-1]["effect"] == "export_ended"
    again = place.ask("export_end", job_id=job_id, directory=str(place.copies / FOLDER))
    assert again.verdict == HostAnswer.DONE, again


def test_a_conversion_under_way_is_ended_likewise(place: Place) -> None:
    place.host.stop_vm(Script(), VM, turn_off=True)
    place.host.durations(convert=600_000)
    job_id = place.convert().disk_convert.job_id
    ended = place.ask("export_end", job_id=job_id, directory=str(place.copies / FOLDER))
    assert (ended.verdict, place.files(), place.job(job_id).state) == (HostAnswer.DONE, [], JobReport.FAILED)


def test_what_an_attempt_has_left_in_its_folder_goes_before_the_next(place: Place) -> None:
    made = frozen(place)
    (place.copies / FOLDER / "Virtual Machines").mkdir(parents=True)
    (place.copies / FOLDER / "snapshotd.export").touch()
    (place.copies / FOLDER / "half.vhdx").write_text("half", encoding="utf-8")
    begun = place.export(made)
    assert (begun.verdict, place.ends(begun.disk_export.job_id).state if begun.disk_export.job_id else 1) in (
        (HostAnswer.DONE, JobReport.DONE),
        (HostAnswer.DONE, 1),
    )
    assert place.put().verdict == HostAnswer.DONE
    assert (place.files(), place.blocks()) == (["copy.vhdx"], {"1": "one", "2": "two"})


def test_a_copy_that_an_earlier_script_has_moved_is_told_as_it_is(place: Place) -> None:
    made = frozen(place)
    place.export(made)
    (disk,) = (place.copies / FOLDER / "Virtual Hard Disks").iterdir()
    disk.rename(place.copies / "copy.vhdx")
    placed = place.put()
    assert placed.verdict == HostAnswer.DONE, placed
    assert placed.disk_place.identifier != ""
    assert place.files() == ["copy.vhdx"]
    again = place.put()
    assert (again.verdict, again.disk_place) == (HostAnswer.DONE, placed.disk_place)


def test_a_copy_is_placed_though_its_vm_is_gone(place: Place) -> None:
    place.host.write_disk(VM, FIRST, "1", "last words")
    place.host.stop_vm(Script(), VM, turn_off=True)
    place.convert()
    place.host.remove_vm(Script(), VM)
    assert (placed := place.put()).verdict == HostAnswer.DONE, placed
    assert (place.files(), place.blocks()) == (["copy.vhdx"], {"1": "last words"})


def test_a_file_that_is_there_already_is_never_overwritten(place: Place) -> None:
    made = frozen(place)
    place.export(made)
    (place.copies / "copy.vhdx").write_text("somebody's", encoding="utf-8")
    refused = place.put()
    assert (refused.verdict, refused.error.id) == (HostAnswer.NO_EFFECT, "CopyExists,snapshotd")
    assert (place.copies / "copy.vhdx").read_text(encoding="utf-8") == "somebody's"


def test_a_folder_with_no_disk_or_several_gives_no_copy(place: Place) -> None:
    made = frozen(place)
    assert (refused := place.put()).error.id == "CopyNotFound,snapshotd", refused
    place.export(made)
    place.host.new_vhd(Script(), str(place.copies / FOLDER / "another.vhd"), 9 << 20)
    assert (refused := place.put()).error.id == "CopyNotFound,snapshotd", refused
    assert place.files() == [FOLDER]


def test_what_does_not_stand_alone_is_no_copy(place: Place) -> None:
    made = frozen(place)
    place.export(made)
    (disk,) = (place.copies / FOLDER / "Virtual Hard Disks").iterdir()
    disk.unlink()
    vm = place.host.vm(VM)
    assert vm is not None
    place.host.new_vhd(Script(), str(disk), 0, parent=vm.checkpoints[0].drives[0].path)
    refused = place.put()
    assert (refused.verdict, refused.error.id) == (HostAnswer.NO_EFFECT, "CopyNotAlone,snapshotd")


def test_a_place_without_a_disk_is_refused(place: Place) -> None:
    made = frozen(place)
    assert (refused := place.export(made, "SCSI:0:9")).error.id == "DiskMoved,snapshotd", refused
    assert refused.verdict == HostAnswer.NO_EFFECT
    moved = place.ask("disk_convert", path="/another.vhdx", location=FIRST, directory=str(place.copies / FOLDER))
    assert (moved.verdict, moved.error.id) == (HostAnswer.NO_EFFECT, "DiskMoved,snapshotd")
    assert place.files() == []


def test_a_call_that_the_host_refuses_leaves_no_folder(place: Place) -> None:
    made = frozen(place)
    place.host.fail("ExportSystemDefinition", "InvalidParameter", "no")
    refused = place.export(made)
    assert (refused.verdict, place.files()) == (HostAnswer.NO_EFFECT, [])


def test_a_volume_that_is_full_fails_the_job_and_the_copy_can_be_ended(place: Place) -> None:
    made = frozen(place)
    place.host.free_space(str(place.copies), free_bytes=100)
    begun = place.export(made)
    job = place.ends(begun.disk_export.job_id)
    assert (job.state, "0x80070070" in job.error) == (JobReport.FAILED, True)
    place.ask("export_end", job_id=job.id, directory=str(place.copies / FOLDER))
    assert place.files() == []


def test_a_copy_is_deleted_only_while_it_is_the_disk_that_was_made(place: Place) -> None:
    place.export(frozen(place))
    placed = place.put().disk_place
    other = place.ask("files_delete", paths=[placed.path], only_identifier=str(uuid4()))
    assert (other.verdict, other.error.id, place.files()) == (
        HostAnswer.NO_EFFECT,
        "AnotherDisk,snapshotd",
        ["copy.vhdx"],
    )
    assert place.ask("files_delete", paths=[placed.path], only_identifier=placed.identifier).verdict == HostAnswer.DONE
    assert place.files() == []


def assert_refused(place: Place, answer: HostAnswer) -> None:
    """Raise unless an action was refused since the folder for copies is away, and has not made it."""
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "ExportFolderFailed,snapshotd"), answer
    assert answer.error.message == f"{place.copies} is not there, or cannot be reached from this host."
    assert not place.copies.exists()


def test_a_copy_whose_root_is_away_is_refused_and_makes_nothing(place: Place) -> None:
    made = frozen(place)
    place.copies.rename(f"{place.copies}{AWAY}")
    assert_refused(place, place.export(made))
    assert_refused(place, place.convert())
    assert place.host.jobs(VM) == []
    Path(f"{place.copies}{AWAY}").rename(place.copies)
    assert place.files() == []
    assert place.export(made).verdict == HostAnswer.DONE


@pytest.mark.parametrize("known", [True, False])
def test_the_end_of_a_copy_whose_root_is_away_is_refused_and_done_when_it_is_back(place: Place, *, known: bool) -> None:
    made = frozen(place)
    place.host.durations(export=600_000)
    job_id = place.export(made).disk_export.job_id
    place.copies.rename(f"{place.copies}{AWAY}")
    fields = {"job_id": job_id if known else "unknown", "directory": str(place.copies / FOLDER)}
    assert_refused(place, place.ask("export_end", **fields))
    Path(f"{place.copies}{AWAY}").rename(place.copies)
    assert place.files() == [FOLDER]
    assert (place.ask("export_end", **fields).verdict, place.files()) == (HostAnswer.DONE, [])


def test_a_copy_whose_root_is_away_is_not_taken_for_missing_when_it_is_to_be_placed(place: Place) -> None:
    place.export(frozen(place))
    place.copies.rename(f"{place.copies}{AWAY}")
    assert_refused(place, place.put())
    Path(f"{place.copies}{AWAY}").rename(place.copies)
    assert (place.put().verdict, place.files()) == (HostAnswer.DONE, ["copy.vhdx"])


ROOTS = {
    "/copies/db01.partial-1": "/copies",
    "/mount/copies/db01.partial-12": "/mount/copies",
    "/db01.partial-1": "/",
    "/exports/vm/1-a-1.partial": "/exports",
    "/exports/vm/1-a-1": "/exports",
    "/exports/vm/1.partial-x": "/exports",
    "/vm/1-a-1.partial": "/",
    "/1-a-1.partial": "/",
    "/": "/",
}
"""Folders, and what their roots are."""
ON_WINDOWS = {
    "D:\\db01.partial-1": "D:\\",
    "D:\\": None,
    "D:\\vm\\1-a-1.partial": "D:\\vm",
    "D:\\vm": "D:\\",
    "\\\\srv\\share\\db01.partial-1": "\\\\srv\\share",
    "\\\\srv\\share": None,
    "\\\\srv\\share\\1-a-1.partial": "\\\\srv\\share",
}
"""What GetDirectoryName returns on Windows: nothing for a drive and for a share (documented; tests run elsewhere)."""


def test_the_root_of_a_folder_is_one_above_a_copy_and_two_above_an_export() -> None:
    assert {folder: str(root_of(folder)) for folder in ROOTS} == ROOTS


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Callable[[str, Iterable[str]], list[str]]]:
    """Run the function of a host script in a PowerShell, for several folders."""
    with host_at(tmp_path / "hv01") as host, running_on(host, tmp_path / "engine") as run:

        def start(script: str, folders: Iterable[str]) -> list[str]:
            (tmp_path / "script.ps1").write_text(script, encoding="utf-8")
            asked = "; ".join(f"Get-FolderRoot '{folder}'" for folder in folders)
            return run(f". '{tmp_path / 'script.ps1'}'; {asked}")

        yield start


@pytest.mark.powershell
def test_the_host_script_knows_the_same_roots(roots: Callable[[str, Iterable[str]], list[str]]) -> None:
    assert roots(SCRIPT.decode(), ROOTS) == list(ROOTS.values())


@pytest.mark.powershell
def test_a_drive_and_a_share_are_roots_of_copies_and_of_exports(
    roots: Callable[[str, Iterable[str]], list[str]],
) -> None:
    # .NET knows no drives and shares here, so the one call that does is replaced by what it returns on Windows.
    call = "[IO.Path]::GetDirectoryName($root)"
    assert SCRIPT.decode().count(call) == 1
    entries = "; ".join(f"'{path}' = " + (f"'{above}'" if above else "$null") for path, above in ON_WINDOWS.items())
    script = f"{SCRIPT.decode().replace(call, '$OnWindows[$root]')}\n$OnWindows = @{{ {entries} }}\n"
    found = dict(zip(ON_WINDOWS, roots(script, ON_WINDOWS), strict=True))
    assert found == {path: "\\\\srv\\share" if path.startswith("\\\\") else "D:\\" for path in ON_WINDOWS}
