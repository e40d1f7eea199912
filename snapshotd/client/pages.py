"""Lists that come in pages. One page is held and printed at a time; a limit that cuts the list is reported."""

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
    yields: Sequence[str] = (),
) -> ExitCode:
    """Print a list as it comes: as a table, or as one JSON document. Tell on stderr if there is more.

    Args:
        arguments: those of the command, with `output` and `limit`.
        found: the pages.
        field: the field of a page that holds the entries.
        heads: the heads of the table.
        row: makes the row of an entry.
        yields: heads of the columns to cut if the terminal is too narrow.
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
        sys.stderr.write(f"Only the first {printed} are shown. Set a higher --limit to see more.\n")
    return ExitCode.OK
