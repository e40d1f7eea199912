"""Writes a document that is drawn from the code, or reports a stale one: what the tools that draw have in common."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def run(arguments: Sequence[str], document: Path, draw: Callable[[], str], usage: str | None) -> int:
    """Write the document, or compare it with what would be written. Return 1 if it is stale.

    Args:
        arguments: of the command line: write or verify.
        document: where it is.
        draw: returns its text.
        usage: what is shown for other arguments.
    """
    match arguments:
        case ["write"]:
            document.write_text(draw(), encoding="utf-8")
            return 0
        case ["verify"]:
            if document.exists() and document.read_text(encoding="utf-8") == draw():
                return 0
            print(f"{document} does not match the tables. Run 'make diagrams' and commit it.", file=sys.stderr)
            return 1
        case _:
            print(usage, file=sys.stderr)
            return 2
