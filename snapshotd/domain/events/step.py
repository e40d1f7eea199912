"""What happens to a step of an operation. `token_of` says which token StepIssued and ObservationIssued have issued."""

from __future__ import annotations

from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure
from snapshotd.domain.recorded import Recorded, Time
from snapshotd.domain.state import State


class StepTransition(State, frozen=True, kw_only=True):
    """A step's state changed."""

    number: int
    """Of the operation."""
    step: int
    from_state: StepState
    to_state: StepState


class StepIssued(StepTransition, frozen=True, kw_only=True):
    """An effect is about to be sent, with a token of its own."""

    attempt: int
    before: Recorded
    deadline: Time
    token_base: int = 0
    """Of the VM then."""


class StepWaitStarted(StepTransition, frozen=True, kw_only=True):
    """The host is polled from now on."""

    before: Recorded


class StepDone(StepTransition, frozen=True, kw_only=True):
    """The host is as the step wanted it."""

    observed: bool
    """True: an observation found it so, not the command's own answer."""
    output: Recorded


class StepFailed(StepTransition, frozen=True, kw_only=True):
    """The step ended without its effect."""

    failure: Failure


class StepDueAgain(StepTransition, frozen=True, kw_only=True):
    """The step had no effect, for a reason that may pass, and will be issued again."""

    failure: Failure
    look_due: bool = False
    """The host could not look at the VM, and so has not begun it. The VM is observed before it is issued again."""


class StepNotSent(StepTransition, frozen=True, kw_only=True):
    """Its command never left for the host: it is due as before, and this was no attempt."""

    failure: Failure


class StepOutcomeUnknown(StepTransition, frozen=True, kw_only=True):
    """No answer that settles the step has come. The host will be observed."""

    failure: Failure


class ObservationIssued(State, frozen=True, kw_only=True):
    """The host is about to be observed for a step, with a token of its own."""

    number: int
    step: int
    token_base: int = 0
    """Of the VM then."""


class ObservationAnswered(State, frozen=True, kw_only=True):
    """The host was observed for a step that is only due: its journal is known now."""

    number: int
    step: int
    seen: bool = True
    """False: for too long the VM could not be looked at, and the step goes on with what is on record."""


class StepUndetermined(StepTransition, frozen=True, kw_only=True):
    """Its outcome is not known even after an observation. It is never run again."""

    failure: Failure


class StepSkipped(StepTransition, frozen=True, kw_only=True):
    """It was not needed, or the operation ended before it, or it must not be issued."""

    failure: Failure | None = None
    """Why it must not be issued."""


def token_of(event: StepIssued | ObservationIssued, version: int) -> int:
    """Return the token that an event of this version in the stream has issued: it lies above the VM's token base."""
    return event.token_base + version


StepEvent = (
    StepIssued
    | StepWaitStarted
    | StepDone
    | StepFailed
    | StepDueAgain
    | StepNotSent
    | StepOutcomeUnknown
    | ObservationIssued
    | ObservationAnswered
    | StepUndetermined
    | StepSkipped
)
"""Everything that may happen to a step."""
