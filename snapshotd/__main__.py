"""The command line of `snapshotd`: what each command takes, and how it ends. What they do is elsewhere.

Each command imports what it runs when it runs: a start of one program does not wait for the others.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Final

from snapshotd import certificate_commands, token_commands
from snapshotd.domain.errors import SnapshotdError
from snapshotd.logs import FORMATS, Unblocking, is_journal, with_priority
from snapshotd.service_manager import ServiceManager
from snapshotd.setting_values import Value, duration_text
from snapshotd.settings import KEYS, Settings, default_file, load
from snapshotd.simulator import settings as simulate
from snapshotd.unusable import Unusable
from snapshotd.upkeep import commands as upkeep

_EXIT_CODES = """\
exit codes:
  0  ended normally
  1  check: a view cannot take in an event; doctor: something is wrong; any command: a defect, with its traceback
  2  did not start: settings, address, event log; backup, restore: not done; the text says why and what to do
  3  serve: the event log broke while it ran, as by a failing disk; check the disk, then start it again
"""
_LOG_BROKEN: Final = "LOG_BROKEN"
"""The reason of the error that ends a service amid its work."""
_ORDER = "A flag overrides the environment, and the environment overrides the settings file."
_DURATION = "A DURATION is a number with its unit: 500 ms, 30 s, 10 min, 2 h."
_BETWEEN_MACHINES: Final = ("executor.server", "executor.ca", "executor.certificate", "executor.key")
READ: Final = {
    # Its own executor knows the address, and needs no TLS.
    "serve": tuple(key.name for key in KEYS if key.name not in _BETWEEN_MACHINES),
    "executor": (
        *_BETWEEN_MACHINES,
        "executor.hosts",
        "executor.credentials",
        "executor.allow",
        "executor.sessions_per_host",
        "executor.shell_idle",
        "hosts.sign_in_pause",
        "metrics.listen",
        "traces.endpoint",
        "log.format",
    ),
    "check": ("storage.directory", "log.format"),
    "backup": ("auth.tokens", "storage.directory", "log.format"),
    "restore": ("auth.tokens", "storage.directory", "log.format"),
    "doctor": tuple(key.name for key in KEYS),
    "config": tuple(key.name for key in KEYS),
    "token": ("auth.tokens", "storage.directory", "log.format"),
}
"""The settings that each command reads. Only these are its flags; a file may hold the settings of all commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Return the exit code."""
    parsed, unknown = _parser().parse_known_args(arguments)
    if unknown:
        parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    _start_logging(verbose=parsed.verbose)
    if sys.stdout is None:  # closed: the next file that is opened would take its place
        _tell_end(f"snapshotd {parsed.command}: Cannot write the output: standard output is closed. Use /dev/null.")
        return 2
    try:
        return _run(parsed)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has read enough
        return 0
    except SnapshotdError as error:
        said, code = str(error), 3 if error.reason == _LOG_BROKEN else 2
    except Unusable as error:
        said, code = str(error), 2
    except OSError as error:
        said, code = error.strerror.lower() if error.strerror else str(error), 2
        said = f"{error.filename}: {said}" if error.filename else said
    _tell_end(f"snapshotd {parsed.command}: {said}")
    # Else the service manager would go on showing how the program was when it last ran.
    ServiceManager(os.environ).status(said)
    return code


def _run(parsed: argparse.Namespace) -> int:
    """Run a subcommand. Return the exit code."""
    match parsed.command:
        case "simulate-host":
            from snapshotd import simulator_bootstrap  # noqa: PLC0415  (here and below: see above)

            return simulator_bootstrap.run(simulate.from_arguments(parsed))
        case "completion":
            return upkeep.complete(_parser(), parsed.shell)
        case "man":
            from snapshotd.client.__main__ import _parser as client_parser  # noqa: PLC0415

            return upkeep.write_manual(parsed.directory, (_parser(), client_parser({})))
        case "doctor":
            return upkeep.doctor(lambda: load(parsed.config or default_file(), os.environ, _flags(parsed)), parsed)
        case "certificate":
            return certificate_commands.run(parsed)
        case _:
            settings = load(parsed.config or default_file(), os.environ, _flags(parsed))
            _format_logs(settings)
            return _run_with(settings, parsed)


def _run_with(settings: Settings, parsed: argparse.Namespace) -> int:
    """Run a subcommand that reads settings. Return the exit code."""
    match parsed.command:
        case "token":
            return token_commands.run(parsed, settings)
        case "serve":
            from snapshotd import bootstrap  # noqa: PLC0415

            return bootstrap.serve(settings)
        case "check":
            from snapshotd import bootstrap  # noqa: PLC0415

            return bootstrap.check(settings)
        case "executor":
            from snapshotd import executor_bootstrap  # noqa: PLC0415

            return executor_bootstrap.run(settings)
        case "backup":
            return upkeep.backup(settings, parsed.target)
        case "restore":
            return upkeep.restore(settings, parsed.archive, replace=parsed.replace)
        case _:
            return _show(settings)


def _start_logging(*, verbose: bool) -> None:
    """Log to stderr: of libraries only warnings, because their details hold secrets of the NTLM sign-in."""
    journal = is_journal(os.environ)
    handler = Unblocking(journal=journal)
    handler.setFormatter(FORMATS["text"]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for ours in ("snapshotd", "projections"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)
    if journal:
        sys.excepthook = _tell_defect


def _tell_end(text: str) -> None:
    """Write why the program ends to standard error; for the journal, as an error."""
    sys.stderr.write(f"{with_priority(logging.ERROR, text) if is_journal(os.environ) else text}\n")


def _tell_defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of a defect that ends the program."""
    _tell_end("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))


def _format_logs(settings: Settings) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Unblocking):
            handler.setFormatter(FORMATS[settings.text("log.format")]())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snapshotd",
        description="Takes, reverts and deletes snapshots of Hyper-V VMs, and never loses track of one.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"snapshotd {version('snapshotd')}")
    parser.add_argument("--verbose", "-v", action="store_true", help="log details")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "serve": "run the service, by default with an executor in its process",
        "executor": "run an executor, which attaches to a server and reaches hosts by WinRM",
        "check": "read and fold the whole event log, and rebuild the views; the service must be stopped",
        "backup": "back up the event log and the local tokens into one file, while the service runs",
        "restore": "put a backup in the place of the event log; the service must be stopped",
        "doctor": "say what is wrong here, and what to do; it changes nothing",
        "config": "check the settings, and show the source of each",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_DURATION)
        if name == "config":
            checks = command.add_subparsers(dest="what", required=True, metavar="check", help=text)
            command = checks.add_parser("check", description=f"{text[0].upper()}{text[1:]}. {_ORDER}", epilog=_DURATION)
        command.set_defaults(parser=command)
        upkeep.add_arguments(name, command)
        _add_settings(command, name)
        if name in ("serve", "doctor", "config"):
            command.add_argument(
                "--no-executor",
                dest="executor.in_process",
                action="store_const",
                const="false",
                default=argparse.SUPPRESS,
                help="run no executor in this process; start `snapshotd executor` instead",
            )
        if name in ("executor", "doctor", "config"):
            command.add_argument(
                "--host",
                dest="host",
                action="append",
                default=[],
                metavar="ID",
                help="id of a host that it reaches; may be repeated",
            )
    token = commands.add_parser(
        "token", help=token_commands.TEXT, description=f"{token_commands.TEXT[0].upper()}{token_commands.TEXT[1:]}."
    )
    token_commands.add_arguments(token, lambda command: _add_settings(command, "token"))
    text = certificate_commands.TEXT
    certificate = commands.add_parser("certificate", help=text, description=f"{text[0].upper()}{text[1:]}.")
    certificate_commands.add_arguments(certificate)
    text = "run a simulated Hyper-V host, for trials and tests"
    described = f"{text[0].upper()}{text[1:]}. It prints its addresses in one line of JSON, and runs until SIGTERM."
    host = commands.add_parser("simulate-host", help=text, description=described)
    host.set_defaults(parser=host)
    simulate.add_arguments(host)
    upkeep.add_commands(commands)
    return parser


