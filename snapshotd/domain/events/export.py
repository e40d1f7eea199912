"""What happens to a VM's exports, and to a VM that is kept as one."""

from __future__ import annotations

from snapshotd.domain.state import State


class VmExported(State, frozen=True, kw_only=True):
    """A complete export of the VM is in a folder of its own."""

    directory: str
    configuration_path: str
    size_bytes: int
    of_version: int
    """The VM's version when the export was begun."""


class ExportRemoved(State, frozen=True, kw_only=True):
    """An export was removed: a newer one is complete, or its files were the VM's disks and were deleted as these."""

    directory: str


class VmReleased(State, frozen=True, kw_only=True):
    """The VM was removed from its host after an export: it is expected to be absent until it is imported."""

    directory: str
    configuration_path: str


class VmReleaseEnded(State, frozen=True, kw_only=True):
    """The VM is on a host again."""

    cause: str
    """`step`: it was imported from the export that it was released to. `drift`: others have brought it back."""


ExportEvent = VmExported | ExportRemoved | VmReleased | VmReleaseEnded
"""Everything that may happen to exports."""
