"""Exports, their ends, and imports by the host script: on both engines, with two hosts on one storage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, JobReport
from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.model.disks import AWAY
from tests.host_script.conversation import Conversation
from tests.host_script.engines import BOTH, engine_on
from tests.host_script.host_commands import effect, known_journal, look, observe
from tests.unit.simulator_model.hosts import Script, host_at, truth, until

VM = str(uuid4())
"""Its own: the mutexes of PowerShell processes are the machine's."""
DISKS = [{"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}]
HERE: dict[str, object] = {
    "host": {"name": "hv01"},
    "vms": [{"id": VM, "name": "db01", "state": "Off", "disks": DISKS}],
}
ELSEWHERE: dict[str, object] = {"host": {"name": "hv02"}, "vms": []}


@dataclass
class Place:
    """A host, and a script on it."""

    host: SimulatedHyperV
    script: Conversation
    token: int = 1
    journal: str = ""
    step: int = 0

    def ask(self, action: str, **values: str) -> HostAnswer:
        """Have an action done, as the next step."""
        if not self.journal:
            self.journal = known_journal(self.script, vm=VM)
        self.token += 1
        self.step += 1
        command = effect(action, self.host, self.journal, self.token, self.step, VM)
        command.before.vm_absent = action == "vm_import"
        for name, value in values.items():
            setattr(getattr(command, action), name, value)
        return self.script.ask(command)

    def job(self, job_id: str) -> JobReport:
        """Return what a poll tells of a job."""
        command = look(HostCommand.POLL, VM)
        command.watched_jobs.append(job_id)
        (job,) = self.script.ask(command).vms[0].jobs
        return job


@contextmanager
def place(engine: str, at: Path, inventory: dict[str, object]) -> Iterator[Place]:
    """Open a host."""
    with host_at(at, inventory) as host:
        for opened in engine_on(engine, host, at / "engine"):
            script = Conversation(opened)
            yield Place(host, script)
            script.process.kill()


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    return folder


@pytest.fixture
def here(engine: str, tmp_path: Path) -> Iterator[Place]:
    with place(engine, tmp_path / "hv01", HERE) as opened:
        opened.host.checkpoint_vm(Script(), VM, "base")
        yield opened


def exported(here: Place, root: Path, name: str = "1-a-1") -> Path:
    """Export the VM; return the complete folder."""
    partial, target = root / VM / f"{name}.partial", root / VM / name
    begun = here.ask("vm_export", directory=str(partial))
    assert begun.verdict == HostAnswer.DONE, begun
    assert begun.vm_export.job_id == ""  # nothing takes time here
    done = here.ask("export_complete", directory=str(partial), target=str(target))
    assert done.verdict == HostAnswer.DONE, done
    assert not partial.exists()
    return target


def test_an_export_is_a_job_that_is_waited_for_verified_and_named(here: Place, root: Path) -> None:
    here.host.durations(export=600_000)
    partial = root / VM / "1-a-1.partial"
    begun = here.ask("vm_export", directory=str(partial))
    assert begun.verdict == HostAnswer.DONE
    assert "EXPORT" in begun.vms[0].activities
    job = here.job(begun.vm_export.job_id)
    assert (job.state, job.type) == (JobReport.RUNNING, 62)
    assert (partial / "snapshotd.export").exists()
    here.host.durations(export=0)
    until(lambda: here.job(begun.vm_export.job_id).state == JobReport.DONE)
    done = here.ask("export_complete", directory=str(partial), target=str(root / VM / "1-a-1"))
    configuration = Path(done.export_complete.configuration_path)
    assert configuration.exists()
    assert configuration.parent.parent == root / VM / "1-a-1"
    files = [file for file in (root / VM / "1-a-1").rglob("*") if file.is_file()]
    assert done.export_complete.size_bytes == sum(file.stat().st_size for file in files)


def test_a_completion_that_is_done_again_finds_the_folder_under_its_final_name(here: Place, root: Path) -> None:
    target = exported(here, root)
    again = here.ask("export_complete", directory=f"{target}.partial", target=str(target))
    assert again.verdict == HostAnswer.DONE
    assert Path(again.export_complete.configuration_path).exists()


def test_the_completion_of_an_export_that_is_not_there_is_refused(here: Place, root: Path) -> None:
    here.ask("vm_export", directory=str(root / VM / "1-a-1.partial"))
    here.ask("export_end", directory=str(root / VM / "1-a-1.partial"))
    answer = here.ask("export_complete", directory=str(root / VM / "1-a-1.partial"), target=str(root / VM / "1-a-1"))
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "ExportIncomplete,snapshotd")


def test_an_export_of_which_a_disk_is_missing_is_not_complete(here: Place, root: Path) -> None:
    partial = root / VM / "1-a-1.partial"
    begun = here.ask("vm_export", directory=str(partial))
    assert begun.verdict == HostAnswer.DONE
    next((partial / "Virtual Hard Disks").iterdir()).unlink()
    answer = here.ask("export_complete", directory=str(partial), target=str(root / VM / "1-a-1"))
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "ExportIncomplete,snapshotd")
    assert partial.exists()


