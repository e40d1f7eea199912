"""The etag of a plan: the same as long as a request would lead to the same steps, and to the same in the end. Pure."""

from __future__ import annotations

import hashlib
import json

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.operation import PlannedStep
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS
from snapshotd.ports import plain
from snapshotd.steps.catalogue import ACTIONS


def plan_etag(vm: VirtualMachine, request: RequestOperation, steps: tuple[PlannedStep, ...]) -> str:
    """Return the etag of what an acceptable request would lead to.

    What each call makes up anew, such as the id of a snapshot that is to be taken, does not count.

    Args:
        vm: as it is before the request.
        request: as it was asked.
        steps: the plan.
    """
    seen = KINDS[request.kind].preview(vm, request)

    def known(snapshot_id: SnapshotId | None) -> str:
        return "-" if snapshot_id is not None and snapshot_id not in vm.snapshots else snapshot_id or ""

    content = [
        request.kind,
        [_step(step, known(step.snapshot_id)) for step in steps],
        [(child, known(parent)) for child, parent in seen.moved],
        known(seen.current),
        seen.power.name,
        list(seen.discarded),
        seen.memory_lost,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _step(step: PlannedStep, about: str) -> list[object]:
    action = ACTIONS[step.action]
    wanted = plain.encode(action.input.read(step.input))
    return [step.action, step.nature.name, about, {k: v for k, v in wanted.items() if k not in action.made_up}]
