"""Contexts: servers by name, in a file of the user's; what an option, the environment and a context say together."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from snapshotd.api.v1.host_pb2 import ListHostsResponse
from snapshotd.client.contexts import Context, changing, load
from tests.unit.client.fake_service import Ctl, FakeService, Said


class Home:
    """A user with a home directory, and a service that answers."""

    def __init__(self, ctl: Ctl, directory: Path) -> None:
        ctl.service.answers["ListHosts"] = lambda _: ListHostsResponse()
        self._ctl = ctl
        self.at = directory
        self.file = directory / ".config" / "snapshotd" / "config.toml"
        self.token = directory / "token"
        self.token.touch(mode=0o600)
        self.token.write_text("t0ken\n", encoding="utf-8")

    def __call__(self, *arguments: str, **environ: str) -> Said:
        """Run a command that finds its server by itself."""
        return self._ctl(*arguments, **{"HOME": str(self.at), **environ})

    def set(self, name: str, *options: str) -> Said:
        """Keep a context."""
        said = self("context", "set", name, *options)
        assert said.code == 0, said.err
        return said


@pytest.fixture
def home(ctl: Ctl, tmp_path: Path) -> Home:
    ctl.known = {}
    return Home(ctl, tmp_path)


def test_what_is_set_is_kept_in_a_file_that_people_can_read_and_write(home: Home) -> None:
    home.set("prod", "--server", "s.example.com:7443", "--ca", str(home.at / "ca.pem"), "--token-file", "~/token")
    home.set("lab", "--server", "127.0.0.1:7443")
    home.set("prod", "--server-name", 'quite "other"')
    assert (
        home.file.read_text(encoding="utf-8")
        == f"""\
current = "prod"

[context.prod]
server = "s.example.com:7443"
ca = "{home.at}/ca.pem"
token_file = "{Path.home()}/token"
server_name = "quite \\"other\\""

