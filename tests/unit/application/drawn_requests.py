"""Requests of any kind, drawn by chance: the request of a kind's case, aimed at what the VM has by now.

A kind is in it by having a case. What a case names of its own world (snapshots, the foreign checkpoint, a volume)
stands for any of that sort; what it makes up (the id of a new snapshot, a new file) is made up anew.
"""

from __future__ import annotations

import random
from dataclasses import fields, is_dataclass, replace
from itertools import count
from typing import Any

from snapshotd.domain.commands import RequestOperation
from snapshotd.operations.catalogue import KINDS
from tests.fakes import World
from tests.unit.application.cases import CASES, DATA, FOREIGN, NEW, Case, sid

CASES_OF = {kind: tuple(case for case in CASES if case.request.kind == kind) for kind in KINDS}
_OF_CHAIN = frozenset(map(sid, (1, 2, 3)))
_MADE_UP = frozenset(map(sid, (8, 9)))


class Drawing:
    """Draws requests.

    Args:
        chance: decides.
        world: what the requests are for.
    """

    def __init__(self, chance: random.Random, world: World) -> None:
        self._chance, self._world = chance, world
        self._fresh = count(100)

    def of(self, case: Case) -> RequestOperation:
        """Return a request such as a case's."""
        kind = KINDS[case.request.kind]
        return kind.request(self._aimed(kind.params.read(case.request.params)))

    def any_kind(self) -> RequestOperation:
        """Return a request of any kind."""
        return self.of(self._chance.choice(CASES_OF[self._chance.choice(list(KINDS))]))

    def _aimed(self, value: Any) -> Any:  # noqa: ANN401  (whatever Params hold)
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{f.name: self._aimed(getattr(value, f.name)) for f in fields(value)})
        if isinstance(value, tuple):
            return tuple(map(self._aimed, value))
        return self._named(value) if isinstance(value, str) else value

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
