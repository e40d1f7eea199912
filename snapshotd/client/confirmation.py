"""What cannot be brought back is shown, and asked about, before it is done."""

from __future__ import annotations

import argparse
import sys

from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import quoted, shown


def confirm(arguments: argparse.Namespace, plan: str, name: str, *, verb: str, done: str) -> None:
    """Show a plan, and ask for the name. Raises Failed unless the person has typed it, or asked not to be asked.

    Args:
        arguments: those of the command, which has `--yes`.
        plan: for people.
        name: of what it is about, as the person has named it.
        verb: with a place for the name: "take {} over".
        done: its participle: "taken over".
    """
    if arguments.yes:
        return
    sys.stderr.write(f"{plan}\n")
    if not sys.stdin.isatty():
        raise Failed(
            f"Cannot {verb.format(shown(name))} without a confirmation: standard input is no terminal. "
            "Read the plan, then add --yes.",
            ExitCode.REFUSED,
        )
    sys.stderr.write(f"To {verb.format('it')}, type its name ({shown(name)}): ")
    sys.stderr.flush()
    typed = sys.stdin.readline().strip()
    if typed != name:
        raise Failed(f"Nothing was {done}: {quoted(typed)} is not {quoted(name)}.", ExitCode.REFUSED)
