"""The fence model's network, and the backup that the log can be restored from. See fence.py."""

from __future__ import annotations

from collections.abc import Iterator

from tests.models.exploration import Step
from tests.models.fence_state import Bounds, Log, Script, State, add, drop, first_number


def network_steps(s: State, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield what can become of each command under way. What can become of an answer stands with the daemon."""
    for command in dict.fromkeys(s.commands):
        rest = s._replace(commands=drop(s.commands, command))
        yield Step(f"network loses {command}", rest, fault=True)
        if s.doubled < bounds.doubled:
            twice = s._replace(commands=add(s.commands, command), doubled=s.doubled + 1)
            yield Step(f"network doubles {command}", twice, fault=True)
        if len(s.scripts) < 2:  # One has the mutex, and one comes to it: a third would see nothing else.
            yield Step(f"host starts {command}", rest._replace(scripts=add(s.scripts, Script(command))))


def restore_steps(s: State, bounds: Bounds) -> Iterator[Step[State]]:
    """Yield that the log is replaced by a backup from before its first operation."""
    if s.restored < bounds.restored and s.spent:
        backup = Log(epoch=s.log.epoch + 1, number=first_number(s.log, bounds))
        yield Step("the log is restored from a backup", s._replace(log=backup, restored=s.restored + 1), fault=True)
