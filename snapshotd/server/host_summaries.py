"""What the events of hosts mean, in a sentence for people. Part of event_summaries.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from snapshotd.domain import events as e
from snapshotd.server.summary_words import because


def of_host(event: e.HostEvent, host: str) -> str:
    """Return what happened. `host`: its id."""
    match event:
        case e.HostRegistered():
            return f"Host {host} was registered at {event.address}:{event.port}, with credential {event.credential}."
        case e.HostUpdated():
            return f"Host {host} is reached another way from now on: {', '.join(_ways(event)) or 'nothing changed'}."
        case e.HostRemoved():
            return f"Host {host} was removed from the record."
        case e.HostTakenOver():
            former = event.former_installation_id or "nobody known"
            return f"Host {host} was taken over from installation {former}{because(event.reason)}"
        case e.HostSynced():
            left_out = f", {len(event.skipped)} left out" if event.skipped else ""
            return f"Host {host} was compared with the record: {event.vms} VMs, {event.drifts} differences{left_out}."
        case _:
            assert_never(event)


def _ways(event: e.HostUpdated) -> Iterator[str]:
    """Yield what is new about the way to a host, with both values."""
    for what in ("address", "port", "transport", "credential", "ca_file"):
        before, after = getattr(event, f"from_{what}"), getattr(event, f"to_{what}")
        if before != after:
            yield f"{what.replace('_', ' ')} {before or 'none'} -> {after or 'none'}"
