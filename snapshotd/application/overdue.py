"""The watchdog's rule: since when an operation takes longer than its kind should, and which ways lead out.

By the time limits of its steps, not by one number for all: a merge may go on for hours while the host is seen at work,
and a start may not. Pure; the clock may be set back or forth, and then it only tells too late or too early.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Operation, Step
from snapshotd.domain.policy import Policy
from snapshotd.operations.catalogue import KINDS


def overdue_since(
    operation: Operation, now: datetime, policy: Policy, worked_at: datetime | None = None
) -> datetime | None:
    """Return since when an operation should have come forward; None: it is in time, or has ended.

    Args:
        operation: the operation.
        now: the time.
        policy: the time limits.
        worked_at: when the host was last seen at work for it; None: nobody has seen that.
    """
    step = operation.current_step
    if not operation.active or step is None:
        return None
    due = _due_by(operation, step, policy, worked_at)
    return due if due <= now else None


def _due_by(operation: Operation, step: Step, policy: Policy, worked_at: datetime | None) -> datetime:
    """Return until when an operation should have come forward from its current step."""
    limit = timedelta(seconds=KINDS[operation.kind].time_limit_s(operation, step, policy))
    # What follows a step's end: its answer, a look, and the longest pause between two looks.
    grace = timedelta(seconds=policy.answer_grace_s + policy.observe_wait_s + policy.backoff_max_s)
    if step.state is StepState.WAITING:
        seen = [time for time in (step.started_at, worked_at) if time is not None]
        return max(seen) + limit + grace
    if step.open:
        assert step.deadline is not None, step
        return step.deadline + grace
    # An attempt that was never sent counts for none, so an outage does not put this off.
    return _became_current(operation) + limit * (step.attempts + 1) + grace


def _became_current(operation: Operation) -> datetime:
    """Return when the step before the current one ended; for the first one, when the operation was requested."""
    ended = [s.changed_at for s in operation.steps if s.state.at_rest and s.changed_at is not None]
    return max([operation.requested_at, *ended])


def way_out(operation: Operation) -> str:
    """Return what a person can do about an operation that does not come forward, with the command."""
    name = operation.name
    settle = f"`snapshotctl operation settle {name} given-up --reason TEXT`"
    if operation.active and not operation.cancel_requested and not operation.too_late_to_cancel():
        return f"Cancel it (`snapshotctl operation cancel {name}`); if it does not end then, settle it ({settle})."
    return f"It can no longer be cancelled. If its host will never tell what came of it, settle it ({settle})."
