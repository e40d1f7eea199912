"""Manual pages, made of the declarations of a command line: nothing is told twice, and nothing is forgotten.

A page has each command with its options. Options that the program itself takes, too, are told once.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Final

_WORD: Final = re.compile(r"\s+")
_CODE: Final = re.compile(r"\s+(\d+)\s\s+(.*)")
_OTHERS: Final = {"snapshotd": "snapshotctl", "snapshotctl": "snapshotd"}


def page(parser: argparse.ArgumentParser, release: str) -> str:
    """Return the manual page of a program, in roff.

    Args:
        parser: its declarations.
        release: its version. There is no date, so that the same release always has the same page.
    """
    name, text = parser.prog, _one_line(parser.description or "")
    lines = [
        f'.TH {name.upper()} 1 "" "{name} {release}" "snapshotd"',
        ".nh",
        ".ad l",
        *(".SH NAME", f"{name} \\- {_text(text.removesuffix('.'))}"),
        *(".SH SYNOPSIS", f"\\fB{name}\\fR [\\fIOPTION\\fR]... \\fICOMMAND\\fR ..."),
        *(".SH DESCRIPTION", _text(text)),
        *(".SH OPTIONS", *_options(parser, set())),
        *(".SH COMMANDS", *_commands(parser, _strings(parser))),
        *_exit_codes(parser.epilog or ""),
        *(".SH SEE ALSO", f"\\fB{_OTHERS[name]}\\fR(1)"),
    ]
    return "\n".join(lines) + "\n"


def _commands(parser: argparse.ArgumentParser, known: set[str]) -> Iterator[str]:
    """Yield the lines of each command below a parser; `known`: options that were told before."""
    below = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)  # noqa: SLF001
    for command in {} if below is None else below.choices.values():
        if any(isinstance(action, argparse._SubParsersAction) for action in command._actions):  # noqa: SLF001
            yield from _commands(command, known)
            continue
        yield f".SS {_text(command.prog)}"
        if command.description:
            yield _text(_one_line(command.description))
        positional = [action for action in command._actions if not action.option_strings]  # noqa: SLF001
        taken = [f"\\fI{_text(_shown(command, action))}\\fR" for action in positional]
        yield ".PP"
        yield " ".join([f"\\fB{_text(command.prog)}\\fR", "[\\fIOPTION\\fR]...", *taken])
        for action in positional:
            yield from _entry(command, action)
        yield from _options(command, known)
        if command.epilog:
            yield ".PP"
            yield _text(_one_line(command.epilog))


def _options(parser: argparse.ArgumentParser, known: set[str]) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001
        if action.option_strings and action.help != argparse.SUPPRESS and not known & set(action.option_strings):
            yield from _entry(parser, action)


def _entry(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    """Yield the lines of an option or an argument: how it is written, and what it means."""
    written = ", ".join(f"\\fB{_text(string)}\\fR" for string in action.option_strings)
    value = f"\\fI{_text(_shown(parser, action))}\\fR" if not action.option_strings or action.nargs != 0 else ""
    meaning = parser._get_formatter()._expand_help(action) if action.help else ""  # noqa: SLF001
    yield ".TP"
    yield f"{written} {value}".strip()
    yield _text(_one_line(meaning)) or "\\&"


def _shown(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the value that an argument takes, as its help names it."""
    formatter = parser._get_formatter()  # noqa: SLF001
    default = action.dest if not action.option_strings else action.dest.upper()
    return formatter._format_args(action, action.metavar if isinstance(action.metavar, str) else default)  # noqa: SLF001


def _exit_codes(epilog: str) -> Iterator[str]:
    found = [_CODE.fullmatch(line) for line in epilog.splitlines()]
    if any(found):
        yield ".SH EXIT STATUS"
    for code in filter(None, found):
        yield ".TP"
        yield f"\\fB{code[1]}\\fR"
        yield _text(code[2])


def _strings(parser: argparse.ArgumentParser) -> set[str]:
    return {string for action in parser._actions for string in action.option_strings}  # noqa: SLF001


def _one_line(text: str) -> str:
    return _WORD.sub(" ", text).strip()


def _text(text: str) -> str:
    """Return a text as roff takes it: no line of it is a request, and a hyphen can be copied into a shell."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