def test_a_folder_that_is_there_is_not_written_to(here: Place, root: Path) -> None:
    folder = root / VM / "1-a-1.partial"
    folder.mkdir(parents=True)
    answer = here.ask("vm_export", directory=str(folder))
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "ExportFolderExists,snapshotd")
    assert list(folder.iterdir()) == []


def test_a_root_that_is_away_is_never_made(here: Place, root: Path) -> None:
    root.rename(f"{root}{AWAY}")
    for action in ("vm_export", "export_end"):
        answer = here.ask(action, directory=str(root / VM / "1-a-1.partial"))
        assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "ExportFolderFailed,snapshotd")
    assert not root.exists()


def test_an_export_that_the_host_refuses_leaves_no_folder(here: Place, root: Path) -> None:
    here.host.fail("ExportSystemDefinition", "InvalidState", "busy")
    answer = here.ask("vm_export", directory=str(root / VM / "1-a-1.partial"))
    assert (answer.verdict, answer.error.id.split(",")[0]) == (HostAnswer.NO_EFFECT, "InvalidState")
    assert not (root / VM / "1-a-1.partial").exists()


@pytest.mark.parametrize("named", [True, False], ids=["its job", "whichever job it is"])
def test_the_end_of_an_export_terminates_its_job_and_removes_its_folder(
    here: Place, root: Path, *, named: bool
) -> None:
    here.host.durations(export=600_000)
    partial = root / VM / "1-a-1.partial"
    begun = here.ask("vm_export", directory=str(partial))
    job_id = begun.vm_export.job_id
    ended = here.ask("export_end", job_id=job_id if named else "unknown", directory=str(partial))
    assert ended.verdict == HostAnswer.DONE, ended
    assert not partial.exists()
    assert here.job(job_id).state == JobReport.FAILED
    assert ended.vms[0].activities == []
    assert here.ask("export_end", job_id=job_id, directory=str(partial)).verdict == HostAnswer.DONE


def test_the_fence_rises_while_an_export_is_at_work_and_nothing_else_begins(here: Place, root: Path) -> None:
    here.host.durations(export=600_000)
    here.ask("vm_export", directory=str(root / VM / "1-a-1.partial"))
    assert here.script.ask(observe(here.token + 1, "vm_export", vm=VM)).verdict == HostAnswer.OBSERVED
    here.token += 1
    assert here.script.ask(observe(here.token + 1, "vm_start", vm=VM)).verdict == HostAnswer.IN_PROGRESS
    assert here.ask("vm_start").verdict == HostAnswer.IN_PROGRESS


def test_a_folder_of_which_a_vm_uses_a_file_is_not_removed(here: Place, root: Path) -> None:
    target = exported(here, root)
    disk = next((target / "Virtual Hard Disks").glob("*.vhdx"))
    here.host.add_drive(Script(), VM, "SCSI:0:5", str(disk))
    answer = here.ask("export_end", directory=str(target))
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "ExportInUse,snapshotd")
    assert disk.exists()


@pytest.mark.parametrize("there", ["without the marker", "empty"])
def test_a_folder_that_is_not_known_to_be_ours_is_removed_only_if_it_is_empty(
    here: Place, root: Path, there: str
) -> None:
    target = exported(here, root)
    (target / "snapshotd.export").unlink()
    if there == "empty":
        target = root / VM / "2-b-1.partial"
        target.mkdir()
    answer = here.ask("export_end", directory=str(target))
    if there == "empty":
        assert (answer.verdict, target.exists()) == (HostAnswer.DONE, False), answer
        return
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "ExportNotOurs,snapshotd")
    assert list((target / "Virtual Hard Disks").glob("*.vhdx"))


