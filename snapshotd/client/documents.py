"""Documents for programs: JSON, JSON lines or YAML."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any, Final

DOCUMENTS: Final = ("json", "yaml", "jsonl")
"""The output formats that are documents. JSON lines: one for each entry of a list."""
_INDENT: Final = 2
_WIDEST: Final = 1_000_000
"""Columns of a line of YAML: none is folded."""


def document(content: object, output: str) -> str:
    """Return a document in one of the formats, without a line break at its end."""
    if output == "jsonl":
        return json.dumps(content, ensure_ascii=False)
    if output == "json":
        return json.dumps(content, ensure_ascii=False, indent=_INDENT)
    import yaml  # noqa: PLC0415  (20 ms that only this format needs)

    # A message in an Any comes as an OrderedDict, which YAML's safe dump refuses: an operation's metadata is one.
    plain = json.loads(json.dumps(content))
    text: str = yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=_WIDEST)
    return text.removesuffix("\n")


class ListDocument:
    """A document that holds one list, made piece by piece: its entries need not be in memory together."""

    def __init__(self, field: str, output: str) -> None:
        self._field = field
        self._output = output
        self._empty = True

    def piece(self, content: Mapping[str, Any]) -> str:
        """Return the text of the next entry, with what stands before it."""
        first, self._empty = self._empty, False
        if self._output == "jsonl":
            return document(content, "jsonl") + "\n"
        if self._output == "yaml":
            return (f"{self._field}:\n" if first else "") + document([content], "yaml") + "\n"
        before = f'{{\n  "{self._field}": [\n' if first else ",\n"
        return before + textwrap.indent(document(content, "json"), " " * 2 * _INDENT)

    def end(self) -> str:
        """Return the text after the last entry."""
        if self._output == "jsonl":
            return ""
        if self._empty:
            return document({self._field: []}, self._output) + "\n"
        return "" if self._output == "yaml" else "\n  ]\n}\n"
