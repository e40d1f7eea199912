"""The commands of this package on the command line of `snapshotd`: their arguments, and what they print.

Each imports what it runs when it runs: the other programs begin without it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NoReturn

from snapshotd.settings import Settings, default_file
from snapshotd.token_commands import tokens_path
from snapshotd.upkeep.archive import LOG
from snapshotd.upkeep.findings import Ground
from snapshotd.upkeep.manual import page

PROGRAMS: Final = ("serve", "executor")
"""What may run on the machine that the doctor looks at."""
_UNITS: Final = dict(zip(PROGRAMS, ("snapshotd.service", "snapshotd-executor.service"), strict=True))
_UNIT_PLACES: Final = (
    Path("/etc/systemd/system"),
    Path("/usr/local/lib/systemd/system"),
    Path("/usr/lib/systemd/system"),
)
SHELLS: Final = ("bash", "zsh", "fish")
"""Shells whose completion there is: those of `snapshotctl`, too."""
_OWNER_ONLY: Final = 0o077
_NEXT: Final = """\
Make sure that no other daemon of this installation runs anywhere. Then start the service, and run `snapshotctl status`:
VMs that were worked on since the backup are LOG_ROLLED_BACK, and wait until they are taken over.
"""


def add_arguments(name: str, command: argparse.ArgumentParser) -> None:
    """Declare what a command takes beside settings."""
    if name == "backup":
        command.add_argument(
            "target", metavar="FILE|DIRECTORY", help="file to write; in a directory it gets a name by time"
        )
    elif name == "restore":
        command.add_argument("archive", type=Path, metavar="FILE", help="the backup")
        command.add_argument(
            "--replace", action="store_true", help="replace a log that has events; it is kept aside, in replaced-<time>"
        )
    elif name == "doctor":
        command.add_argument(
            "program", nargs="?", choices=PROGRAMS, default=PROGRAMS[0], help="what runs here (default: %(default)s)"
        )
        command.add_argument("--deep", action="store_true", help="read the whole event log, which takes its time")
        command.add_argument("--json", action="store_true", help="print a list of objects, for programs")


def add_commands(commands: Any) -> None:  # noqa: ANN401  (the type of argparse for this is private)
    """Declare the commands that need no settings."""
    completion = commands.add_parser(
        "completion",
        help="print the tab completion for a shell",
        description="Print the tab completion for a shell. In bash: source <(snapshotd completion bash)",
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")
    completion.set_defaults(parser=completion)
    text = "Write the manual pages of snapshotd and snapshotctl into a directory."
    manual = commands.add_parser("man", help="write the manual pages", description=text)
    manual.add_argument("directory", type=Path, metavar="DIR", help="the directory, made if it is missing")
    manual.set_defaults(parser=manual)


def complete(parser: argparse.ArgumentParser, shell: str) -> int:
    """Print the tab completion for a shell. Return the exit code."""
    from snapshotd.upkeep.completion import script  # noqa: PLC0415  (nothing else needs shtab)

    sys.stdout.write(script(parser, shell))
    return 0


def write_manual(directory: Path, parsers: Iterable[argparse.ArgumentParser]) -> int:
    """Write the manual page of each program. Return the exit code."""
    directory.mkdir(parents=True, exist_ok=True)
    for parser in parsers:
        (directory / f"{parser.prog}.1").write_text(page(parser, version("snapshotd")), encoding="utf-8")
    return 0


def backup(settings: Settings, target: str) -> int:
    """Make a backup, and print its path. Return the exit code."""
    from snapshotd.upkeep.backup import back_up, target_of  # noqa: PLC0415  (here and below: see above)

    os.umask(_OWNER_ONLY)
    storage = settings.storage
    with _ended_by_an_exception():
        taken = back_up(storage / LOG, tokens_path(settings), target_of(target), datetime.now(UTC))
    sys.stdout.write(f"{taken.path}\n")
    held = ", ".join(taken.manifest.files)
    sys.stderr.write(
        f"Backed up {held} up to position {taken.manifest.head_position}, looked through: nothing is damaged.\n"
    )
    return 0


def restore(settings: Settings, archive: Path, *, replace: bool) -> int:
    """Put a backup back, and print what to do next. Return the exit code."""
    from snapshotd.upkeep.restore import restore as put_back  # noqa: PLC0415

    os.umask(_OWNER_ONLY)
    storage = settings.storage
    with _ended_by_an_exception():
        done = put_back(archive, storage, tokens_path(settings), datetime.now(UTC), replace=replace)
    manifest = done.manifest
    sys.stdout.write(
        f"Restored {storage / LOG} up to position {manifest.head_position}, as of {manifest.time:%Y-%m-%d %H:%M:%S}Z, "
        f"of installation {manifest.installation_id}.\n"
    )
    if done.aside is not None:
        sys.stdout.write(f"What was there before is in {done.aside}.\n")
    if done.tokens:
        sys.stdout.write(f"{done.tokens}\n")
    sys.stdout.write(_NEXT)
    return 0


@contextmanager
def _ended_by_an_exception() -> Iterator[None]:
    """Let SIGTERM end a command like Ctrl-C does, so that it removes its work: a copy of the event log."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _is_unit_installed(program: str) -> bool:
    return any((place / _UNITS[program]).exists() for place in _UNIT_PLACES)


def doctor(load: Callable[[], Settings], parsed: argparse.Namespace) -> int:
    """Print what is wrong here, and what to do. Return the exit code."""
    from snapshotd.upkeep.doctor import as_json, as_text, examine, worst  # noqa: PLC0415

    def ground_of(settings: Settings) -> Ground:
        return Ground(
            settings=settings,
            environ=os.environ,
            now=datetime.now(UTC),
            serves=parsed.program == PROGRAMS[0],
            config=parsed.config or default_file(),
            for_unit=os.geteuid() == 0 and _is_unit_installed(parsed.program),
            deep=parsed.deep,
        )

    found = []
    for finding in examine(load, ground_of):
        found.append(finding)
        if not parsed.json:
            sys.stdout.write(as_text(finding))
            sys.stdout.flush()
    if parsed.json:
        sys.stdout.write(as_json(found))
    return worst(found)
