"""All projections of one log in one views.db: followed by `run`, read by `views`."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from projections import audit, inventory, operations, postings, tree
from projections.audit import AUDIT
from projections.inventory import INVENTORY
from projections.operations import OPERATIONS_PROJECTION
from projections.reading import Reader, damage_found, open_reader
from projections.runner import Runner
from projections.store import make_views, open_views, script_of
from projections.tree import TREE
from projections.views import SqliteViews
from snapshotd.domain import host, names, operation_fold, snapshot, vm_notes, vm_record, volume_snapshot
from snapshotd.domain.errors import SnapshotdError
from snapshotd.ports import views
from snapshotd.ports.event_log import EventLog
from snapshotd.store.interruptible import read_through

_log = logging.getLogger(__name__)
_CHECK_AGAIN_S: Final = 60.0
"""When the file is read through again, if that could not be done."""
_MEND_AGAIN_S: Final = 60.0
"""How long a file that was made again is left alone."""
_AGAIN_S: Final = 1.0
"""How often a file is tried to be made that cannot be made."""

ALL: Final = (TREE, OPERATIONS_PROJECTION, INVENTORY, AUDIT)
"""Every projection."""
_FOLDS: Final = (
    audit,
    postings,
    inventory,
    operations,
    tree,
    host,
    operation_fold,
    snapshot,
    vm_notes,
    vm_record,
    volume_snapshot,
    names,
    views,
)
"""The modules that make what is in the rows."""
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
        self._log = log
        self._path = path
        self._writer = open_views(path, log.head_position(), SCRIPT)
        self._reader = open_reader(path)
        self._runner = Runner(log, self._writer, ALL)
        self.views = SqliteViews(self._reader, self._runner)

    async def run(self) -> None:
        """Follow the log until cancelled. If the file turns out to be damaged, make it again."""
        beside = [
            asyncio.create_task(self._look_through(), name="look through the views"),
            asyncio.create_task(self._mend(), name="mend the views"),
        ]
        try:
            await self._runner.run()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _look_through(self) -> None:
        """Read the whole file, beside all else: what a crash or a disk has damaged is not to be believed for long.

        Not before the views follow the log: a start has enough to do.
        """
        await self._runner.caught_up.wait()
        damage = None
        while damage is None:
            try:
                damage = await self._looked_through()
            except sqlite3.Error as error:
                _log.warning("%s could not be read through, and will be later: %s", self._path, error)
                await asyncio.sleep(_CHECK_AGAIN_S)
        if damage:
            self._runner.damage.put_nowait(damage)

    async def _mend(self) -> None:
        """Make the file again whenever damage was found. On a disk that damages all, no more often than must be."""
        damage = self._runner.damage
        while True:
            found = await damage.get()
            await self._make_again()
            _log.warning("Making %s again from the log: %s", self._path, found)
            while not damage.empty():
                damage.get_nowait()  # of the former file
            await asyncio.sleep(_MEND_AGAIN_S)

    async def _looked_through(self) -> str:
        """Return what is wrong inside the file; empty: nothing is. Raises sqlite3.Error."""
        with closing(open_reader(self._path)) as connection:
            return await read_through(connection, damage_found)

    async def _make_again(self) -> None:
        """Begin with an empty file. Reads wait until it holds what they ask for."""
        async with self._runner.turn:
            self._runner.forget()
            self.views.wait_for(self._log.head_position())
            while True:
                try:
                    await self.views.exchange(self._made_again)
                except SnapshotdError as error:
                    _log.error("%s", error)
                    await asyncio.sleep(_AGAIN_S)
                else:
                    break
            self._runner.begin(self._writer)

    def _made_again(self) -> Reader:
        self._reader.close()
        self._writer.close()
        self._writer = make_views(self._path, SCRIPT)
        self._reader = open_reader(self._path)
        return self._reader

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
