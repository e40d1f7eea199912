"""A model of a Hyper-V host: VMs, checkpoints, disk files with content, jobs, faults, and the ground truth."""

from snapshotd.simulator.model.opened import SimulatedHyperV, open_host

__all__ = ["SimulatedHyperV", "open_host"]
