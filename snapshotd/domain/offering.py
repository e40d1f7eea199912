"""What a VM has of its host's processors and memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """Processors and memory of a VM, as its host has set them."""

    cpu_count: int
    memory_bytes: int
    """At its start."""
    dynamic_memory: bool = False
    """Hyper-V gives and takes memory while the VM runs, between the two bounds."""
    minimum_bytes: int = 0
    """The lower bound, which Hyper-V keeps also while memory is not dynamic; 0: not known."""
    maximum_bytes: int = 0
    """The upper one, likewise."""