def test_a_released_vm_leaves_its_host_and_its_disks_stay(here: Place, root: Path) -> None:
    target = exported(here, root)
    vm = here.host.vm(VM)
    assert vm is not None
    released = here.ask("vm_release", directory=str(target))
    assert (released.verdict, released.vms[0].present) == (HostAnswer.DONE, False)
    assert here.host.vm(VM) is None
    # What is written after the checkpoint is merged into these, since that goes with the VM.
    assert all(Path(drive.path).exists() for drive in vm.checkpoints[0].drives)


def test_a_vm_whose_disk_was_written_to_since_its_export_is_not_released(here: Place, root: Path) -> None:
    target = exported(here, root)
    here.host.write_disk(VM, "SCSI:0:1", "unseen", "by hand")
    answer = here.ask("vm_release", directory=str(target))
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "ExportOutdated,snapshotd")
    assert here.host.vm(VM) is not None


@pytest.mark.parametrize("gone", ["Virtual Machines", "snapshotd.export"])
def test_a_vm_is_not_released_to_an_export_that_is_not_there(here: Place, root: Path, gone: str) -> None:
    target = exported(here, root)
    (target / gone).rename(root / "elsewhere")
    answer = here.ask("vm_release", directory=str(target))
    told = "ExportMissing,snapshotd" if gone == "snapshotd.export" else "ExportIncomplete,snapshotd"
    assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, told)
    assert here.host.vm(VM) is not None


def test_a_vm_is_imported_on_another_host_in_place_with_its_checkpoints(
    here: Place, root: Path, engine: str, tmp_path: Path
) -> None:
    target = exported(here, root)
    (configuration,) = (target / "Virtual Machines").glob("*.vmcx")
    before = here.host.vm(VM)
    assert before is not None
    with place(engine, tmp_path / "hv02", ELSEWHERE) as there:
        answer = there.ask("vm_import", configuration_path=str(configuration))
        assert answer.verdict == HostAnswer.DONE, answer
        vm = answer.vms[0]
        assert vm.present
        assert [c.checkpoint_id for c in vm.checkpoints] == [c.checkpoint_id for c in before.checkpoints]
        assert all(file.path.startswith(str(target)) and not file.missing for file in vm.files)
        assert there.ask("vm_import", configuration_path=str(configuration)).verdict == HostAnswer.CHANGED
    assert [line["effect"] for line in truth(tmp_path / "hv02")] == ["vm_imported"]


def test_an_import_that_lacks_a_switch_is_refused_with_the_list_and_nothing_done(
    root: Path, engine: str, tmp_path: Path
) -> None:
    vm = {"id": VM, "name": "db01", "state": "Off", "disks": [{"location": "SCSI:0:0"}], "switch": "production"}
    described: dict[str, object] = {"host": {"name": "hv01", "switches": ["production"]}, "vms": [vm]}
    with place(engine, tmp_path / "hv01", described) as here:
        (configuration,) = (exported(here, root) / "Virtual Machines").glob("*.vmcx")
    with place(engine, tmp_path / "hv02", ELSEWHERE) as there:
        answer = there.ask("vm_import", configuration_path=str(configuration))
        assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "ImportIncompatible,snapshotd")
        assert "33012" in answer.error.message
        assert there.host.vms() == []


def test_an_import_of_what_is_not_there_is_refused(engine: str, tmp_path: Path) -> None:
    with place(engine, tmp_path / "hv02", ELSEWHERE) as there:
        answer = there.ask("vm_import", configuration_path=str(tmp_path / "nowhere.vmcx"))
        assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "ExportMissing,snapshotd")


def test_an_export_of_another_vm_is_not_imported(here: Place, root: Path, engine: str, tmp_path: Path) -> None:
    (configuration,) = (exported(here, root) / "Virtual Machines").glob("*.vmcx")
    document = json.loads(configuration.read_text())
    document["machine"]["vm_id"] = str(uuid4())
    configuration.write_text(json.dumps(document))
    with place(engine, tmp_path / "hv02", ELSEWHERE) as there:
        answer = there.ask("vm_import", configuration_path=str(configuration))
        assert (answer.verdict, answer.error.id) == (HostAnswer.NO_EFFECT, "ImportIncompatible,snapshotd")
