"""What happens to the claim on a volume: which VM it belongs to."""

from __future__ import annotations

from enum import Enum

from snapshotd.domain.ids import VmId
from snapshotd.domain.state import State


class ClaimCause(Enum):
    """Why a VM has a volume to itself."""

    REQUESTED = "REQUESTED"
    """It is about to be attached to it."""
    ATTACHED_BY_OTHERS = "ATTACHED_BY_OTHERS"
    """It was attached to it on its host, not by snapshotd."""
    DELETION = "DELETION"
    """It is the file of a volume snapshot of it, and about to be deleted."""


class ReleaseCause(Enum):
    """Why a VM does not have a volume to itself any more."""

    NOT_ATTACHED = "NOT_ATTACHED"
    """It is not attached to it, and no operation is about to attach or delete it."""
    UNREGISTERED = "UNREGISTERED"
    """The VM is not registered any more."""


class VolumeClaimed(State, frozen=True, kw_only=True):
    """A volume belongs to a VM: no other may attach it."""

    vm_id: VmId
    path: str
    """As it was given, or reported."""
    cause: ClaimCause


class VolumeReleased(State, frozen=True, kw_only=True):
    """A volume belongs to its VM no longer."""

    vm_id: VmId
    path: str
    cause: ReleaseCause


VolumeEvent = VolumeClaimed | VolumeReleased
"""Everything that may stand in a volume's stream."""
