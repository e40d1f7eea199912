"""Requests of any kind, drawn by chance: the request of a kind's case, aimed at what the VM has by now.

A kind is in it by having a case. What a case names of its own world (snapshots, the foreign checkpoint, a volume)
stands for any of that sort; what it makes up (the id of a new snapshot, a new file) is made up anew.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.state import replace
from snapshotd.operations.catalogue import KINDS
from tests.fakes import World
from tests.unit.application.cases import CASES, DATA, FOREIGN, NEW, Case, sid

CASES_OF = {kind: tuple(case for case in CASES if case.request.kind == kind) for kind in KINDS}
_OF_CHAIN = frozenset(map(sid, (1, 2, 3)))
_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MADE_UP = frozenset(map(sid, (8, 9)))


class Drawing:
    """Draws requests.

    Args:
        chance: decides.
        world: what the requests are for.
        fresh: counts what is made up.
    """

    def __init__(self, chance: random.Random, world: World, fresh: Iterator[int]) -> None:
        self._chance, self._world, self._fresh = chance, world, fresh

    def of(self, case: Case) -> RequestOperation:
        """Return a request such as a case's."""
        kind = KINDS[case.request.kind]
        return kind.request(_each_text(kind.params.read(case.request.params), self._named))

    def any_kind(self) -> RequestOperation:
        """Return a request of any kind."""
        return self.of(self._chance.choice(CASES_OF[self._chance.choice(list(KINDS))]))

    def anew(self, request: RequestOperation) -> RequestOperation:
        """Return a request as the server makes it of the same call again: with other ids where it makes them up."""
        kind, known = KINDS[request.kind], str(self._world.vm)

        def other(text: str) -> str:
            made_up = _ID.fullmatch(text) and text not in known
            return f"{text[:-12]}{next(self._fresh):012d}" if made_up else text

        return kind.request(_each_text(kind.params.read(request.params), other))

    def _named(self, text: str) -> str:
        """Return what stands for something that a case names."""
        host, vm = self._world.host, self._world.vm
        foreign = [c for c in host.checkpoints.values() if vm.by_checkpoint(c.checkpoint_id) is None]
        if text in _OF_CHAIN and vm.snapshots:
            return self._chance.choice(list(vm.snapshots))
        if text in _MADE_UP:
            return sid(next(self._fresh))
        if text == FOREIGN and foreign:
            return self._chance.choice(foreign).checkpoint_id
        if text == "SCSI:0:1" and host.volumes:
            return self._chance.choice(list(host.volumes))
        if text in (NEW, DATA):
            return f"D:\\drawn{next(self._fresh)}.vhdx"
        return text


def _each_text(value: Any, turned: Callable[[str], str]) -> Any:  # noqa: ANN401  (whatever Params hold)
    """Return Params with each of their texts turned into another."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _each_text(getattr(value, f.name), turned) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(_each_text(each, turned) for each in value)
    return turned(value) if isinstance(value, str) else value
