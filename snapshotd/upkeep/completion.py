"""Tab completion of `snapshotd`, by shtab. That of `snapshotctl` asks a server for names (client/completion.py)."""

from __future__ import annotations

import argparse
from typing import Final

import shtab

_FILES: Final = frozenset(("PATH", "FILE", "DIR", "FILE|DIRECTORY"))
"""Forms of values that are names of files or directories."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that completes a command line in a shell."""
    _mark_files(parser)
    return shtab.complete(parser, shell)


def _mark_files(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                _mark_files(command)
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab's own
