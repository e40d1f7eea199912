"""Rebuild: drops the views, and makes them again from the log. Changes nothing else."""

from __future__ import annotations

from pathlib import Path

from projections.projections import Projections
from projections.store import drop_views
from snapshotd.ports.event_log import EventLog


async def rebuild(log: EventLog, path: Path) -> int:
    """Make views.db again; return the position that it reached. Nobody else may have it open."""
    drop_views(path)
    projections = Projections(log, path)
    try:
        await projections.catch_up()
        return min(p.position for p in projections.views.progress())
    finally:
        projections.close()
