"""`snapshotd certificate authority|issue|renew`: a small CA for those who have none. Reads no settings."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from snapshotd.access import bearers
from snapshotd.access.authority import CA_DAYS, LEAF_DAYS, Authority, Issued, create_authority
from snapshotd.access.bearers import Bearer, Purpose
from snapshotd.access.errors import AccessUnusable, time_text
from snapshotd.access.identity import NAME_RULE

TEXT: Final = "make a small CA, and certificates of it for servers, users and executors"
_LONGEST_DAYS: Final = 36_500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="authority|issue|renew")
    text = "make a CA: its key and its certificate, in a directory of its own"
    made = commands.add_parser("authority", help=text, description=f"{text[0].upper()}{text[1:]}.")
    made.add_argument("directory", type=Path, metavar="DIR", help="where ca.key and ca.pem are written")
    made.add_argument("--name", required=True, metavar="NAME", help="what it is called in its certificate")
    made.add_argument(
        "--for",
        dest="purpose",
        required=True,
        choices=[purpose.value for purpose in Purpose],
        help="whom it issues certificates for; a CA of its own for each",
    )
    _add_days(made, CA_DAYS)
    text = "issue a certificate with a new key: FILE, and beside it the key, ending in .key"
    issue = commands.add_parser("issue", help=text, description=f"{text[0].upper()}{text[1:]}.")
    issue.add_argument("directory", type=Path, metavar="DIR", help="of the CA")
    whom = issue.add_mutually_exclusive_group(required=True)
    whom.add_argument(
        "--server", action="append", metavar="DNS|IP", help="a name that the server is called by; may be repeated"
    )
    whom.add_argument("--user", metavar="NAME", help=f"a user ({NAME_RULE})")
    whom.add_argument("--executor", metavar="NAME", help=f"an executor ({NAME_RULE})")
    issue.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="ID",
        help="a host that the executor may serve; may be repeated; * for all",
    )
    issue.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the certificate is written")
    issue.add_argument("--replace", action="store_true", help="write over a certificate and a key that are there")
    _add_days(issue, LEAF_DAYS)
    text = "issue certificates anew, each with a new key and the same names, in place of the old ones"
    renew = commands.add_parser("renew", help=text, description=f"{text[0].upper()}{text[1:]}.")
    renew.add_argument("directory", type=Path, metavar="DIR", help="of the CA that has issued them")
    renew.add_argument("certificates", type=Path, nargs="+", metavar="FILE", help="a certificate")
    _add_days(renew, None)
    for command in (made, issue, renew):
        command.set_defaults(parser=command)


def run(parsed: argparse.Namespace) -> int:
    """Run one of the commands. Return the exit code. Raises AccessUnusable."""
    now = datetime.now(UTC)
    match parsed.what:
        case "authority":
            purpose = Purpose(parsed.purpose)
            _tell(create_authority(parsed.directory, parsed.name, purpose, parsed.days, now))
            sys.stdout.write(
                "Keep the key where nobody else reads it: whoever has it can make anybody's certificate.\n"
            )
        case "issue":
            bearer, authority = _bearer(parsed), Authority(parsed.directory, now)
            _tell(authority.issue(bearer, parsed.out, parsed.days, replace=parsed.replace))
        case _:
            authority = Authority(parsed.directory, now)
            for file in parsed.certificates:
                _tell(authority.renew(file, parsed.days))
    return 0


def _add_days(command: argparse.ArgumentParser, default: int | None) -> None:
    shown = f"{default}" if default else "as long as the old one"
    command.add_argument(
        "--days", type=_days, default=default, metavar="N", help=f"how long it is valid (default: {shown})"
    )


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LONGEST_DAYS):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of days, 1 to {_LONGEST_DAYS}")
    return int(text)


def _bearer(parsed: argparse.Namespace) -> Bearer:
    if parsed.host and not parsed.executor:
        raise AccessUnusable("Cannot issue this certificate: only one of an executor names hosts. Leave --host out.")
    if parsed.server:
        return bearers.server(parsed.server)
    if parsed.user is not None:
        return bearers.user(parsed.user)
    if not parsed.host:
        raise AccessUnusable("Cannot issue this certificate: it names no host to serve. Add --host ID, or --host '*'.")
    return bearers.executor(parsed.executor, parsed.host)


def _tell(issued: Issued) -> None:
    sys.stdout.write(f"{issued.certificate} and {issued.key}, valid until {time_text(issued.expires)}\n")
