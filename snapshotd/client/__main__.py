"""The command line of `snapshotctl`."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from snapshotd.client import arguments as read
from snapshotd.client import (
    audit_parser,
    completion_parser,
    context_parser,
    contexts,
    host_parser,
    operation_parser,
    snapshot_parser,
    streams,
    vm_parser,
    volume_snapshot_parser,
)
from snapshotd.client.completion import COMPLETE, Typed, answer
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.parser import CONNECTION, Parser, ShortUsage, Subcommands, common_options, function_of, output_of
from snapshotd.client.render import show_in_utc

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
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        streams.prepare()
        code = _run(given, os.environ if environ is None else environ)
        sys.stdout.flush()
    except Failed as failed:
        streams.complain(failed, output_of(given))
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
        text = f"Cannot write the output: {error.strerror}. Check where it goes."
        streams.complain(Failed(text, ExitCode.OUTPUT_FAILED), output_of(given))
        return int(ExitCode.OUTPUT_FAILED)
    return code


def _complete(request: Sequence[str], environ: Mapping[str, str]) -> int:
    """Answer a completion script. Nobody reads errors there, so there are none."""

    def names(kind: str, typed: Typed, word: str) -> Iterable[str]:
        if kind == "context":
            return contexts.load(environ).known
        from snapshotd.client import completed_names  # noqa: PLC0415  (gRPC: only names wait for it)
        from snapshotd.client.connection import connection_of  # noqa: PLC0415

        actor = typed.given.get("acting_as") or environ.get("SNAPSHOTD_ACTOR") or _user()
        given = argparse.Namespace(**{name: typed.given.get(name) for name in CONNECTION})
        try:
            connection = connection_of(given, environ)
            return completed_names.names(kind, typed.given.get("vm", ""), word, connection, read.actor(actor))
        except (argparse.ArgumentTypeError, Failed):
            return ()

    sys.stdout.write(answer(_parser(environ), request, names))
    return int(ExitCode.OK)


def _run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    if arguments[:1] == [COMPLETE]:
        return _complete(arguments[1:], environ)
    for argument in arguments:
        if not _is_utf8(argument):
            raise Failed(f"Cannot read argument {ascii(argument)[:80]}: it is not UTF-8.", ExitCode.USAGE)
    try:
        parsed, unknown = _parser(environ).parse_known_args(arguments)
        if unknown:
            parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit as ended:  # argparse has shown the help or the version
        return int(ended.code or 0)
    parsed.typed, parsed.environ = arguments, environ
    run = function_of(parsed.run)
    if not parsed.calls:
        return int(run(None, parsed))
    from snapshotd.client.calls import Server  # noqa: PLC0415  gRPC: only what calls the server waits for it
    from snapshotd.client.connection import connection_of  # noqa: PLC0415
    from snapshotd.client.resolve import lead_on  # noqa: PLC0415

    show_in_utc(parsed.utc)
    connection = connection_of(parsed, environ)
    with Server(
        connection.address,
        parsed.acting_as,
        parsed.timeout,
        security=connection.security,
        on_behalf_of=parsed.on_behalf_of or "",
    ) as server:
        try:
            return int(run(server, parsed))
        except Failed as failed:
            lead_on(server, failed)
            raise


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parser(environ: Mapping[str, str]) -> Parser:
    parser = Parser(
        prog="snapshotctl",
        description="Takes, reverts and deletes snapshots of Hyper-V VMs through snapshotd.",
        epilog=_EPILOG,
        formatter_class=_Help,
        parents=[common_options()],
    )
    parser.set_defaults(
        **dict.fromkeys(CONNECTION),
        on_behalf_of=None,
        acting_as=environ.get("SNAPSHOTD_ACTOR") or _user(),
        timeout=90.0,
        output="table",
        full_ids=False,
        utc=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version of this program")
    commands = Subcommands(parser, common_options(), "COMMAND")
    for module in (
        host_parser,
        vm_parser,
        snapshot_parser,
        volume_snapshot_parser,
        operation_parser,
        audit_parser,
        context_parser,
        completion_parser,
    ):
        module.add_to(commands)
    return parser


class _Help(ShortUsage, argparse.RawDescriptionHelpFormatter):
    """Help whose epilog keeps its lines."""


class _Version(argparse.Action):
    """argparse's `version`, which is looked up only when it is asked for: that takes longer than the help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415

        sys.stdout.write(f"snapshotctl {version('snapshotd')}\n")
        parser.exit()


def _user() -> str:
    try:
        return read.ascii_only(getpass.getuser()) or "unknown"
    except (KeyError, OSError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
