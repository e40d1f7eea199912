"""What the host script does with one command, in Python: the order of checks of docs/host-protocol.md.

    line ──► command ──► mutex ──► checks 0-5 ──► BEGUN ──► act ──► DONE ──► answer
                           └─ BUSY   └─ refused: nothing done

Acts on the hypervisor only through effects.py. Never writes the journal of a script that is dead.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from google.protobuf import json_format

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand, HostError, VmReport
from snapshotd.domain.state import replace
from snapshotd.simulator.at_work import is_at_work
from snapshotd.simulator.before import OF_ABSENT, Found, equals_before
from snapshotd.simulator.commands import PROTOCOL, READS, InvalidCommand, parse
from snapshotd.simulator.effects import act, action_of, checkpoint_type_to_set
from snapshotd.simulator.hypervisor import HyperVError, Hypervisor, VmView
from snapshotd.simulator.journal import (
    JournalChanged,
    JournalEntry,
    JournalUnreadable,
    Output,
    read_journal,
    write_journal,
)
from snapshotd.simulator.mutexes import NamedMutexes
from snapshotd.simulator.outputs import fits
from snapshotd.simulator.ownership import read_host, take_host_over, write_host
from snapshotd.simulator.reporting import (
    JOURNAL_FAILED,
    has_temporary_type,
    host_facts,
    journal_report,
    look,
    own_checkpoint_type,
    report_vm,
)
from snapshotd.simulator.scene import NotReached, Scene, Script
from snapshotd.simulator.watched import Watched

_REFUSALS: Final = frozenset(
    {
        *("CheckpointsDisabled", "CheckpointNotFound", "DriveNotFound", "FileInUse", "AnotherDisk"),
        *("DiskMoved", "CopyExists", "CopyNotAlone", "CopyNotFound"),
        *("ExportIncomplete", "ExportInUse", "ExportMissing", "ExportNotOurs", "ExportOutdated", "ImportIncompatible"),
        *("InvalidState", "InvalidParameter", "ObjectNotFound", "AccessDenied", "NotSupported", "OutOfMemory"),
    }
)
"""Errors that prove that nothing was begun, ours first. OperationFailed and OperationTimeout do not: what was begun may
still take effect. (Which errors come before anything is begun is inferred from their names.)"""


class ScriptProcess(Script, Protocol):
    """The process that runs the script."""

    @property
    def pid(self) -> int:
        """Its id on the host."""

    @property
    def started(self) -> str:
        """When it started, as the journal has it."""

    def living(self) -> AbstractContextManager[None]:
        """Keep the process alive inside, so that only a living script writes. Raises ScriptKilled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all scripts of one host share."""

    host: Hypervisor
    mutexes: NamedMutexes
    end_process: Callable[[int, str], bool]
    """Ends the process of that pid and start time; False when none runs."""
    durable: bool
    """Write journals through to the disk."""
    mutex_wait_s: float = 5.0
    result_wait_s: float = 30.0
    """How long a cmdlet's result may take to show after it has returned."""
    second_look_s: float = 2.0
    """How long an observation that finds an effect begun and nothing under way waits before it looks again."""


@dataclass(frozen=True, slots=True)
class _Footing:
    """What an effect acts on, that may act."""

    entry: JournalEntry
    vm: VmView | None
    own_checkpoint_type: str
    type_to_set: str


class HostScript:
    """The script in one process: answers a line for a line."""

    def __init__(self, around: Surroundings, process: ScriptProcess) -> None:
        self._around = around
        self._process = process

    def answer(self, line: bytes) -> bytes:
        """Carry out the command of one line and return the line to answer, without its end. Raises ScriptKilled."""
        directory = self._around.host.journal_directory
        try:
            command = parse(line)
            if command.journal_directory:
                directory = Path(command.journal_directory)
            answer = _Run(self._around, self._process, command, directory).answer()
        except HyperVError as error:
            answer = _failed(error.fully_qualified, str(error))
        except InvalidCommand as error:
            answer = _failed("InvalidCommand,snapshotd", str(error))
        except JournalChanged as error:
            answer = _failed("JournalChanged,snapshotd", str(error))
        except OSError as error:
            answer = _failed(JOURNAL_FAILED, str(error))
        answer.protocol = PROTOCOL
        answer.host_time.FromDatetime(self._around.host.now())
        answer.host.CopyFrom(host_facts(self._around.host, directory))
        document = json_format.MessageToJson(answer, preserving_proto_field_name=True, indent=None)
        return base64.b64encode(document.encode())


