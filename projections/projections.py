"""All projections of one log in one views.db: followed by `run`, read by `views`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from projections import audit, inventory, operations, tree
from projections.audit import AUDIT
from projections.inventory import INVENTORY
from projections.operations import OPERATIONS_PROJECTION
from projections.reading import open_reader
from projections.runner import Runner
from projections.store import open_views, script_of
from projections.tree import TREE
from projections.views import SqliteViews
from snapshotd.domain import host, operation_fold, snapshot, virtual_machine, vm_notes, volume_snapshot
from snapshotd.ports.event_log import EventLog

ALL: Final = (TREE, OPERATIONS_PROJECTION, INVENTORY, AUDIT)
"""Every projection."""
_FOLDS: Final = (
    audit,
    inventory,
    operations,
    tree,
    host,
    operation_fold,
    snapshot,
    virtual_machine,
    vm_notes,
    volume_snapshot,
)
SCRIPT: Final = script_of([table for projection in ALL for table in projection.tables], _FOLDS)
"""The script that makes their file."""


class Projections:
    """The views of a log.

    Args:
        log: what they are made from.
        path: views.db; made if missing, and made again if it is not usable.

    Raises LogLost if it holds more than the log.
    """

    def __init__(self, log: EventLog, path: Path) -> None:
        self._writer = open_views(path, log.head_position(), SCRIPT)
        self._reader = open_reader(path)
        self._runner = Runner(log, self._writer, ALL)
        self.views = SqliteViews(self._reader, self._runner)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        await self._runner.run()

    async def catch_up(self) -> None:
        """Take in everything that the log holds by now."""
        while await self._runner.catch_up():
            pass

    def close(self) -> None:
        """Close the file."""
        self._runner.close()
        self.views.close()
        self._reader.close()
        self._writer.close()
