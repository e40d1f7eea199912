"""What an action of the host script acts on, and how it waits for a result to show. Carries no action out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from snapshotd.simulator.hypervisor import Caller, HyperVError, Hypervisor, VmView

_POLL_S: Final = 0.02


class Script(Caller, Protocol):
    """The running script, as far as an action needs it."""

    def pause(self, seconds: float) -> None:
        """Wait. Raises ScriptKilled when it dies meanwhile."""


class NotReached(Exception):
    """The cmdlet returned, but its result did not show in time."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What an action acts on."""

    host: Hypervisor
    script: Script
    found: VmView | None
    """The VM as it was when it was compared with `before`; None: the host does not have it."""
    own_checkpoint_type: str
    type_to_set: str
    """CheckpointType that is set before the action; empty: none."""
    wait_s: float
    """How long the result may take to show after the cmdlet has returned, seconds."""

    @property
    def vm(self) -> VmView:
        """The VM. Only an action that acts without it (before.OF_ABSENT) may find none."""
        assert self.found is not None
        return self.found


def until(scene: Scene, reached: Callable[[], bool], otherwise: str) -> None:
    """Wait until the result of a cmdlet shows. Raises NotReached, ScriptKilled.

    Args:
        scene: what the action acts on.
        reached: whether it shows.
        otherwise: what is so if it does not, for people.
    """
    deadline = time.monotonic() + scene.wait_s
    while True:
        # The cmdlet has returned, so a look that fails is no refusal: it is taken again until the time is over.
        failed = ""
        try:
            if reached():
                return
        except HyperVError as error:
            failed = f" The last look failed: {error}"
        if time.monotonic() >= deadline:
            raise NotReached(f"{otherwise} {scene.wait_s:g} s after the cmdlet returned.{failed}")
        scene.script.pause(_POLL_S)
