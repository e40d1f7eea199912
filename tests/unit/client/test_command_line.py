"""What makes no sense is said before anything is sent; common options stand before or after a command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from snapshotd.api.v1.host_pb2 import ListHostsResponse
from snapshotd.client import arguments as read
from snapshotd.client.__main__ import _parser
from tests.unit.client.fake_service import Ctl, FakeService, Refuse

DOCUMENT = (Path(__file__).parents[3] / "docs/cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["host", "list", "--server", ""], "must be HOST:PORT"),
        (["host", "list", "--server", "http://127.0.0.1:7443"], "must be HOST:PORT"),
        (["host", "list", "--server", "127.0.0.1"], "must be HOST:PORT"),
        (["host", "list", "--server", "127.0.0.1:99999"], "must be HOST:PORT"),
        (["host", "list", "--server", "unix:"], "must be unix:PATH"),
        (["host", "list", "--server", "unix:/"], "must be unix:PATH"),
        (["host", "list", "--server", "unix:/run/"], "must be unix:PATH"),
        (["host", "list", "--server", "unix://run/s.sock"], "must be unix:PATH"),
        (["host", "list", "--server", "unix:/run/s#1"], "must be unix:PATH"),
        (["host", "list", "--server", f"unix:/{'x' * 107}"], "has 108 bytes"),
        (["host", "list", "--as", "Jürgen"], "e.g. Jurgen"),
        (["host", "list", "--as", ""], "1 to 100"),
        (["host", "list", "--as", " ann"], "blanks"),
        (["host", "list", "--timeout", "inf"], "seconds"),
        (["host", "list", "--timeout", "nan"], "seconds"),
        (["host", "list", "--timeout", "-1"], "seconds"),
        (["host", "list", "--timeout", "0"], "must be above 0"),
        (["operation", "wait", "o", "--for", "inf"], "seconds"),
        (["vm", "start", "web01", "--request-id", "7"], "must be a UUID"),
        (["vm", "start", "web01", "--request-id", "00000000-0000-0000-0000-000000000000"], "must be a UUID"),
        (["host", "add", "hv01", "hv01.example.com", "--credential", "c", "--port", "99999"], "1 to 65535"),
        (["host", "add", "hv01", "", "--credential", "c"], "must not be empty"),
        (["host", "show", ""], "must not be empty"),
        (["vm", "show", " "], "must not be empty"),
        (["vm", "list", "--host", ""], "must not be empty"),
        (["snapshot", "delete", "web01", ""], "must not be empty"),
        (["snapshot", "create", "web01", "--name", ""], "must not be empty"),
        (["operation", "show", ""], "must not be empty"),
        (["operation", "list", "--vm", ""], "must not be empty"),
        (["audit", "list", "--actor", ""], "must not be empty"),
        (["audit", "list", "--type", ""], "must not be empty"),
        (["audit", "tail", "--after", "-1"], "0 or more"),
        (["audit", "tail", "--after", "1", "--last", "1"], "not allowed with argument"),
        (["audit", "diff", "web01"], "required: --from"),
        (["audit", "diff", "web01", "--from", "soon"], "Write it as 2026-01-31T12:00:00Z"),
        (["audit", "diff", "web01", "--from", "1", "-o", "csv"], "-o json"),
        (["snapshot", "tree", "web01", "--at", "soon"], "or as 2h for two hours ago"),
        (["snapshot", "tree", "web01", "--at", "1", "--watch"], "not allowed with argument"),
        (["vm", "show", "web01", "--at", "1x"], "Cannot read --at '1x'"),
        (["audit", "list", "--snapshot", "one"], "without its VM. Add --vm"),
        (["audit", "list", "--since", "yesterday"], "2026-01-31T12:00:00Z"),
        (["audit", "list", "--since", "9999-12-31T23:59:59-12:00"], "2026-01-31T12:00:00Z"),
        (["audit", "list", "--until", "0001-01-01T00:00:00+12:00"], "2026-01-31T12:00:00Z"),
        (["vm", "show", "web\udcff"], "is not UTF-8"),
        (["snapshot", "create", "web01", "--memory", "--allow-fallback"], "not allowed with argument --memory"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    ctl: Ctl, service: FakeService, arguments: list[str], text: str
) -> None:
    said = ctl(*arguments)
    assert (said.code, said.out) == (2, "")
    assert text in said.err
    assert not service.asked


def test_the_environment_is_checked_where_nothing_else_is_given(ctl: Ctl, service: FakeService) -> None:
    service.answers["ListHosts"] = lambda _: ListHostsResponse()
    assert ctl("host", "list", SNAPSHOTD_ACTOR="Jürgen").code == 2
    assert ctl("host", "list", SNAPSHOTD_SERVER="").code == 2
    assert ctl("host", "list", "--as", "ann", SNAPSHOTD_ACTOR="Jürgen").code == 0


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}", "unix:s"])
def test_a_server_is_reached_by_its_socket(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with FakeService(address=f"unix:{tmp_path / 's'}") as service:
        service.answers["ListHosts"] = lambda _: ListHostsResponse()
        ctl, address = Ctl(service, capsys), form.format(tmp_path / "s")
        assert ctl("host", "list", "--server", address).out == "(none)\n"
        assert ctl("host", "list", SNAPSHOTD_SERVER=address).out == "(none)\n"


def test_the_help_has_both_forms_of_an_address(ctl: Ctl) -> None:
    assert "--server HOST:PORT|unix:PATH" in ctl("host", "list", "--help").out


def test_a_long_name_is_not_echoed_whole(ctl: Ctl) -> None:
    said = ctl("host", "list", "--as", "x" * 5000)
    assert (said.code, "5000 characters" in said.err, len(said.err) < 1500) == (2, True, True)


def test_an_account_gets_an_ascii_name() -> None:
    assert [read.ascii_only(name) for name in ("Jürgen", "ann", "玲", "Łukasz\n")] == ["Jurgen", "ann", "", "ukasz"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_common_options_stand_before_a_command_between_or_after(ctl: Ctl, service: FakeService, place: int) -> None:
    service.answers["ListHosts"] = lambda _: ListHostsResponse()
    command = ["host", "list"]
    command[place:place] = ["-o", "json", "--timeout", "5", "--server", service.address, "--as", "bob"]
    assert ctl(*command, SNAPSHOTD_SERVER="127.0.0.1:1").out == '{\n  "hosts": []\n}\n'
    # The later one counts.
    assert ctl(*command, "-o", "table").out == "(none)\n"


def test_the_exit_codes_of_the_help_are_those_of_the_document(ctl: Ctl) -> None:
    said = ctl("--help").out
    told = [line.split(maxsplit=1) for line in said.partition("exit codes:\n")[2].splitlines()]
    document = DOCUMENT.partition("| code | meaning |\n|---|---|\n")[2]
    listed = [[cell.strip() for cell in line.split("|")[1:3]] for line in document.split("\n\n")[0].splitlines()]
    assert told == listed


def options_below(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Return the options of a parser and of all commands below it."""
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options_below(below)


