"""The command line of `snapshotctl`."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from snapshotd.client import (
    arguments as read,
)
from snapshotd.client import (
    audit_commands,
    host_commands,
    operation_commands,
    snapshot_commands,
    streams,
    vm_commands,
)
from snapshotd.client.calls import ExitCode, Failed, Server
from snapshotd.client.options import Subcommands

_EPILOG = """\
exit codes:
    0  done
    1  the operation that was waited for failed, or was cancelled
    2  the command line is wrong
    3  refused: the text says why
    4  there is no such VM, snapshot, host or operation
    5  another operation is active on the VM
    6  the server, an executor, a host or a view is not available
    7  time ran out
    8  the output could not be written
  130  interrupted; the operation that was waited for goes on
"""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run a command; return the exit code."""
    try:
        streams.prepare()
        code = _run(sys.argv[1:] if arguments is None else arguments, os.environ if environ is None else environ)
        sys.stdout.flush()
    except Failed as failed:
        streams.complain(failed.whole)
        return int(failed.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader has closed the pipe: it has read enough.
        streams.discard(sys.stdout)
        return int(ExitCode.OK)
    except OSError as error:
        # The network's errors come as gRPC's own, and the client opens no files: this is the output.
        streams.discard(sys.stdout)
        streams.complain(f"Cannot write the output: {error.strerror}. Check where it goes.")
        return int(ExitCode.OUTPUT_FAILED)
    return code


def _run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    for argument in arguments:
        if not _is_utf8(argument):
            raise Failed(f"Cannot read argument {ascii(argument)[:80]}: it is not UTF-8.", ExitCode.USAGE)
    try:
        parsed, unknown = _parser(environ).parse_known_args(arguments)
        if unknown:
            parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit as ended:  # argparse has told the user
        return int(ended.code or 0)
    with Server(parsed.server, parsed.actor, parsed.timeout) as server:
        return int(parsed.run(server, parsed))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snapshotctl",
        description="Takes, reverts and deletes snapshots of Hyper-V VMs through snapshotd.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
    )
    parser.set_defaults(
        server=environ.get("SNAPSHOTD_SERVER", "127.0.0.1:7443"),
        actor=environ.get("SNAPSHOTD_ACTOR") or _user(),
        timeout=90.0,
        output="table",
    )
    parser.add_argument("--version", action="version", version=f"snapshotctl {version('snapshotd')}")
    commands = Subcommands(parser, _common(), "COMMAND")
    for module in (host_commands, vm_commands, snapshot_commands, operation_commands, audit_commands):
        module.add_to(commands)
    return parser


def _common() -> argparse.ArgumentParser:
    """Declare the options that may stand before or after a command. One that is not given leaves the value as it is."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--server",
        type=read.server,
        metavar="HOST:PORT|unix:PATH",
        help="address of the service, e.g. unix:/run/snapshotd.sock (default: $SNAPSHOTD_SERVER, or 127.0.0.1:7443)",
    )
    common.add_argument(
        "--actor",
        type=read.actor,
        metavar="NAME",
        help="who you are, for the audit trail (default: $SNAPSHOTD_ACTOR, or your account)",
    )
    common.add_argument("--timeout", type=read.seconds_above_zero, metavar="S", help="of each call (default: 90 s)")
    common.add_argument("-o", "--output", choices=["table", "json"], help="output format (default: table)")
    return common


def _user() -> str:
    try:
        return read.ascii_only(getpass.getuser()) or "unknown"
    except (KeyError, OSError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
