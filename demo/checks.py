"""What a demo prints: headings, and each comparison with its result. Counts what was wrong."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print a heading."""
    sys.stdout.write(f"\n== {text}\n")
    sys.stdout.flush()


class Checks:
    """Counts the comparisons, and those that failed."""

    def __init__(self) -> None:
        self.failed = 0
        self.count = 0

    def check(self, what: str, found: object, wanted: object) -> None:
        """Compare two values, and print the result."""
        self.count += 1
        same = found == wanted
        self.failed += not same
        found_text = "" if same else f": {found!r}, not {wanted!r}"
        sys.stdout.write(f"   {'ok   ' if same else 'WRONG'} {what}{found_text}\n")

    def require(self, what: str, code: int, error: str) -> None:
        """Raise what a command said that must not fail. Raises Unexpected."""
        if code:
            raise Unexpected(f"{what} ended with exit code {code}: {error}")


class Unexpected(Exception):
    """A command failed without which nothing can be compared."""