class _Run:
    """One command under way."""

    def __init__(self, around: Surroundings, process: ScriptProcess, command: HostCommand, directory: Path) -> None:
        self._around = around
        self._host = around.host
        self._process = process
        self._command = command
        self._action = action_of(command)
        self._directory = directory

    def answer(self) -> HostAnswer:
        """Return the answer. Takes the VM's mutex for what works on a VM."""
        command = self._command
        if command.kind in READS:
            return look(self._host, self._directory, command, self._process)
        if command.kind == HostCommand.TAKE_OVER:
            return self._take_host_over()
        mutex = rf"Global\snapshotd-{command.vm_id.lower()}"
        if not self._take(mutex):
            return HostAnswer(verdict=HostAnswer.BUSY)
        try:
            return self._checked()
        finally:
            self._around.mutexes.release(mutex, self._process)

    def _take_host_over(self) -> HostAnswer:
        command, durable = self._command, self._around.durable
        with self._process.living():
            ours = take_host_over(
                self._directory, command.installation_id, command.former_installation_id, durable=durable
            )
        return HostAnswer(verdict=HostAnswer.DONE if ours else HostAnswer.FOREIGN_INSTALLATION)

    def _take(self, mutex: str) -> bool:
        """Take the mutex. First end its holder, if that is a script past its deadline, or one that is given up."""
        wait_s = self._around.mutex_wait_s
        if self._around.mutexes.acquire(mutex, self._process, wait_s):
            return True
        entry = self._journal()
        if entry is None or entry.phase != "BEGUN" or not self._is_over(entry):
            return False
        # This very process may have begun it, and not ended it, before it got its present command.
        if (entry.pid, entry.pid_started) == (self._process.pid, self._process.started):
            return False
        ended = self._around.end_process(entry.pid, entry.pid_started)
        return ended and self._around.mutexes.acquire(mutex, self._process, wait_s)

    def _is_over(self, entry: JournalEntry) -> bool:
        """Return whether the step that was begun is past its deadline, or given up by this command."""
        command = self._command
        overdue = entry.deadline is not None and entry.deadline < self._host.now()
        this_step = (entry.operation, entry.step) == (command.operation, command.step)
        return overdue or (command.kind == HostCommand.OBSERVE and command.ends_script and this_step)

    def _checked(self) -> HostAnswer:
        """Go through checks 0 to 3, in their order, and on to 4 or 5."""
        command = self._command
        if not self._owned():
            return HostAnswer(verdict=HostAnswer.FOREIGN_INSTALLATION)
        effect = command.kind == HostCommand.EFFECT
        entry = self._journal()
        if entry is not None:
            this_step = (entry.operation, entry.step) == (command.operation, command.step)
            if effect and this_step and entry.phase == "DONE":
                return self._done(entry.output)
            if command.token < entry.token or (effect and command.token == entry.token):
                return HostAnswer(verdict=HostAnswer.STALE, highest_token=entry.token)
        if effect:
            return self._effect(entry)
        report = self._report()
        if entry is not None and entry.phase == "BEGUN" and not is_at_work(self._command, report):
            # What a script that died had begun may show late: Checkpoint-VM has been seen to return before the
            # checkpoint is listed (observed).
            self._process.pause(self._around.second_look_s)
            report = self._report()
        if is_at_work(self._command, report):
            return HostAnswer(verdict=HostAnswer.IN_PROGRESS, vms=[report])
        return self._observe(entry)

    def _observe(self, entry: JournalEntry | None) -> HostAnswer:
        """Return the answer of check 4."""
        if entry is None:
            entry = JournalEntry(vm=self._command.vm_id, id=str(uuid.uuid4()))
        entry = self._with_type_put_back(entry)
        self._write(replace(entry, token=self._command.token))
        return HostAnswer(verdict=HostAnswer.OBSERVED, vms=[self._report()])

    def _effect(self, entry: JournalEntry | None) -> HostAnswer:
        """Return the answer of checks 3 and 5. One that could not be made was not begun, and never will be."""
        if entry is None or entry.id != self._command.journal_id:
            report = self._report()
            at_work = is_at_work(self._command, report)
            return HostAnswer(verdict=HostAnswer.IN_PROGRESS if at_work else HostAnswer.WRONG_JOURNAL, vms=[report])
        try:
            found = self._footing(entry)
        except HyperVError as error:
            return self._not_begun(entry, error.fully_qualified, error)
        except OSError as error:
            return self._not_begun(entry, JOURNAL_FAILED, error)
        return self._begin(found) if isinstance(found, _Footing) else found

    def _footing(self, entry: JournalEntry) -> _Footing | HostAnswer:
        """Look whether the effect may act. Return what it acts on, or the answer that refuses it."""
        command, report = self._command, self._report()
        if is_at_work(command, report):
            return HostAnswer(verdict=HostAnswer.IN_PROGRESS, vms=[report])
        if entry.owed_checkpoint_type:
            entry = self._with_type_put_back(entry)
            report = self._report()
        vm = self._host.vm(command.vm_id)
        acts = vm is not None or self._action in OF_ABSENT
        if not acts or not equals_before(self._action, command.before, Found(self._host, report)):
            entry = self._write(replace(entry, token=command.token))
            report.journal.CopyFrom(journal_report(entry))
            return HostAnswer(verdict=HostAnswer.CHANGED, vms=[report])
        own = own_checkpoint_type(vm, entry) if vm else ""
        to_set = checkpoint_type_to_set(command, vm, own) if vm else ""
        return _Footing(entry, vm, own, to_set)

    def _not_begun(self, entry: JournalEntry, error_id: str, error: Exception) -> HostAnswer:
        """Write the token, so that the command, come twice, cannot begin either; return why it was not begun."""
        self._write(replace(entry, token=self._command.token))
        return HostAnswer(verdict=HostAnswer.NOT_BEGUN, error=HostError(id=error_id, message=str(error)))

    def _begin(self, found: _Footing) -> HostAnswer:
        """Begin the effect, and return how it ended."""
        command, entry, vm = self._command, found.entry, found.vm
        own, to_set = found.own_checkpoint_type, found.type_to_set
        if self._action == "checkpoint_restore" or to_set:
            # A checkpoint may bring the type of its moment back (inferred), so a restore owes it too.
            entry = replace(entry, owed_checkpoint_type=own, temporary_checkpoint_type=to_set)
        entry = self._write(
            replace(
                entry,
                token=command.token,
                operation=command.operation,
                step=command.step,
                phase="BEGUN",
                begun_token=command.token,
                deadline=_deadline(command, self._host.now()),
                begun_at=self._host.now(),
                pid=self._process.pid,
                pid_started=self._process.started,
                output={},
            )
        )
        try:
            output = act(Scene(self._host, self._process, vm, own, to_set, self._around.result_wait_s), command)
        except HyperVError as error:
            return self._refused(entry, error)
        except NotReached as error:
            self._leave(entry)
            return _failed("NotReached,snapshotd", str(error))
        entry = self._with_type_put_back(entry)
        self._write(replace(entry, phase="DONE", output=output))
        return self._done(output)

    def _done(self, output: Output) -> HostAnswer:
        """Return DONE with the output in the action's field; WRONG_JOURNAL for one that the action cannot have."""
        if not fits(self._action, output):
            return HostAnswer(verdict=HostAnswer.WRONG_JOURNAL, vms=[self._report()])
        answer = {"verdict": "DONE"} | ({self._action: output} if output else {})
        return json_format.ParseDict(answer, HostAnswer(vms=[self._report()]))

    def _refused(self, entry: JournalEntry, error: HyperVError) -> HostAnswer:
        """Compare once more. It had no effect only if it was refused, the VM is as it was, and nothing is under way."""
        entry = self._leave(entry)
        report = self._report()
        untouched = (
            error.fully_qualified.partition(",")[0] in _REFUSALS
            and equals_before(self._action, self._command.before, Found(self._host, report))
            and not is_at_work(self._command, report)
        )
        if not untouched:
            return _failed(error.fully_qualified, str(error))
        self._write(replace(entry, phase=""))  # nothing that shows from now on is this command's doing
        told = HostError(id=error.fully_qualified, message=str(error))
        return HostAnswer(verdict=HostAnswer.NO_EFFECT, vms=[report], error=told)

    def _owned(self) -> bool:
        """Return the answer of check 0. A host.json that cannot be read belongs to another installation."""
        try:
            known = read_host(self._directory)
            if known is None:
                with self._process.living():
                    write_host(self._directory, self._command.installation_id, durable=self._around.durable)
                known = read_host(self._directory)
        except JournalUnreadable:
            return False
        return known is not None and known.owner == self._command.installation_id

    def _with_type_put_back(self, entry: JournalEntry) -> JournalEntry:
        """Restore an owed CheckpointType; return the entry, not yet written, that owes it no more.

        One that somebody else has set since stays. One that the host refuses to take back, or whose VM is not there,
        stays owed; the command goes on.
        """
        owed = entry.owed_checkpoint_type
        try:
            vm = self._host.vm(entry.vm) if owed else None
            if vm is None:
                return entry
            if has_temporary_type(vm, entry) and vm.checkpoint_type != owed:
                self._host.set_checkpoint_type(self._process, vm.vm_id, owed)
        except HyperVError:
            return entry
        return replace(entry, owed_checkpoint_type="", temporary_checkpoint_type="")

    def _leave(self, entry: JournalEntry) -> JournalEntry:
        """Leave an effect that is not done: its phase stays, and an owed CheckpointType is restored.

        This process goes on, perhaps to another VM: nobody may end it for this one any more.
        """
        return self._write(replace(self._with_type_put_back(entry), pid=0, pid_started=""))

    def _journal(self) -> JournalEntry | None:
        """Return the entry; None if there is none that can be relied on."""
        try:
            return read_journal(self._directory, self._command.vm_id)
        except JournalUnreadable:
            return None

    def _write(self, entry: JournalEntry) -> JournalEntry:
        with self._process.living():
            return write_journal(self._directory, entry, durable=self._around.durable)

    def _report(self) -> VmReport:
        return report_vm(self._host, self._directory, self._command.vm_id, Watched.by(self._command))


def _deadline(command: HostCommand, now: datetime) -> datetime | None:
    """Return a step's deadline by this host's clock; by the server's if the command does not hold the time left."""
    if command.time_left_ms > 0:
        return now + timedelta(milliseconds=command.time_left_ms)
    return command.deadline.ToDatetime(UTC) if command.HasField("deadline") else None


def _failed(error_id: str, message: str) -> HostAnswer:
    return HostAnswer(verdict=HostAnswer.FAILED, error=HostError(id=error_id, message=message))
