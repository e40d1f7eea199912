"""Help and errors of usage come at once: nothing of gRPC or protobuf is imported for them."""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from snapshotd.client.__main__ import _parser
from snapshotd.client.operation_commands import _OUTCOMES
from snapshotd.client.operation_parser import OUTCOMES
from snapshotd.client.parser import Parser, function_of
from snapshotd.client.revert_commands import _POWERS
from snapshotd.client.revert_parser import POWERS
from tests.unit.client.fake_service import Ctl

_RUN = """\
import json, sys
from snapshotd.client.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
print(json.dumps([code, sorted(m for m in sys.modules if m.split(".")[0] in ("grpc", "google", "rich", "msgspec"))]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (0, "--help"),
        (0, "--version"),
        (0, "snapshot --help"),
        (0, "snapshot create --help"),
        (0, "completion bash"),
        (0, "__complete bash snapshotctl"),
        (2, "snapshot frobnicate"),
        (2, "host list --frob"),
        (2, "-o json host add"),
        (2, "vm start web01 --request-id 7"),
    ],
)
def test_help_and_errors_of_usage_import_neither_grpc_nor_protobuf(code: int, arguments: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments.split()], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == [code, []]


def commands_below(parser: argparse.ArgumentParser) -> Iterator[Parser]:
    """Yield the parsers of all commands below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                if below.get_default("run"):
                    yield below
                yield from commands_below(below)


def test_every_command_has_a_function_that_takes_the_server_and_the_arguments() -> None:
    commands = list(commands_below(_parser({})))
    assert len(commands) > 20
    for command in commands:
        function = function_of(command.get_default("run"))
        assert list(inspect.signature(function).parameters)[:2] == ["server", "arguments"], command.prog


def test_every_command_describes_itself(ctl: Ctl) -> None:
    for command in commands_below(_parser({})):
        said = ctl(*command.prog.split()[1:], "--help")
        assert said.code == 0
        assert str(command.description) in " ".join(said.out.split())


def test_a_commands_own_options_come_first_and_those_of_every_command_last(ctl: Ctl) -> None:
    usage, _, rest = ctl("audit", "diff", "--help").out.partition("\n")
    assert usage == "usage: snapshotctl audit diff [-h] --from T [--to T] VM"
    assert rest.index("--to T") < rest.index("options of every command") < rest.index("--server HOST:PORT")
    assert ctl("audit", "diff").err.splitlines() == [
        usage,
        "snapshotctl audit diff: error: the following arguments are required: VM, --from",
    ]
    assert "commands:" in ctl("vm", "--help").out


def test_the_choices_that_the_help_shows_are_those_of_the_api() -> None:
    assert list(_OUTCOMES) == list(OUTCOMES)
    assert sorted(_POWERS) == list(POWERS)
