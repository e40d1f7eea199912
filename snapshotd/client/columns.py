"""Which columns of a table are printed, and ids short enough to read and to type."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Final

from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import quoted

SHORTEST: Final = 8
"""The fewest characters of an id that is shown."""
_ID: Final = re.compile(r"(?:operations/[^\s.]+\.[0-9]+-)?\b([0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?)\b")
"""An id: a GUID; of an operation's name, the tag at its end."""


def chosen(arguments: argparse.Namespace, heads: Sequence[str], more: Sequence[str] = ()) -> list[int]:
    """Return the numbers of the columns to print. Raises Failed if there is none of a name.

    Args:
        arguments: those of the command.
        heads: the heads of the columns that are printed if none is named.
        more: the heads of those that are printed only if they are named, and as CSV, which is for programs.
    """
    asked = getattr(arguments, "columns", None)
    if asked is None:
        return list(range(len(heads) + (len(more) if arguments.output == "csv" else 0)))
    if arguments.output not in ("table", "csv"):
        raise Failed(f"Cannot use --columns with -o {arguments.output}: a table has columns.", ExitCode.USAGE)
    names = [name_of(head) for head in (*heads, *more)]
    for name in asked:
        if name not in names and name != "name":
            text = f"Cannot show column {quoted(name)}: there is none. The columns are: {', '.join(names)}."
            raise Failed(text, ExitCode.USAGE)
    return [names.index(name) if name in names else 0 for name in asked]


def name_of(head: str) -> str:
    """Return the name by which a column is chosen."""
    return "percent" if head == "%" else head.lower().replace(" ", "_")


def short_ids(cells: Iterable[str]) -> list[str]:
    """Return cells with each id cut to its first characters: as many as tell apart all that are shown."""
    texts = list(cells)
    ids = {found for text in texts for found in _ID.findall(text)}
    length = SHORTEST
    while len({one[:length] for one in ids}) < len(ids):
        length += 1
    return [_ID.sub(lambda found: found[1][:length], text) for text in texts]
