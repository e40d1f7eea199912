"""Lists that come in pages: one page is held and printed at a time, and what a limit cuts off is said."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from snapshotd.client.calls import ExitCode, Server
from snapshotd.client.render import Table, as_json, columns

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

_PAGE: Final = 1000
"""Entries that are asked for at once: the most that the API answers."""


def pages(
    server: Server,
    method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    field: str = "",
    limit: int | None = None,
) -> Iterator[ResponseT]:
    """Ask for one page after the other; the last one has a page token only if the limit cuts the list there.

    Args:
        server: that is asked.
        method: of the list.
        request: what is asked for.
        field: of an answer, that holds the entries; needed with a limit.
        limit: how many entries at most, on all pages.
    """
    asked: Any = request  # every list has page_size and page_token, which no type says
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


def output_pages(
    arguments: argparse.Namespace,
    found: Iterable[Any],
    field: str,
    heads: Sequence[str],
    row: Callable[[Any], Sequence[str]],
    yields: Sequence[str] = (),
) -> ExitCode:
    """Print a list as it comes: as a table, or as one JSON document; on stderr, whether there is more.

    Args:
        arguments: with `output` and `limit`.
        found: the pages.
        field: of a page, that holds the entries.
        heads: of the table.
        row: makes an entry's row.
        yields: heads of the columns that are cut where the terminal is too narrow.
    """
    printed, more = 0, False
    lines = Table(heads, yields, columns())
    for page in found:
        entries = getattr(page, field)
        more = bool(page.next_page_token)
        for entry in entries if arguments.output == "json" else ():
            before = f'{{\n  "{field}": [\n' if not printed else ",\n"
            sys.stdout.write(before + textwrap.indent(as_json(entry), "    "))
            printed += 1
        if arguments.output != "json" and entries:
            sys.stdout.write(lines.text([row(entry) for entry in entries]) + "\n")
            printed += len(entries)
    if arguments.output == "json":
        sys.stdout.write("\n  ]\n}\n" if printed else "{}\n")
    elif not printed:
        sys.stdout.write("(none)\n")
    elif more:
        sys.stdout.flush()
        sys.stderr.write(f"There are more than these {printed}: a higher --limit shows them.\n")
    return ExitCode.OK
