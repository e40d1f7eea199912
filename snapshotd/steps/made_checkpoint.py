"""What is on record of the checkpoint that an operation has made: others of its steps go by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.operation import Operation
from snapshotd.ports.versioned import Versioned

NAME: Final = ActionName("checkpoint_create")
"""Of the action that makes one."""


@dataclass(frozen=True, slots=True)
class Output:
    """What was made."""

    checkpoint_id: CheckpointId
    has_memory: bool


OUTPUT: Final[Versioned[Output]] = Versioned(Output)


def made_checkpoint(operation: Operation) -> Output | None:
    """Return the checkpoint that an operation has made, the last one; None if it has made none."""
    recorded = operation.output_of(NAME)
    return OUTPUT.read(recorded) if recorded else None
