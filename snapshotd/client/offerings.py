"""A VM's CPUs and memory, for people."""

from __future__ import annotations

from snapshotd.api.v1.virtual_machine_pb2 import ServiceOffering
from snapshotd.client.render import counted, size


def offering_text(offering: ServiceOffering) -> str:
    """Return what an offering says, without what is not known: "4 CPUs, 8.0 GiB, dynamic to 16.0 GiB"."""
    parts = [counted(offering.cpu_count, "CPU")] if offering.cpu_count else []
    memory = memory_text(offering)
    return ", ".join([*parts, *([memory] if memory else [])])


def memory_text(offering: ServiceOffering) -> str:
    """Return what an offering says of memory."""
    parts = [size(offering.memory_bytes)] if offering.memory_bytes else []
    if offering.HasField("dynamic_memory"):
        parts.append("dynamic" if offering.dynamic_memory else "not dynamic")
    bounds = [
        f"{word} {size(value)}"
        for word, value in (("from", offering.minimum_bytes), ("to", offering.maximum_bytes))
        if value and (offering.dynamic_memory or not offering.HasField("dynamic_memory"))
    ]
    return " ".join([", ".join(parts), *bounds]).strip()
