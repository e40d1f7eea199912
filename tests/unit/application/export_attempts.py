"""What counts of the effects of an operation whose export may be begun anew: where its VM has moved amid it, say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from snapshotd.domain.ids import ActionName
from tests.asking import COMPLETE, CREATE, END_EXPORT, EXPORT_VM
from tests.unit.application.cases import Case, once

Effect: TypeAlias = tuple[ActionName, str, int]
"""Its action, operation and step."""


def counting(effects: Iterable[Effect]) -> list[Effect]:
    """Return the effects that count where a VM has moved: an export is begun anew on a host that does not know its job.

    What a step of an export does may be done again, where no journal knows of it; once counts.
    """
    kept = list[Effect]()
    for effect in effects:
        if effect[0] == EXPORT_VM:
            begun = next((n for n, (action, _, _) in enumerate(kept) if action == EXPORT_VM), len(kept))
            actions = [action for action, _, _ in kept[begun:]]
            assert set(actions) <= {EXPORT_VM, COMPLETE, END_EXPORT}, kept
            assert actions[-1:] in ([], [END_EXPORT]), "what an attempt has left is removed first"
            del kept[begun:]
        if effect[0] not in (COMPLETE, END_EXPORT) or kept[-1][0] != effect[0]:
            kept.append(effect)
    return kept


def as_told(case: Case, effects: Iterable[Effect]) -> bool:
    """Return whether the effects that count are those of a case."""
    effects = tuple(effects)
    if EXPORT_VM not in case.effects:
        return once(action for action, _, _ in effects) == list(case.effects)
    return tuple(action for action, _, _ in counting(effects)) in (case.effects, without_export(case))


def without_export(case: Case) -> tuple[ActionName, ...]:
    """Return the effects of a case whose export came to nothing, if it was made besides what the operation is for."""
    besides = CREATE in case.effects and EXPORT_VM in case.effects
    return (*case.effects[: case.effects.index(EXPORT_VM) + 1], END_EXPORT) if besides else case.effects
