"""The numbers that decisions depend on: limits, deadlines, back-off.

All come from settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.ids import HostId

ANY_HOST: Final = HostId("*")
"""Stands for each host that is not named."""
LONGEST_POLL_S = 10.0
"""The longest interval between two polls, however long a wait takes: people look at it meanwhile."""
HYPERV_CHECKPOINT_LIMIT = 50
"""Checkpoints of any kind that Hyper-V allows a VM (documented)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits and times, in seconds where the name ends in _s."""

    max_per_vm: int = 10
    """`snapshots.max_per_vm`: snapshots that have a checkpoint or may get one."""
    old_after_s: float = 30 * 86400.0
    """`snapshots.old_after`: the age from which a plan warns of what a revert brings back out of date."""
    create_wait_s: float = 1800.0
    """`snapshots.create_wait`: of one attempt, counted from its StepIssued."""
    revert_wait_s: float = 1800.0
    remove_wait_s: float = 600.0
    power_wait_s: float = 600.0
    """Starting and stopping a VM."""
    merge_poll_s: float = 2.0
    """First interval between two polls of a merge; grows to LONGEST_POLL_S."""
    merge_stall_s: float = 1800.0
    """`snapshots.merge_stall`: how long files may be left, with no job under way, until the wait fails."""
    job_stall_s: float = 1800.0
    """`jobs.stall`: how long a job of a host, such as a copy or an export, may stand still until the wait fails."""
    volume_snapshot_directories: Mapping[HostId, str] = field(default_factory=dict)
    """`volume_snapshots.directory`: the folder for copies on each host, as that names it; ANY_HOST for all others."""
    move_wait_s: float = 60.0
    """How long an operation whose VM its host does not have waits for another host to report it."""
    max_attempts: int = 5
    """Of an effect. Observation has no limit."""
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    export_policy: ExportPolicy = ExportPolicy.NEVER
    """`export.policy`: when a VM is exported by itself that has no policy of its own."""
    export_directory: str = ""
    """`export.directory`: a folder as the hosts see it; empty: none."""
    export_release: bool = False
    """`export.release`: an export after a stop also removes the VM from its host."""
    export_attempts: int = 100
    """`export.attempts`: how often an export is begun, at most, before its operation fails."""
    answer_grace_s: float = 10.0
    """How long after a step's deadline the executor may report that it ended the script."""
    observe_wait_s: float = 60.0
    """Deadline of an observation, a report and a poll."""

    def volume_snapshot_directory(self, host_id: HostId) -> str:
        """Return the folder for copies of disks on a host; empty: none is named."""
        named = self.volume_snapshot_directories
        return named.get(host_id) or named.get(ANY_HOST, "")

    def backoff_s(self, attempts: int) -> float:
        """Return how long to wait after the n-th attempt (n from 1) before the next."""
        return _doubled(self.backoff_first_s, attempts, self.backoff_max_s)

    def poll_interval_s(self, polls: int) -> float:
        """Return how long to wait after the n-th poll (n from 1) before the next."""
        return _doubled(self.merge_poll_s, polls, min(LONGEST_POLL_S, self.backoff_max_s))


def _doubled(first_s: float, count: int, most_s: float) -> float:
    # An unreachable host is observed for ever: 2.0 ** 1024 would be too large for a float.
    return min(most_s, first_s * 2.0 ** min(max(0, count - 1), 30))