def test_every_option_is_in_the_document() -> None:
    options = set(options_below(_parser({}))) - {"--help", "--version", "--output"}
    assert {o for o in options if not re.search(rf"{o}\b", DOCUMENT)} == set()
    assert "-o json" in DOCUMENT


@pytest.mark.parametrize(
    ("command", "method", "field"),
    [
        (("operation", "show", "bogus"), "GetOperation", "name"),
        (("host", "show", "HV01"), "GetHost", "name"),
        (("audit", "list", "--operation", "bogus"), "ListEvents", "operation"),
    ],
)
def test_a_name_that_has_the_form_of_none_names_nothing(
    ctl: Ctl, service: FakeService, command: tuple[str, ...], method: str, field: str
) -> None:
    def refuse(_: object) -> Message:
        text = f"Cannot accept {field} 'bogus': must be a name."
        raise Refuse(grpc.StatusCode.INVALID_ARGUMENT, text, "INVALID_ARGUMENT")

    service.answers[method] = refuse
    said = ctl(*command)
    assert (said.code, said.err) == (4, "snapshotctl: Cannot find 'bogus': must be a name. [INVALID_ARGUMENT]\n")


@pytest.mark.parametrize("arguments", [("operation", "show", "o", "--frob"), ("--frob", "operation", "show", "o")])
def test_an_unknown_option_shows_the_usage_of_its_command(
    ctl: Ctl, service: FakeService, arguments: tuple[str, ...]
) -> None:
    said = ctl(*arguments)
    assert (said.code, service.asked) == (2, [])
    assert said.err.startswith("usage: snapshotctl operation show ")
    assert "unrecognized arguments: --frob" in said.err
