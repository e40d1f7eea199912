"""The fence model's daemon: what it records and sends, and what it makes of the host's answers. See fence.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tests.models.exploration import Step
from tests.models.fence_state import (
    Answer,
    Bounds,
    Command,
    Ended,
    Journal,
    Rules,
    State,
    add,
    checkpoint_ids,
    drop,
    name,
    truth,
)

Judgement = Literal["done", "maybe", "absent", "undetermined"]


def daemon_steps(s: State, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield what the daemon, and the person who watches it, can do next."""
    if s.number <= bounds.operations and not s.rolled_back:
        yield from _sends(s, bounds)
    if s.rolled_back and not s.job and not any(x.at for x in s.scripts):
        yield _taken_over(s)
    for answer in dict.fromkeys(s.answers):
        yield from _takes(s._replace(answers=drop(s.answers, answer)), answer, rules, bounds)


def _sends(s: State, bounds: Bounds) -> Iterator[Step[State]]:
    operation, token = truth(s, s.number), s.token + 1
    issued = s._replace(token=token, spent=s.spent + 1) if s.spent < bounds.tokens else None
    match s.phase:
        case "due" if issued:
            before = s.before if s.first else checkpoint_ids(s)  # As the newest report has it.
            command = Command("do", operation, token, before, s.journal_id)
            sent = issued._replace(phase="issued", before=before, first=True, commands=add(s.commands, command))
            yield Step(f"daemon logs StepIssued op{operation} token {token}, sends", sent)
        case "issued" if issued:
            yield Step(f"daemon: no answer for op{operation}, outcome unknown", s._replace(phase="unknown"))
        case "unknown" if issued:
            sent = issued._replace(phase="observing", commands=add(s.commands, Command("observe", operation, token)))
            yield Step(f"daemon logs observation of op{operation} token {token}, sends", sent)
        case "observing":
            again = Command("observe", operation, s.token)
            asked = (*s.commands, *(x.command for x in s.scripts))
            under_way = [(x.operation, x.token) for x in asked] + [(x.operation, x.token) for x in s.answers]
            if (operation, s.token) not in under_way:
                sent = s._replace(commands=add(s.commands, again))
                yield Step(f"daemon sends the observation of op{operation} token {s.token} again", sent)
        case _:
            pass


def _taken_over(s: State) -> Step[State]:
    """Return that a person takes the VM over: what it had under way ends, and its journal is on record from now on."""
    journals = s.journals + (not s.journal.journal_id)
    token = max(s.token, s.journal.highest) + 1
    journal = s.journal._replace(journal_id=s.journal.journal_id or journals, highest=token)
    taken = s._replace(
        rolled_back=False,
        token=token,
        journal_id=journal.journal_id,
        journals=journals,
        journal=journal,
        taken_over=s.journal.operation,
    )
    to = taken._replace(before=(), first=False) if s.phase == "due" else _end(taken, "undetermined")
    return Step(f"a person takes the VM over, token {token}", to)


def _takes(s: State, answer: Answer, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield what can become of an answer that has just left the network."""
    yield Step(f"network loses answer {answer}", s, fault=True)
    if rules.rolled_back and s.number <= bounds.operations and _newer(s, answer.journal, rules):
        knows = f"token {answer.journal.highest} and op{answer.journal.operation}"
        yield Step(f"daemon: the journal knows {knows}: rolled back", s._replace(rolled_back=True))
        return
    if answer.operation != truth(s, s.number) or s.rolled_back:
        return  # An ended operation, or one that this log does not know: ignored, which is the same as lost.
    said = f"op{answer.operation}"
    counts = s.phase != "due" and (answer.token == s.token or not rules.newest_only)
    match answer.kind:
        case "done":
            yield Step(f"daemon: {said} done (token {answer.token})", _end(s, "ok", answer.checkpoint_id))
        case "stale":
            to = s._replace(phase="unknown") if s.phase == "issued" else s
            yield Step(f"daemon: {said} stale (token {answer.token})", to)
        case "no effect" if counts:
            yield Step(f"daemon: {said} had no effect, FAILED", _end(s, "failed"))
        case "seen" if counts:
            yield from _observed(s, answer, rules, bounds)
        case _:
            pass


def _newer(s: State, journal: Journal, rules: Rules) -> bool:
    """Return whether a journal was written for a newer log: it has a token, or an operation, that is not on record."""
    if journal.highest > s.token:
        return True
    known = (name(truth(s, n), rules) for n in range(1, s.number + 1))
    return journal.operation not in (0, s.taken_over, *known)


def _observed(s: State, answer: Answer, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    judgement, checkpoint_id = _judge(s, answer, rules)
    if judgement == "maybe" and not bounds.adopt:
        judgement = "undetermined"
    s = s._replace(journal_id=answer.journal.journal_id)
    said = f"daemon: op{answer.operation}"
    match judgement:
        case "done" | "maybe":
            yield Step(f"{said} observed, checkpoint {checkpoint_id} adopted", _end(s, "ok", checkpoint_id))
        case "absent":
            yield Step(f"{said} observed absent, FAILED", _end(s, "failed"))
            yield Step(f"{said} observed absent, due again", s._replace(phase="due", before=(), first=False))
        case "undetermined":
            yield Step(f"{said} undetermined", _end(s, "undetermined"))


def _judge(s: State, answer: Answer, rules: Rules) -> tuple[Judgement, int]:
    """Return what an observation says of its operation, from the log and the report alone, and which checkpoint."""
    mine = [c for c in answer.checkpoints if c.marked == answer.operation]
    if mine:
        return "done", mine[0].checkpoint_id
    new = [c for c in answer.checkpoints if c.checkpoint_id not in s.before]
    if not new:
        return "absent", 0
    if answer.journal.journal_id != s.journal_id:
        return "undetermined", 0  # The evidence is gone, and somebody made a checkpoint.
    if (answer.journal.operation, answer.journal.phase) != (name(answer.operation, rules), "begun"):
        return "absent", 0  # The journal says that this operation never began: the new one is somebody else's.
    # Ours, unless somebody acted in that moment.
    return ("maybe", new[0].checkpoint_id) if len(new) == 1 else ("undetermined", 0)


def _end(s: State, outcome: Literal["ok", "failed", "undetermined"], adopted: int = 0) -> State:
    ended = (*s.ended, Ended(outcome, adopted))
    return s._replace(ended=ended, number=s.number + 1, phase="due", before=(), first=False)