[context.lab]
server = "127.0.0.1:7443"
"""
    )
    assert home.file.stat().st_mode & 0o077 == 0
    said = home("context", "list")
    assert [line.split() for line in said.out.splitlines()] == [
        ["NAME", "SERVER", "SIGNS", "IN", "BY"],
        ["*", "prod", "s.example.com:7443", "token"],
        ["lab", "127.0.0.1:7443", "name", "only"],
    ]
    assert json.loads(home("context", "show", "-o", "json").out)["server_name"] == 'quite "other"'
    assert home("context", "list", "-o", "name").out == "prod\nlab\n"
    assert home("context", "list", "-o", "csv").out.splitlines()[1] == "*,prod,s.example.com:7443,token"


def test_contexts_that_are_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}

    def make(name: str) -> None:
        with changing(environ) as contexts:
            replace(contexts, known={**contexts.known, name: Context(server="s:1")}).save()

    names = [f"c{n}" for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, names))
    assert sorted(load(environ).known) == sorted(names)


def test_contexts_are_chosen_shown_and_removed(home: Home) -> None:
    for name in ("prod", "lab"):
        home.set(name, "--server", f"{name}.example.com:7443")
    assert home("context", "use", "lab").out == "The current context is lab (lab.example.com:7443).\n"
    assert "Server:  lab.example.com:7443" in home("context", "show").out
    assert "Server:  prod.example.com:7443" in home("--context", "prod", "context", "show").out
    assert "Current: no" in home("context", "show", "prod").out
    assert home("context", "remove", "lab").code == 0
    assert home("context", "show").code == 4
    assert home("context", "list", "-o", "name").out == "prod\n"
    assert home("context", "use", "lab").code == 4


def test_a_command_goes_to_the_current_context_unless_another_is_named(home: Home, service: FakeService) -> None:
    home.set("here", "--server", service.address, "--token-file", str(home.token))
    home.set("away", "--server", "away.example.com:1", "--token-file", str(home.token))
    assert home("host", "list").out == "(none)\n"
    assert service.came_with[-1]["authorization"] == "Bearer t0ken"
    home("context", "use", "away")
    assert "Cannot send the token" in home("host", "list").err
    assert home("host", "list", "--context", "here").code == 0
    assert home("host", "list", SNAPSHOTD_CONTEXT="here").code == 0
    assert home("host", "list", "--context", "here", SNAPSHOTD_CONTEXT="away", SNAPSHOTD_SERVER="127.0.0.1:1").code == 0
    said = home("host", "list", "--context", "nowhere")
    assert (said.code, "Cannot find context 'nowhere' in " in said.err, "here, away" in said.err) == (4, True, True)


def test_a_token_of_the_current_context_goes_to_no_other_server(home: Home, service: FakeService) -> None:
    home.set("prod", "--server", "127.0.0.1:1", "--token-file", str(home.token))
    assert home("host", "list", "--server", service.address).code == 0
    assert home("host", "list", SNAPSHOTD_SERVER=service.address).code == 0
    assert home("host", "list", "--server", service.address, SNAPSHOTD_CONTEXT="prod").code == 0
    assert ["authorization" in came for came in service.came_with] == [False, False, False]
    assert home("host", "list", "--server", service.address, "--context", "prod").code == 0
    assert service.came_with[-1]["authorization"] == "Bearer t0ken", "the context was asked for"


def test_an_option_counts_before_the_environment_and_that_before_the_context(home: Home, service: FakeService) -> None:
    home.set("here", "--server", service.address, "--token-file", str(home.token))
    other = home.at / "other"
    other.touch(mode=0o600)
    other.write_text("0ther", encoding="utf-8")
    home("host", "list", SNAPSHOTD_TOKEN="fr0m-the-environment")
    home("host", "list", "--token-file", str(other), SNAPSHOTD_TOKEN="fr0m-the-environment")
    sent = [came["authorization"] for came in service.came_with]
    assert sent == ["Bearer fr0m-the-environment", "Bearer 0ther"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("current = 1", "current must be a name"),
        ("[context]\nprod = 1", "[context.prod] must be a table"),
        ('[context."a b"]\nserver = "x:1"', "[context.a b] must be a table, its name of letters"),
        ("[context.prod]\nport = 1", "context prod has port. There are, as text: server, ca, token_file"),
        ('token = "x"', "there is no setting token. There are: current"),
        ("[", "it is not TOML"),
        (f"a = {'[' * 5000}", "it is not TOML"),
    ],
)
def test_a_file_that_makes_no_sense_is_told_with_what_is_wrong(
    home: Home, service: FakeService, text: str, says: str
) -> None:
    home.file.parent.mkdir(parents=True)
    home.file.write_text(text, encoding="utf-8")
    said = home("host", "list")
    assert (said.code, f"Cannot read {home.file}: {says}" in said.err) == (2, True), said.err
    assert home("host", "list", "--server", service.address).code == 0, "it is not asked where a server is named"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["set", "a b", "--server", "x:1"], 2, "Cannot name a context 'a b'"),
        (["set", "prod"], 2, "without its server. Give --server"),
        (["set", "prod", "--server", "x:1", "--key", "k"], 2, "give --certificate and --key"),
        (["remove", "prod"], 4, "There is none. Make it with"),
        (["show"], 4, "There is no current context. Choose one: snapshotctl context use NAME."),
    ],
)
def test_what_cannot_be_done_with_contexts_is_told(home: Home, arguments: list[str], code: int, says: str) -> None:
    said = home("context", *arguments)
    assert (said.code, says in said.err) == (code, True), said.err
    assert not home.file.exists()


def test_files_of_a_context_are_relative_to_the_file_that_names_them(home: Home, service: FakeService) -> None:
    place = home.at / "elsewhere" / "snapshotd"
    place.mkdir(parents=True)
    (place / "mine").touch(mode=0o600)
    (place / "mine").write_text("relative", encoding="utf-8")
    text = f'current = "c"\n[context.c]\nserver = "{service.address}"\ntoken_file = "mine"\n'
    (place / "config.toml").write_text(text, encoding="utf-8")
    assert home("host", "list", XDG_CONFIG_HOME=str(place.parent)).code == 0
    assert service.came_with[-1]["authorization"] == "Bearer relative"


def test_without_a_home_there_are_no_contexts_and_none_is_kept(ctl: Ctl) -> None:
    ctl.known = {}
    assert ctl("context", "list").out == "(none)\n"
    assert "neither $HOME nor $XDG_CONFIG_HOME is set" in ctl("context", "set", "a", "--server", "x:1").err


def test_names_of_contexts_are_completed(home: Home) -> None:
    for name in ("prod", "lab"):
        home.set(name, "--server", "127.0.0.1:1")
    assert home("__complete", "zsh", "snapshotctl host list --context p").out == "prod\n"
    assert home("__complete", "zsh", "snapshotctl context use ").out == "prod\nlab\n"
    assert home("__complete", "zsh", "snapshotctl host list --token").out == "--token-file\n"