def _add_settings(command: argparse.ArgumentParser, name: str) -> None:
    """Add the flags of the settings that a command reads."""
    command.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    for key in KEYS:
        if key.name in READ[name]:
            shown = "" if key.default in (None, "") else f" (default: {_text(key.default)})"
            command.add_argument(
                key.flag,
                dest=key.name,
                default=argparse.SUPPRESS,
                metavar=key.form,
                help=key.meaning + shown,
            )


def _flags(parsed: argparse.Namespace) -> dict[str, str]:
    flags = {key.name: str(getattr(parsed, key.name)) for key in KEYS if hasattr(parsed, key.name)}
    if getattr(parsed, "host", None):
        flags["executor.hosts"] = ",".join([*filter(None, [flags.get("executor.hosts")]), *parsed.host])
    return flags


def _show(settings: Settings) -> int:
    width = max(len(key.name) for key in KEYS)
    for key in KEYS:
        sys.stdout.write(f"{key.name:{width}}  {_text(settings.values[key.name]):24}  {settings.sources[key.name]}\n")
    return 0


def _text(value: Value) -> str:
    """Return the value of a setting as people write it."""
    if value is None or value in ("", (), {}):
        return "(not set)"
    match value:
        case tuple():
            return ", ".join(value)
        case Mapping():
            return ",".join(folder if of == "*" else f"{of}={folder}" for of, folder in value.items())
        case float():
            return duration_text(value)
        case bool():
            return str(value).lower()
        case _:
            return str(value)


if __name__ == "__main__":
    sys.exit(main())
