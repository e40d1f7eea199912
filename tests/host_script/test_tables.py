"""What the tables of both engines can say, on rows that no action has yet: facts, outputs, what holds nobody up.

A test gives vm_start other rows: the builtin engine's tables are patched, the script's text is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, JobReport, Offering
from snapshotd.domain.state import replace
from snapshotd.simulator import at_work, before, effects
from snapshotd.simulator.builtin import BuiltinEngine
from snapshotd.simulator.hypervisor import DriveView, JobView
from snapshotd.simulator.journal import write_journal
from snapshotd.simulator.needs import Engine
from tests.host_script.conversation import SCRIPT, Conversation
from tests.host_script.host_commands import effect, entry, known_journal, look, observe
from tests.host_script.recording_host import ABSENT_VM, WEB, RecordingHost

FACTS = {
    "drives": before._drives,
    "offering": before._offering,
    "absent_files": before._absent_files,
    "vm_absent": before._vm_absent,
}


@dataclass
class Tables:
    """Starts processes in which vm_start has other rows."""

    engine: Engine
    patch: pytest.MonkeyPatch
    script: bytes = SCRIPT

    def compares(self, *facts: str) -> None:
        """Have it depend on these facts alone."""
        self.patch.setitem(before._COMPARED, "vm_start", tuple(FACTS[fact] for fact in facts))
        words = ", ".join(f"'{fact}'" for fact in facts)
        self._row(r"    vm_start = @\('power'\)", f"    vm_start = @({words})")

    def acts_without_the_vm(self) -> None:
        """Have it act though the host does not have the VM: it does nothing then."""
        self.patch.setattr(before, "OF_ABSENT", before.OF_ABSENT | {"vm_start"})
        self.patch.setattr("snapshotd.simulator.host_script.OF_ABSENT", before.OF_ABSENT)
        self._row(r"\$OfAbsent = ", "$OfAbsent = 'vm_start', ")
        own = effects._ACTIONS["vm_start"]
        self.patch.setitem(effects._ACTIONS, "vm_start", lambda scene, told: own(scene, told) if scene.found else None)
        self._row(r"(?=if \(\(Get-State \$vm\) -eq 'Paused'\) { Resume-VM)", "if ($null -eq $vm) { return }\n")

    def begins_a_job(self) -> None:
        """Have observations of it not wait for exports and jobs."""
        self.patch.setitem(at_work.BESIDE_LOOK, "vm_start", frozenset({"EXPORT", "JOB"}))
        self._row(r"\$BesideLook = @{", "$BesideLook = @{\n    vm_start = @('EXPORT', 'JOB')")

    def start(self) -> Conversation:
        """Start a process with these tables."""
        return Conversation(self.engine, SCRIPT if isinstance(self.engine, BuiltinEngine) else self.script)

    def _row(self, old: str, new: str) -> None:
        text, times = re.subn(old, lambda _: new, self.script.decode())
        assert times == 1, old
        self.script = text.encode()


@pytest.fixture
def tables(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Tables:
    return Tables(engine, monkeypatch)


def other_drive(host: RecordingHost, command: HostCommand) -> None:
    host.set(drives=(replace(host.machines[WEB].drives[0], location="SCSI:0:1"),))


def one_more_drive(host: RecordingHost, command: HostCommand) -> None:
    host.set(drives=(*host.machines[WEB].drives, DriveView(location="SCSI:0:9", path="", pass_through=True)))


def other_cpus(host: RecordingHost, command: HostCommand) -> None:
    host.set(cpu_count=3)


def dynamic_memory(host: RecordingHost, command: HostCommand) -> None:
    host.set(dynamic_memory=True)


def other_bound(host: RecordingHost, command: HostCommand) -> None:
    host.set(maximum_bytes=1 << 33)


def no_offering(host: RecordingHost, command: HostCommand) -> None:
    command.before.ClearField("offering")


def file_there(host: RecordingHost, command: HostCommand) -> None:
    (host.disks / "new.bin").touch()


def folder_there(host: RecordingHost, command: HostCommand) -> None:
    (host.disks / "new.bin").mkdir()


CHANGES = {
    "drives": (other_drive, one_more_drive),
    "offering": (other_cpus, dynamic_memory, other_bound, no_offering),
    "absent_files": (file_there, folder_there),
}


def start(host: RecordingHost, journal: str, token: int = 2) -> HostCommand:
    """Write a start that depends on all of the facts, as they are."""
    command = effect("vm_start", host, journal, token)
    view = host.machines[WEB]
    command.before.drives.extend(f"{drive.location}={drive.path}" for drive in view.drives)
    command.before.offering.CopyFrom(
        Offering(
            cpu_count=view.cpu_count,
            memory_bytes=view.memory_bytes,
            minimum_bytes=view.minimum_bytes,
            maximum_bytes=view.maximum_bytes,
        )
    )
    command.before.absent_files.append(f"{host.disks}/new.bin")
    return command


@pytest.mark.parametrize(
    ("fact", "change"), [(fact, change) for fact, changes in CHANGES.items() for change in changes]
)
def test_an_effect_acts_only_on_the_facts_that_it_was_told(
    fact: str, change: Callable[[RecordingHost, HostCommand], None], tables: Tables, host: RecordingHost
) -> None:
    host.set(state="Off")
    tables.compares(fact)
    script = tables.start()
    command = start(host, known_journal(script))
    unchanged = start(host, command.journal_id, 3)
    view = host.machines[WEB]
    change(host, command)
    assert script.ask(command).verdict == HostAnswer.CHANGED
    assert host.calls == []
    host.machines[WEB] = view
    for path in host.disks.glob("new.bin"):
        path.rmdir() if path.is_dir() else path.unlink()
    assert script.ask(unchanged).verdict == HostAnswer.DONE


def test_a_file_of_which_nobody_can_tell_is_not_taken_for_absent(tables: Tables, host: RecordingHost) -> None:
    tables.compares("absent_files")
    script = tables.start()
    command = start(host, known_journal(script))
    command.before.absent_files.append(f"{host.disks}/away/new.bin")
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.NOT_BEGUN, "StorageUnreachable,snapshotd")
    assert (host.calls, entry(host).phase) == ([], "")


@pytest.mark.parametrize("asked", [True, False])
def test_what_needs_the_vm_to_be_absent_does_not_act_on_one_that_is_there(
    tables: Tables, host: RecordingHost, *, asked: bool
) -> None:
    tables.compares("vm_absent")
    tables.acts_without_the_vm()
    script = tables.start()
    command = start(host, known_journal(script))
    command.before.vm_absent = asked
    assert script.ask(command).verdict == HostAnswer.CHANGED
    assert host.calls == []


def test_only_what_acts_without_the_vm_acts_on_one_that_is_absent(tables: Tables, host: RecordingHost) -> None:
    tables.compares("vm_absent")
    script = tables.start()
    command = start(host, known_journal(script, vm=ABSENT_VM))
    command.vm_id, command.before.vm_absent = ABSENT_VM, True
    assert script.ask(command).verdict == HostAnswer.CHANGED
    tables.acts_without_the_vm()
    command.token = 3
    answer = tables.start().ask(command)
    assert (answer.verdict, answer.vms[0].present) == (HostAnswer.DONE, False)
    assert entry(host, ABSENT_VM).phase == "DONE"


@pytest.mark.parametrize("job", [62, 4711])
def test_an_observation_of_what_began_a_job_is_not_held_up_by_it(job: int, tables: Tables, host: RecordingHost) -> None:
    tables.begins_a_job()
    script = tables.start()
    journal = known_journal(script)
    host.under_way = [JobView(job, 5)]
    assert script.ask(observe(2)).verdict == HostAnswer.IN_PROGRESS, "of no action"
    assert script.ask(observe(2, "vm_stop")).verdict == HostAnswer.IN_PROGRESS
    assert script.ask(observe(3, "vm_start")).verdict == HostAnswer.OBSERVED
    assert script.ask(effect("vm_start", host, journal, 4)).verdict == HostAnswer.IN_PROGRESS, "an effect is"
    host.under_way.append(JobView(72, 5))
    assert script.ask(observe(5, "vm_start")).verdict == HostAnswer.IN_PROGRESS, "and by another one, it is"


@pytest.mark.parametrize("kind", [HostCommand.REPORT, HostCommand.POLL, HostCommand.OBSERVE])
@pytest.mark.parametrize("vm", [WEB, ABSENT_VM], ids=["there", "absent"])
def test_watched_jobs_are_told_in_their_order_whatever_the_vm(
    vm: str, kind: HostCommand.Kind.ValueType, script: Conversation, host: RecordingHost
) -> None:
    host.jobs_by_id = {
        "J-1": JobView(62, 40, 4, "J-1"),
        "J-2": JobView(15, 100, 7, "J-2"),
        "J-3": JobView(62, 12, 10, "J-3", "There is not enough space on the disk."),
        "J-4": JobView(62, 12, 8, "J-4"),
        "J-5": JobView(62, 0, 32767, "J-5"),
    }
    command = observe(1, vm=vm)
    command.kind = kind
    command.watched_jobs.extend(["J-9", *host.jobs_by_id])
    answer = script.ask(command)
    assert list(answer.vms[0].jobs) == [
        JobReport(id="J-9", state=JobReport.GONE),
        JobReport(id="J-1", type=62, state=JobReport.RUNNING, percent=40),
        JobReport(id="J-2", type=15, state=JobReport.DONE, percent=100),
        JobReport(
            id="J-3", type=62, state=JobReport.FAILED, percent=12, error="There is not enough space on the disk."
        ),
        JobReport(id="J-4", type=62, state=JobReport.FAILED, percent=12, error="JobState 8"),
        JobReport(id="J-5", type=62, state=JobReport.RUNNING),
    ]


def test_a_job_is_not_gone_for_an_account_that_sees_none(
    script: Conversation, host: RecordingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "manages", lambda: False)
    command = look()
    command.watched_jobs.append("J-1")
    answer = script.ask(command)
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "RightsMissing,snapshotd")


@pytest.mark.parametrize(
    "wrong",
    [
        {"watched_jobs": [""]},
        {"watched_jobs": ["x' OR 'a'='a"]},
        {"watched_jobs": [5]},
        {"before": {"absent_files": [""]}},
        {"before": {"absent_files": [5]}},
        {"before": {"vm_absent": "true"}},
        {"before": {"offering": []}},
        {"before": {"offering": {"cpu_count": "two"}}},
        {"before": {"offering": {"dynamic_memory": 1}}},
    ],
    ids=str,
)
def test_a_command_with_names_or_facts_of_another_form_is_none(
    wrong: dict[str, object], script: Conversation, host: RecordingHost
) -> None:
    command = effect("vm_start", host, known_journal(script), 2)
    answer = script.ask_for(command, wrong)
    assert (answer.verdict, answer.error.id) == (HostAnswer.FAILED, "InvalidCommand,snapshotd")


def with_cpus(memory: Offering, count: int, *, dynamic: bool = False) -> Offering:
    """Return an offering with so many processors."""
    offering = Offering(cpu_count=count, dynamic_memory=dynamic)
    offering.MergeFrom(memory)
    return offering


def test_a_report_tells_offering_and_files_as_the_host_has_them(script: Conversation, host: RecordingHost) -> None:
    host.set(cpu_count=2, dynamic_memory=True)
    host.take(WEB, "nightly")
    host.set(cpu_count=8, dynamic_memory=False, generation=1)
    (report,) = script.ask(look()).vms
    memory = Offering(memory_bytes=1 << 30, minimum_bytes=1 << 29, maximum_bytes=1 << 31)
    assert report.offering == with_cpus(memory, 8)
    assert (report.cpu_count, report.memory_bytes, report.generation) == (8, 1 << 30, 1)
    assert report.checkpoints[0].offering == with_cpus(memory, 2, dynamic=True)
    for file in report.files:
        known = host.files[file.path.lower()]
        assert (file.size_bytes, file.minimum_bytes, file.vhd_type) == (9000, 500, known.vhd_type)
        assert file.identifier == known.identifier != ""


def test_a_step_that_was_done_without_output_tells_none(script: Conversation, host: RecordingHost) -> None:
    host.set(state="Off")
    assert script.ask(effect("vm_start", host, known_journal(script), 2)).verdict == HostAnswer.DONE
    assert not script.ask(look()).vms[0].journal.HasField("output")
    write_journal(host.journal_directory, replace(entry(host), output={"checkpoint_id": "a", "has_memory": 1}))
    assert not script.ask(look()).vms[0].journal.HasField("output"), "no action can have made that"
