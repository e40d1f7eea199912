"""What is shown anew after each change, until it is interrupted: redrawn on a terminal, and printed below elsewhere."""

from __future__ import annotations

import os
import sys
from typing import Final

_CLEAR: Final = "\x1b[H\x1b[2J"
"""Moves to the top left, and clears the screen."""
_END: Final = "Shown anew after each change. Ctrl-C ends this."


class Screen:
    """Standard output, for a text that changes."""

    def __init__(self) -> None:
        self.redraws = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        """Whether the text before is replaced."""
        self._empty = True

    def append(self, line: str) -> None:
        """Write a line below what is there."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def show(self, text: str) -> None:
        """Show a text in the place of the one before; if it cannot be replaced, below it, after a blank line."""
        if self.redraws:
            sys.stdout.write(f"{_CLEAR}{text}\n\n{_END}\n")
        else:
            sys.stdout.write(f"{text}\n" if self._empty else f"\n{text}\n")
        self._empty = False
        sys.stdout.flush()
