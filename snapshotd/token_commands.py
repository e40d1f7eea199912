"""`snapshotd token issue|list|revoke`: local tokens, on the server's machine. A daemon that runs notices by itself."""

from __future__ import annotations

import argparse
import os
import pwd
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from snapshotd.access.errors import AccessUnusable, time_text
from snapshotd.access.identity import NAME_RULE
from snapshotd.access.local_tokens import LocalToken, TokenFile
from snapshotd.setting_values import as_age
from snapshotd.settings import Settings

TEXT: Final = "issue, list and revoke tokens for callers without an identity provider"
_EXPIRES: Final = "90 d"
_HEAD: Final = ("ID", "NAME", "STATE", "EXPIRES", "CREATED", "ISSUED BY")


def tokens_path(settings: Settings) -> Path:
    """Return the file of local tokens: auth.tokens, or tokens.json in the storage directory."""
    return settings.path("auth.tokens") or settings.storage / "tokens.json"


def add_arguments(parser: argparse.ArgumentParser, add_settings: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the commands, each with the flags of the settings that it reads."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="issue|list|revoke")
    text = "issue a token, and print it once, alone on standard output"
    issue = commands.add_parser("issue", help=text, description=f"{text[0].upper()}{text[1:]}.")
    issue.add_argument("name", metavar="NAME", help=f"whom it stands for, as token:NAME ({NAME_RULE})")
    issue.add_argument(
        "--expires",
        type=_age,
        default=_EXPIRES,
        metavar="DURATION",
        help=f"how long it is in force: 12 h, 30 d (default: {_EXPIRES})",
    )
    text = "list the tokens that were issued; their secrets are on no record"
    listed = commands.add_parser("list", help=text, description=f"{text[0].upper()}{text[1:]}.")
    text = "revoke a token, at once and for good"
    revoke = commands.add_parser("revoke", help=text, description=f"{text[0].upper()}{text[1:]}.")
    revoke.add_argument("which", metavar="ID|NAME", help="the token of this id, or all that stand for this name")
    for command in (issue, listed, revoke):
        command.set_defaults(parser=command)
        add_settings(command)


def run(parsed: argparse.Namespace, settings: Settings) -> int:
    """Run one of the commands. Return the exit code. Raises AccessUnusable."""
    file, now = TokenFile(tokens_path(settings)), datetime.now(UTC)
    match parsed.what:
        case "issue":
            token, made = file.issue(parsed.name, timedelta(seconds=parsed.expires), _user(), now)
            try:
                sys.stdout.write(f"{token}\n")
                sys.stdout.flush()
            except OSError as error:  # nobody has the token: it must not stay in force
                file.revoke(made.id, now)
                problem = (error.strerror or str(error)).lower()
                raise AccessUnusable(f"Cannot print the token: {problem}. It was revoked; issue another one.") from None
            revoke = shlex.join(["snapshotd", "token", "revoke", made.id, *_where(parsed)])
            sys.stderr.write(
                f"Issued token {made.id} for {made.name}, in force until {time_text(made.expires)}. It is shown only "
                f"this once. To end it earlier: {revoke}\n"
            )
        case "list":
            sys.stdout.write(_table([_HEAD, *(_row(token, now) for token in file.all())]))
        case _:
            ended = file.revoke(parsed.which, now)
            for gone in ended:
                sys.stdout.write(f"Revoked token {gone.id} of {gone.name}.\n")
            if not ended:
                sys.stdout.write("It was revoked before.\n")
    return 0


def _where(parsed: argparse.Namespace) -> list[str]:
    """Return the options that say which file of tokens is meant, as they were given."""
    given = {"--config": "config", "--storage-directory": "storage.directory", "--auth-tokens": "auth.tokens"}
    found = [(option, getattr(parsed, name, None)) for option, name in given.items()]
    return [word for option, value in found if value for word in (option, str(value))]


def _age(text: str) -> float:
    try:
        return as_age(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _user() -> str:
    """Return who asks: the user of the machine, also through sudo."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    behind = os.environ.get("SUDO_USER", "") if user == 0 else ""
    return f"{behind} (as {name})" if behind else name


def _row(token: LocalToken, now: datetime) -> Sequence[str]:
    state = "revoked" if token.revoked else "expired" if token.expires <= now else "in force"
    return token.id, token.name, state, time_text(token.expires), time_text(token.created), token.issued_by


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)
