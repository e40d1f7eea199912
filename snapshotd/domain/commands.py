"""What may be asked of a VM: by callers (refusable), and by the dispatcher about what its host answered."""

from __future__ import annotations

from dataclasses import dataclass, field

from snapshotd.domain.details import Labels
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.host_report import HostAnswer, VmReport
from snapshotd.domain.ids import CheckpointId, HostId, KindName, OperationName, SnapshotId
from snapshotd.domain.operation import Failure, SettledAs
from snapshotd.domain.recorded import Recorded

# --- by callers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterVm:
    """Register a VM that its host reports."""

    host_id: HostId
    owner: str
    report: VmReport
    inherits: bool = False
    """The host was taken over from another installation: a VM that this log has never worked on is taken over too."""
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterVm:
    """Forget a VM. Nothing on its host is touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateVm:
    """Change what people say of a VM. None: as it is."""

    owner: str | None
    labels: Labels | None
    export_policy: ExportPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSnapshot:
    """Keep a snapshot from being deleted by anyone until it is released."""

    snapshot_id: SnapshotId
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSnapshot:
    """Allow again that a snapshot is deleted."""

    snapshot_id: SnapshotId


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreCheckpoint:
    """Note that somebody has looked at a foreign checkpoint: it may stay as it is."""

    checkpoint_id: CheckpointId
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreCheckpointNoMore:
    """Take that back."""

    checkpoint_id: CheckpointId


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOperation:
    """Begin long work on a VM; answered with an operation. A kind's `request` builds it."""

    kind: KindName
    params: Recorded
    expected_plan: str = ""
    """The etag of the plan that the caller has seen: with another plan, it is refused. Empty: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOperation:
    """End an operation as soon as that is safe."""

    name: OperationName


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleOperation:
    """End a step that cannot end by itself, as a person says."""

    name: OperationName
    outcome: SettledAs
    reason: str
    """In the person's words."""
    step: int
    issued_token: int
    """The step that was looked at, and the token of its last attempt: if the operation has come forward since, it is
    not settled. That the host was looked at once more changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitTakeOver:
    """Only observe the VM until it is taken over: its host's journals are about to be, from another installation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOverVm:
    """Go on from what the VM's journal and its host say, whichever log that was written for."""

    reason: str
    report: VmReport
    asked_version: int
    """The stream's version when the report was asked for."""
    foreign: bool = False
    """The host's journals belong to another installation: then also if the journal seems to know no more."""


# --- by the dispatcher ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """Record whatever comes next and needs no answer first: a step, an observation, a wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeAnswer:
    """Judge the host's answer to the command with this token."""

    number: int
    step: int
    token: int
    answer: HostAnswer
    host_id: HostId | None = None
    """The host that answered; None: the VM's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseOutcome:
    """Record that no answer will come for the effect with this token."""

    number: int
    step: int
    token: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """Record that the effect with this token never left for the host: it is due as if it had not been issued."""

    number: int
    step: int
    token: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePoll:
    """Judge a poll's report for a step that waits."""

    number: int
    step: int
    report: VmReport
    asked_version: int
    """The stream's version when the poll was sent."""
    host_id: HostId | None = None
    """The host that reported; None: the VM's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StallWait:
    """End a wait in which nothing has moved for too long."""

    number: int
    step: int
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpLook:
    """End the looking at a step whose outcome is unknown: for too long, every look at the VM has failed."""

    number: int
    step: int
    token: int
    failure: Failure
    """Of the last look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncVm:
    """Compare a report with the record, and record what differs."""

    report: VmReport
    asked_version: int
    """The stream's version when the report was asked for."""
    host_id: HostId | None = None
    """The host that reported; None: the VM's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareHosts:
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
