"""Lists that come in pages. One page is held and printed at a time; a limit that cuts the list is reported."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from snapshotd.client.calls import Server
from snapshotd.client.columns import chosen, name_of, short_ids
from snapshotd.client.documents import DOCUMENTS, ListDocument, document
from snapshotd.client.failure import ExitCode
from snapshotd.client.messages import as_dict, names_of
from snapshotd.client.render import Table, columns

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

_PAGE: Final = 1000
"""Entries per request: the most that the API answers with."""


def pages(
    server: Server,
    method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    field: str = "",
    limit: int | None = None,
) -> Iterator[ResponseT]:
    """Yield one page after another. The last one has a page token only if the limit cuts the list there.

    Args:
        server: the server to ask.
        method: the method that lists.
        request: the request for the first page.
        field: the field of an answer that holds the entries; needed with a limit.
        limit: the most entries to return, over all pages.
    """
    asked: Any = request  # every list request has page_size and page_token, but they share no type
    left = limit
    while True:
        asked.page_size = _PAGE if left is None else min(_PAGE, left)
        page: Any = server.call(method, request)
        yield page
        asked.page_token = page.next_page_token
        if left is not None:
            left -= len(getattr(page, field))
        if not asked.page_token or left == 0:
            return


def or_else(found: Iterable[ResponseT], field: str, empty: Callable[[], None]) -> Iterator[ResponseT]:
    """Yield pages, but first call `empty` if there is no entry in `field` of any: it may say why."""
    entries = 0
    for page in found:
        entries += len(getattr(page, field))
        if not entries and not getattr(page, "next_page_token", ""):
            empty()
        yield page


def output_pages(
    arguments: argparse.Namespace,
    found: Iterable[Any],
    field: str,
    heads: Sequence[str],
    row: Callable[[Any], Sequence[str]],
    *,
    yields: Sequence[str] = (),
    ids: Sequence[str] = (),
    more: Sequence[str] = (),
) -> ExitCode:
    """Print a list as it comes: as a table, as names, or as one document. Tell on stderr if there is more.

    Args:
        arguments: those of the command, with `output`.
        found: the pages.
        field: the field of a page that holds the entries.
        heads: the heads of the table.
        row: makes the row of an entry, with cells for `heads` and `more`.
        yields: heads of the columns to cut if the terminal is too narrow.
        ids: heads of the columns that hold ids, which are shown short unless they are asked for whole.
        more: heads of columns that are shown only if --columns names them.
    """
    show = Listing(arguments, [*heads, *more], chosen(arguments, heads, more), yields, ids)
    whole = ListDocument(field, arguments.output)
    printed, cut = 0, False
    for page in found:
        entries = getattr(page, field)
        cut = bool(page.next_page_token)
        printed += len(entries)
        if arguments.output in DOCUMENTS:
            sys.stdout.writelines(whole.piece(as_dict(entry)) for entry in entries)
        elif arguments.output == "name":
            sys.stdout.writelines(f"{name}\n" for entry in entries for name in names_of(entry))
        elif entries:
            sys.stdout.write(show.text([row(entry) for entry in entries]) + "\n")
    if arguments.output in DOCUMENTS:
        sys.stdout.write(whole.end())
    elif not printed and arguments.output == "csv":
        sys.stdout.write(show.text([]) + "\n")
    elif not printed and arguments.output == "table":
        sys.stdout.write("(none)\n")
    if cut and arguments.output not in DOCUMENTS:
        sys.stdout.flush()
        said = "Only the first is shown" if printed == 1 else f"Only the first {printed} are shown"
        sys.stderr.write(f"{said}. Set a higher --limit to see more.\n")
    return ExitCode.OK


def overview(
    arguments: argparse.Namespace,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    yields: Sequence[str] = (),
    ids: Sequence[str] = (),
) -> str:
    """Return a table of an answer that has several. Takes arguments of Listing; its last column is a text to read."""
    return Listing(arguments, heads, range(len(heads)), yields, ids, wraps=True).text(rows) if rows else "(none)"


class Listing:
    """A table of the columns that were chosen, printed part by part: for people, or as CSV with ids and names whole.

    Args:
        arguments: those of the command.
        heads: the heads of all columns.
        show: the numbers of those to print, in order.
        yields: heads of the columns to cut if the terminal is too narrow.
        ids: heads of the columns that hold ids.
        wraps: the last column is a text to read, which goes over several lines; DETAIL always is one.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        heads: Sequence[str],
        show: Sequence[int],
        yields: Sequence[str] = (),
        ids: Sequence[str] = (),
        *,
        wraps: bool = False,
    ) -> None:
        shown = [heads[n] for n in show]
        self._csv_heads = shown if arguments.output == "csv" else None
        whole = getattr(arguments, "full_ids", False)
        self._show = show
        self._ids = [] if whole else [n for n, head in enumerate(shown) if head in ids]
        wraps = wraps or shown[-1:] == ["DETAIL"]
        self._table = Table(shown, [head for head in yields if head in shown], columns(), wraps=wraps)

    def text(self, rows: Sequence[Sequence[str]]) -> str:
        """Return the next part."""
        kept = [[row[n] for n in self._show] for row in rows]
        if self._csv_heads is not None:
            heads, self._csv_heads = self._csv_heads, []
            return _csv([[name_of(head) for head in heads], *kept] if heads else kept)
        cells = iter(short_ids(row[n] for row in kept for n in self._ids))
        for row in kept:
            for n in self._ids:
                row[n] = next(cells)
        return self._table.text(kept)


class Stream:
    """A list without an end: each entry is printed, and written out, as it comes.

    Args:
        arguments: those of the command, with `output`.
        heads: the heads of the table.
        row: makes the row of an entry, with cells for `heads` and `more`.
        yields: heads of the columns to cut if the terminal is too narrow.
        ids: heads of the columns that hold ids.
        more: heads of columns that are shown only if --columns names them.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        heads: Sequence[str],
        row: Callable[[Any], Sequence[str]],
        yields: Sequence[str] = (),
        ids: Sequence[str] = (),
        more: Sequence[str] = (),
    ) -> None:
        self._output = arguments.output
        self._show = Listing(arguments, [*heads, *more], chosen(arguments, heads, more), yields, ids)
        self._row = row

    def print(self, entry: Message) -> None:
        """Print an entry. JSON comes as lines, and YAML as documents, for there is no end to a list."""
        if self._output in DOCUMENTS:
            yaml = self._output == "yaml"
            text = ("---\n" if yaml else "") + document(as_dict(entry), "yaml" if yaml else "jsonl")
        elif self._output == "name":
            text = "\n".join(names_of(entry))
        else:
            text = self._show.text([self._row(entry)])
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n")
