"""The command line of `snapshotctl`."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from snapshotd.client import audit_commands, host_commands, operation_commands, snapshot_commands, vm_commands
from snapshotd.client.calls import ExitCode, Failed, Server
from snapshotd.client.options import Subcommands

_EPILOG = """\
exit codes:
    0  done
    1  the operation that was waited for failed, or was cancelled
    2  the command line makes no sense
    3  refused: the text says why
    4  there is no such VM, snapshot, host or operation
    5  another operation is active on the VM
    6  the server, an executor or a host is not there
    7  time ran out
  130  interrupted; an operation that was waited for goes on
"""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run a command; return the exit code."""
    parsed = _parser(os.environ if environ is None else environ).parse_args(arguments)
    try:
        with Server(parsed.server, parsed.actor, parsed.timeout) as server:
            return int(parsed.run(server, parsed))
    except Failed as failed:
        sys.stderr.write(f"snapshotctl: {failed.whole}\n")
        return int(failed.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever reads has read enough.
        sys.stderr.close()
        return int(ExitCode.OK)


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--server",
        default=environ.get("SNAPSHOTD_SERVER", "127.0.0.1:7443"),
        metavar="HOST:PORT",
        help="of the service (default: $SNAPSHOTD_SERVER, or 127.0.0.1:7443)",
    )
    common.add_argument(
        "--actor",
        default=environ.get("SNAPSHOTD_ACTOR") or _user(),
        help="who you are, for the audit trail (default: $SNAPSHOTD_ACTOR, or your account)",
    )
    common.add_argument("--timeout", type=float, default=90.0, metavar="S", help="of each call (default: %(default)s)")
    common.add_argument("-o", "--output", choices=["table", "json"], default="table", help="what is printed")
    parser = argparse.ArgumentParser(
        prog="snapshotctl",
        description="Takes, reverts and deletes snapshots of Hyper-V VMs, by way of snapshotd.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"snapshotctl {version('snapshotd')}")
    commands = Subcommands(parser, common, "COMMAND")
    for module in (host_commands, vm_commands, snapshot_commands, operation_commands, audit_commands):
        module.add_to(commands)
    return parser


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
