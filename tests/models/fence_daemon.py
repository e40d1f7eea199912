"""The fence model's daemon: what it records and sends, and what it makes of the host's answers. See fence.py.

It is the daemon of `State.log`. What a person decides about a VM or a host is in fence_take_over.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tests.models.exploration import Step
from tests.models.fence_state import (
    EPOCH,
    Answer,
    Bounds,
    Command,
    Ended,
    Journal,
    Log,
    Rules,
    State,
    add,
    checkpoint_ids,
    drop,
    first_number,
    installation_of,
    name,
    truth,
)

Judgement = Literal["done", "maybe", "absent", "undetermined"]


def daemon_steps(s: State, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield what the daemon can do next."""
    if s.log.number <= bounds.last(s.log) and not s.log.rolled_back:
        yield from _sends(s, bounds)
    for answer in dict.fromkeys(s.answers):
        if installation_of(answer.operation) == s.log.installation:
            yield from _takes(s._replace(answers=drop(s.answers, answer)), answer, rules, bounds)


def _sends(s: State, bounds: Bounds) -> Iterator[Step[State]]:
    log = s.log
    operation, token = truth(log, log.number), log.token + (bounds.stride if log.installation == 1 else 1)
    more = s.spent < bounds.tokens

    def issued(command: Command, after: Log) -> State:
        return s._replace(log=after, spent=s.spent + 1, commands=add(s.commands, command))

    observe = Command("observe", operation, token)
    match log.phase:
        case "due" if more and (log.look_due or not log.journal_id):
            sent = issued(observe, log._replace(phase="looking", token=token))
            yield Step(f"daemon logs a look before op{operation}, token {token}, sends", sent)
        case "due" if more:
            before = log.before if log.first else checkpoint_ids(s)  # As the newest report has it.
            after = log._replace(phase="issued", token=token, before=before, first=True)
            sent = issued(Command("do", operation, token, before, log.journal_id), after)
            yield Step(f"daemon logs StepIssued op{operation} token {token}, sends", sent)
        case "issued" if more:
            lost = s._replace(log=log._replace(phase="unknown"))
            yield Step(f"daemon: no answer for op{operation}, outcome unknown", lost)
        case "unknown" if more:
            sent = issued(observe, log._replace(phase="observing", token=token))
            yield Step(f"daemon logs observation of op{operation} token {token}, sends", sent)
        case "observing" | "looking":
            again = Command("observe", operation, log.token)
            asked = (*s.commands, *(x.command for x in s.scripts))
            under_way = [(x.operation, x.token) for x in asked] + [(x.operation, x.token) for x in s.answers]
            if (operation, log.token) not in under_way:
                sent = s._replace(commands=add(s.commands, again))
                yield Step(f"daemon sends the observation of op{operation} token {log.token} again", sent)
        case _:
            pass


