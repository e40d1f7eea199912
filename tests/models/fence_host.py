"""The fence model's host: scripts, of which each does one action at a time, and the hypervisor. See fence.py."""

from __future__ import annotations

from collections.abc import Iterator

from tests.models.exploration import Step
from tests.models.fence_state import (
    NO_JOURNAL,
    Answer,
    Bounds,
    Checkpoint,
    Journal,
    Rules,
    Script,
    State,
    add,
    checkpoint_ids,
    drop,
    installation_of,
    name,
)


def host_steps(s: State, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield what the scripts, the hypervisor and those who work at the host can do next."""
    held = any(x.at for x in s.scripts)
    for script in dict.fromkeys(s.scripts):
        rest = s._replace(scripts=drop(s.scripts, script))
        if s.killed < bounds.killed:
            label = f"host: script {script.command} killed at step {script.at}"
            yield Step(label, rest._replace(killed=s.killed + 1), fault=True)
        if script.at > 1:
            yield from _acts(rest, script, rules)
        elif script.at:
            yield from _checked(rest, script, rules, bounds)
        elif held:
            yield Step(f"host: {script.command} refused, busy", rest)
        elif not bounds.handed:
            yield from _checked(rest, script, rules, bounds)
        elif rules.owner and installation_of(script.command.operation) != s.owner:
            yield Step(f"host: {script.command} refused, the host is another's", rest)
        else:
            checked = add(rest.scripts, Script(script.command, 1))
            yield Step(f"host: {script.command} may act: the host is its owner's", rest._replace(scripts=checked))
    new = max((c.checkpoint_id for c in s.checkpoints), default=0) + 1
    if s.job:
        appeared = (*s.checkpoints, Checkpoint(new, s.job))
        yield Step(f"hypervisor: checkpoint {new} of op{s.job} appears", s._replace(job=0, checkpoints=appeared))
    elif s.foreign < bounds.foreign:
        taken = s._replace(foreign=s.foreign + 1, checkpoints=(*s.checkpoints, Checkpoint(new, 0)))
        yield Step(f"somebody takes checkpoint {new} by hand", taken, fault=True)
    if s.wiped < bounds.wiped and not held and s.journal.journal_id:
        yield Step("the journal is lost", s._replace(wiped=s.wiped + 1, journal=NO_JOURNAL), fault=True)


def _checked(s: State, script: Script, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield what the script does first, with the mutex: the order of checks of docs/host-protocol.md."""
    settled = _settled(s, script, rules)
    yield settled or _looks(s, script, rules)
    kind, operation, token, _, told_of = script.command
    named = s.journal.journal_id == told_of or not rules.journal_id
    if settled is None and kind == "do" and named and s.unseen < bounds.unseen:
        fenced = s.journal._replace(highest=max(s.journal.highest, token)) if rules.refusal_fences else s.journal
        refused = s._replace(unseen=s.unseen + 1, journal=fenced)
        label = f"host: {script.command} cannot look at the VM, not begun"
        yield Step(label, _answered(refused, Answer("not begun", operation, token, _told(fenced))), fault=True)


def _settled(s: State, script: Script, rules: Rules) -> Step[State] | None:
    """Return what the journal alone says of a command; None: nothing."""
    command, journal = script.command, s.journal
    kind, operation, token = command.kind, command.operation, command.token
    if kind == "do" and journal.operation == name(operation, rules) and journal.phase == "done":
        done = next(c for c in s.checkpoints if c.marked and name(c.marked, rules) == journal.operation)
        answer = Answer("done", operation, token, _told(journal), done.checkpoint_id)
        return Step(f"host: op{operation} was done, stored answer", _answered(s, answer))
    acted = kind == "do" and token == journal.highest and rules.acts_once
    if acted or (token < journal.highest and rules.token):
        answer = Answer("stale", operation, token, _told(journal)._replace(operation=0))
        return Step(f"host: {command} is stale (highest {journal.highest})", _answered(s, answer))
    return None


def _looks(s: State, script: Script, rules: Rules) -> Step[State]:
    """Return what the script makes of the VM, if nothing is settled by the journal."""
    command, journal = script.command, s.journal
    kind, operation, token, before, told_of = command
    if s.job and rules.job_wait:
        return Step(f"host: {command}: the hypervisor is busy", s)
    highest = max(journal.highest, token)
    if kind == "observe":
        journals = s.journals + (not journal.journal_id)
        fenced = journal._replace(journal_id=journal.journal_id or journals)
        if rules.observe_fences:
            fenced = fenced._replace(highest=highest)
        return Step(f"host: {command} observed", _seen(s._replace(journals=journals), operation, token, fenced))
    if rules.journal_id and journal.journal_id != told_of:
        return Step(f"host: {command}: not the journal it was told of, refused", s)
    if rules.act_on_before and checkpoint_ids(s) != before:
        fenced = journal._replace(highest=highest)
        return Step(f"host: {command}: not the state it was told, reported", _seen(s, operation, token, fenced))
    journals = s.journals + (not journal.journal_id)
    begun = Journal(journal.journal_id or journals, highest, name(operation, rules), "begun")
    scripts = add(s.scripts, Script(command, 2))
    return Step(f"host: {command} begun", s._replace(scripts=scripts, journals=journals, journal=begun))


def _acts(s: State, script: Script, rules: Rules) -> Iterator[Step[State]]:
    """Yield what the script can do once it has begun."""
    command, operation, token = script.command, script.command.operation, script.command.token
    if script.at == 2:
        if checkpoint_ids(s) == command.before and not s.job:  # Compared once more: nothing has happened.
            answer = Answer("no effect", operation, token, _told(s.journal))
            yield Step(f"host: the cmdlet refuses {command}, answers no effect", _answered(s, answer))
        asked = s._replace(scripts=add(s.scripts, Script(command, 3)), job=s.job or operation)
        yield Step(f"host: {command} asks the hypervisor", asked)
    elif script.at == 3:
        mine = [c for c in s.checkpoints if c.owner == operation]
        if mine and not s.job:
            marked = tuple(c._replace(marked=operation) if c == mine[-1] else c for c in s.checkpoints)
            scripts = add(s.scripts, Script(command, 4))
            yield Step(f"host: op{operation} marks its checkpoint", s._replace(scripts=scripts, checkpoints=marked))
    else:
        done = next(c for c in s.checkpoints if c.marked == operation)
        journal = s.journal._replace(operation=name(operation, rules), phase="done")
        answer = Answer("done", operation, token, _told(journal), done.checkpoint_id)
        yield Step(f"host: {command} journal done, answers", _answered(s._replace(journal=journal), answer))


def _told(journal: Journal) -> Journal:
    """Return what counts of a journal in an answer that is not about it."""
    return Journal(0, journal.highest, journal.operation)


def _answered(s: State, answer: Answer) -> State:
    return s._replace(answers=add(s.answers, answer))


def _seen(s: State, operation: int, token: int, journal: Journal) -> State:
    """Return the state after a report, with the journal as it is told and kept."""
    answer = Answer("seen", operation, token, journal, checkpoints=s.checkpoints)
    return _answered(s._replace(journal=journal), answer)
