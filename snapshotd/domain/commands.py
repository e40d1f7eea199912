"""What may be asked of a VM: by callers (refusable), and by the dispatcher about what its host answered."""

from __future__ import annotations

from msgspec import field

from snapshotd.domain.details import Labels
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.host_report import HostAnswer, VmReport
from snapshotd.domain.ids import CheckpointId, HostId, KindName, OperationName, SnapshotId
from snapshotd.domain.operation import Failure, SettledAs
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.state import State

# --- by callers -----------------------------------------------------------------------------------------------------


class RegisterVm(State, frozen=True, kw_only=True):
    """Register a VM that its host reports."""

    host_id: HostId
    owner: str
    report: VmReport
    inherits: bool = False
    """The host was taken over from another installation: a VM that this log has never worked on is taken over too."""
    labels: Labels = field(default_factory=dict)


class UnregisterVm(State, frozen=True, kw_only=True):
    """Forget a VM. Nothing on its host is touched."""


class UpdateVm(State, frozen=True, kw_only=True):
    """Change what people say of a VM. None: as it is."""

    owner: str | None
    labels: Labels | None
    export_policy: ExportPolicy | None = None


class HoldSnapshot(State, frozen=True, kw_only=True):
    """Keep a snapshot from being deleted by anyone until it is released."""

    snapshot_id: SnapshotId
    why: str


class ReleaseSnapshot(State, frozen=True, kw_only=True):
    """Allow again that a snapshot is deleted."""

    snapshot_id: SnapshotId


class IgnoreCheckpoint(State, frozen=True, kw_only=True):
    """Note that somebody has looked at a foreign checkpoint: it may stay as it is."""

    checkpoint_id: CheckpointId
    why: str


class IgnoreCheckpointNoMore(State, frozen=True, kw_only=True):
    """Take that back."""

    checkpoint_id: CheckpointId


class RequestOperation(State, frozen=True, kw_only=True):
    """Begin long work on a VM; answered with an operation. A kind's `request` builds it."""

    kind: KindName
    params: Recorded
    expected_plan: str = ""
    """The etag of the plan that the caller has seen: with another plan, it is refused. Empty: any."""


class CancelOperation(State, frozen=True, kw_only=True):
    """End an operation as soon as that is safe."""

    name: OperationName


class SettleOperation(State, frozen=True, kw_only=True):
    """End a step that cannot end by itself, as a person says."""

    name: OperationName
    outcome: SettledAs
    reason: str
    """In the person's words."""
    step: int
    issued_token: int
    """The step that was looked at, and the token of its last attempt: if the operation has come forward since, it is
    not settled. That the host was looked at once more changes nothing."""


class AwaitTakeOver(State, frozen=True, kw_only=True):
    """Only observe the VM until it is taken over: its host's journals are about to be, from another installation."""


class TakeOverVm(State, frozen=True, kw_only=True):
    """Go on from what the VM's journal and its host say, whichever log that was written for."""

    reason: str
    report: VmReport
    asked_version: int
    """The stream's version when the report was asked for."""
    foreign: bool = False
    """The host's journals belong to another installation: then also if the journal seems to know no more."""


# --- by the dispatcher ----------------------------------------------------------------------------------------------


class Proceed(State, frozen=True, kw_only=True):
    """Record whatever comes next and needs no answer first: a step, an observation, a wait."""


class TakeAnswer(State, frozen=True, kw_only=True):
    """Judge the host's answer to the command with this token."""

    number: int
    step: int
    token: int
    answer: HostAnswer
    host_id: HostId | None = None
    """The host that answered; None: the VM's."""


class LoseOutcome(State, frozen=True, kw_only=True):
    """Record that no answer will come for the effect with this token."""

    number: int
    step: int
    token: int
    failure: Failure


class NotSent(State, frozen=True, kw_only=True):
    """Record that the effect with this token never left for the host: it is due as if it had not been issued."""

    number: int
    step: int
    token: int
    failure: Failure


class TakePoll(State, frozen=True, kw_only=True):
    """Judge a poll's report for a step that waits."""

    number: int
    step: int
    report: VmReport
    asked_version: int
    """The stream's version when the poll was sent."""
    host_id: HostId | None = None
    """The host that reported; None: the VM's."""


class StallWait(State, frozen=True, kw_only=True):
    """End a wait in which nothing has moved for too long."""

    number: int
    step: int
    failure: Failure


class GiveUpLook(State, frozen=True, kw_only=True):
    """End the looking at a step whose outcome is unknown: for too long, every look at the VM has failed."""

    number: int
    step: int
    token: int
    failure: Failure
    """Of the last look."""


class SyncVm(State, frozen=True, kw_only=True):
    """Compare a report with the record, and record what differs."""

    report: VmReport
    asked_version: int
    """The stream's version when the report was asked for."""
    host_id: HostId | None = None
    """The host that reported; None: the VM's."""


class CompareHosts(State, frozen=True, kw_only=True):
    """Compare what another host says of a VM with what the VM's own says, and record where the VM is."""

    host_id: HostId
    """The other host."""
    report: VmReport
    """By the other host, which was asked for this VM."""
    own_host_id: HostId
    """The VM's host when it was asked."""
    own: VmReport | Failure
    """By the VM's host, likewise; or why it could not be asked."""
    asked_version: int
    """The stream's version when the reports were asked for."""


StepCommand = TakeAnswer | LoseOutcome | NotSent | TakePoll | StallWait | GiveUpLook
"""About one step of an operation."""
FactCommand = UpdateVm | HoldSnapshot | ReleaseSnapshot | IgnoreCheckpoint | IgnoreCheckpointNoMore
"""Answered at once with a fact on record: nothing is asked of the host."""
_ReportCommand = SyncVm | CompareHosts
VmCommand = (
    RegisterVm
    | UnregisterVm
    | AwaitTakeOver
    | TakeOverVm
    | FactCommand
    | RequestOperation
    | CancelOperation
    | SettleOperation
    | Proceed
    | StepCommand
    | _ReportCommand
)