def _takes(s: State, answer: Answer, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield what can become of an answer that has just left the network."""
    log = s.log
    yield Step(f"network loses answer {answer}", s, fault=True)
    if s.lies < bounds.lies and rules.rolled_back and not log.rolled_back:
        lied = log._replace(rolled_back="noticed", lied_to=True)
        yield Step(
            f"daemon is told of a higher token than there is, with {answer}",
            s._replace(log=lied, lies=s.lies + 1),
            fault=True,
        )
    if (
        rules.rolled_back
        and log.number <= bounds.last(log)
        and not log.rolled_back
        and newer(log, answer.journal, rules, bounds)
    ):
        knows = f"token {answer.journal.highest} and op{answer.journal.operation}"
        noticed = log._replace(rolled_back="noticed", again=_was_taken_over(log, answer.journal))
        yield Step(f"daemon: the journal knows {knows}: rolled back", s._replace(log=noticed))
        return
    if answer.operation != truth(log, log.number) or log.rolled_back:
        return  # An ended operation, or one that this log does not know: ignored, which is the same as lost.
    said = f"op{answer.operation}"
    counts = log.phase not in ("due", "looking") and (answer.token == log.token or not rules.newest_only)
    match answer.kind:
        case "done" if log.phase != "looking":
            yield Step(f"daemon: {said} done (token {answer.token})", end(s, "ok", answer.checkpoint_id))
        case "stale":
            to = s._replace(log=log._replace(phase="unknown")) if log.phase == "issued" else s
            yield Step(f"daemon: {said} stale (token {answer.token})", to)
        case "no effect" if counts:
            yield Step(f"daemon: {said} had no effect, FAILED", end(s, "failed"))
        case "not begun" if log.phase == "issued" and answer.token == log.token:
            yield Step(f"daemon: {said} was not begun, FAILED", end(s, "failed"))
            again = log._replace(phase="due", before=(), first=False, look_due=True)
            yield Step(f"daemon: {said} was not begun, due again after a look", s._replace(log=again))
        case "seen" if log.phase == "looking" and answer.token == log.token:
            looked = log._replace(phase="due", look_due=False, journal_id=answer.journal.journal_id)
            yield Step(f"daemon has looked before {said}", s._replace(log=looked))
        case "seen" if counts:
            yield from _observed(s, answer, rules, bounds)
        case _:
            pass


def newer(log: Log, journal: Journal, rules: Rules, bounds: Bounds) -> bool:
    """Return whether a journal was written for another log: it has a token, or an operation, that is not on record."""
    if journal.highest > log.token:
        return True
    if journal.operation % EPOCH < first_number(log, bounds):
        return False  # None, or one whose name would be forgotten.
    known = (name(truth(log, n), rules) for n in range(1, log.number + 1))
    taken = log.taken_over.operation if rules.operation_known else 0
    return journal.operation not in (taken, *known)


def _was_taken_over(log: Log, journal: Journal) -> bool:
    """Return whether a journal knows nothing but what was taken over with it."""
    taken = log.taken_over
    return bool(taken.journal_id) and journal.highest <= taken.highest and journal.operation in (0, taken.operation)


def _observed(s: State, answer: Answer, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    judgement, checkpoint_id = _judge(s.log, answer, rules)
    if judgement == "maybe" and not bounds.adopt:
        judgement = "undetermined"
    log = s.log._replace(journal_id=answer.journal.journal_id)
    s = s._replace(log=log)
    said = f"daemon: op{answer.operation}"
    match judgement:
        case "done" | "maybe":
            yield Step(f"{said} observed, checkpoint {checkpoint_id} adopted", end(s, "ok", checkpoint_id))
        case "absent":
            yield Step(f"{said} observed absent, FAILED", end(s, "failed"))
            again = log._replace(phase="due", before=(), first=False)
            yield Step(f"{said} observed absent, due again", s._replace(log=again))
        case "undetermined":
            yield Step(f"{said} undetermined", end(s, "undetermined"))


def _judge(log: Log, answer: Answer, rules: Rules) -> tuple[Judgement, int]:
    """Return what an observation says of its operation, from the log and the report alone, and which checkpoint."""
    mine = [c for c in answer.checkpoints if c.marked == answer.operation]
    if mine:
        return "done", mine[0].checkpoint_id
    new = [c for c in answer.checkpoints if c.checkpoint_id not in log.before]
    if not new:
        return "absent", 0
    if answer.journal.journal_id != log.journal_id:
        return "undetermined", 0  # The evidence is gone, and somebody made a checkpoint.
    if (answer.journal.operation, answer.journal.phase) != (name(answer.operation, rules), "begun"):
        return "absent", 0  # The journal says that this operation never began: the new one is somebody else's.
    # Ours, unless somebody acted in that moment.
    return ("maybe", new[0].checkpoint_id) if len(new) == 1 else ("undetermined", 0)


def end(s: State, outcome: Literal["ok", "failed", "undetermined"], adopted: int = 0) -> State:
    """Return the state with the operation under way ended."""
    log = s.log
    ended = (*log.ended, Ended(outcome, adopted))
    return s._replace(log=log._replace(ended=ended, number=log.number + 1, phase="due", before=(), first=False))
