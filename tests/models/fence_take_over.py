"""The fence model's people: a VM is taken over, and a host changes hands. See fence.py and ADR 0016.

What somebody reads of the host, and what is recorded of it, are two steps: the host goes on in between.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.models.exploration import Step
from tests.models.fence_daemon import end, newer
from tests.models.fence_state import SECOND, Bounds, Journal, Log, Rules, State


def person_steps(s: State, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield what people can do next for the log of `State.log`."""
    yield from _takes_vm_over(s, rules)
    yield from _disproves(s, rules, bounds)
    yield from _takes_host_back(s, rules, bounds)


def second_installation_steps(s: State, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield how a second installation comes to the host: it takes it over, and registers the VM with its journal."""
    if s.other is not None:
        return
    if s.owner == 1:
        if s.handed < bounds.handed:
            yield Step(
                "a second installation takes the host over", s._replace(owner=2, handed=s.handed + 1), fault=True
            )
        return
    log = Log(installation=2, epoch=SECOND, journal_id=0)
    yield Step("the second installation registers the VM", s._replace(other=_above(log, s.journal, rules)))


def _takes_vm_over(s: State, rules: Rules) -> Iterator[Step[State]]:
    log = s.log
    if not log.rolled_back or s.owner != log.installation:
        return
    if log.read is None:
        if not s.job:
            yield Step("the journal is read for a take-over", s._replace(log=log._replace(read=s.journal)))
        return
    taken = _above(log._replace(read=None, rolled_back="", lied_to=False), log.read, rules)
    # What was not begun ends too, and is asked for again: here with the same number.
    fresh = taken._replace(before=(), first=False, phase="due")
    to = s._replace(log=fresh) if log.phase in ("due", "looking") else end(s._replace(log=taken), "undetermined")
    yield Step(f"the VM is taken over, token {taken.token}", to)


def _above(log: Log, journal: Journal, rules: Rules) -> Log:
    """Return a log that goes on from a journal."""
    token = max(log.token, journal.highest) if rules.token_base else log.token
    return log._replace(token=token, journal_id=journal.journal_id, taken_over=journal, look_due=rules.look_first)


def _disproves(s: State, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield that a later look shows that the journal knows no more than the log."""
    log = s.log
    same = s.journal.journal_id == log.journal_id or not rules.same_journal
    if log.rolled_back == "noticed" and same and not newer(log, s.journal, rules, bounds):
        cleared = log._replace(rolled_back="", read=None, lied_to=False)
        yield Step("daemon: the journal knows no more than the log after all", s._replace(log=cleared))


def _takes_host_back(s: State, rules: Rules, bounds: Bounds) -> Iterator[Step[State]]:
    log = s.log
    if s.owner == log.installation or s.other is None or s.handed >= bounds.handed:
        return
    if rules.blocked_first and log.rolled_back != "blocked":
        blocked = s._replace(log=log._replace(rolled_back="blocked", read=None))
        yield Step(
            f"installation {log.installation} is about to take the host back: the VM is blocked", blocked, fault=True
        )
        return
    back = s._replace(owner=log.installation, handed=s.handed + 1)
    yield Step(f"installation {log.installation} takes the host back", back, fault=True)
