"""Manual pages and tab completion are made of the declarations: each command and each option is in them."""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.__main__ import _parser as daemon_parser
from snapshotd.__main__ import main
from snapshotd.client.__main__ import _parser as client_parser
from snapshotd.upkeep.manual import page

PROGRAMS = (daemon_parser(), client_parser({}))
MAN, BASH = shutil.which("man"), shutil.which("bash")


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the commands that a program has, without those that only hold others."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in below:
        for command in action.choices.values():
            yield from commands(command)
    if not below:
        yield parser


@pytest.mark.parametrize("parser", PROGRAMS, ids=lambda parser: parser.prog)
def test_a_page_has_each_command_and_each_option_and_nothing_that_roff_takes_for_a_request(
    parser: argparse.ArgumentParser,
) -> None:
    text = page(parser, "1.2.3")
    lines = text.splitlines()
    assert lines[0] == f'.TH {parser.prog.upper()} 1 "" "{parser.prog} 1.2.3" "snapshotd"'
    assert [line for line in lines if line.startswith(".SH")] == [
        *(".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS", ".SH COMMANDS", ".SH EXIT STATUS"),
        ".SH SEE ALSO",
    ]
    known = (".TH", ".SH", ".SS", ".TP", ".PP", ".nh", ".ad")
    assert [line for line in lines if line.startswith((".", "'")) and not line.startswith(known)] == []
    plain = text.replace("\\-", "-")
    for command in commands(parser):
        assert f".SS {command.prog}\n" in plain
        for action in command._actions:
            assert all(f"\\fB{string}\\fR" in plain for string in action.option_strings), (command.prog, action)
    assert "%(default)s" not in plain
    assert "argparse" not in plain


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("snapshotd", "snapshotd backup [OPTION]... FILE|DIRECTORY"),
        ("snapshotctl", "snapshotctl snapshot revert [OPTION]... VM SNAPSHOT"),
    ],
)
@pytest.mark.skipif(MAN is None, reason="NOT CHECKED: whether man shows the manual pages. Install man-db")
def test_man_shows_a_page(tmp_path: Path, program: str, shown: str) -> None:
    assert MAN is not None
    assert main(["man", str(tmp_path / "man")]) == 0
    environ = {"MANWIDTH": "200", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    command = [MAN, "--local-file", str(tmp_path / "man" / f"{program}.1")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert ran.stderr == ""
    assert shown in ran.stdout
    assert "SEE ALSO" in ran.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_of_each_command_and_flag(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    words = [command.prog.split()[-1] for command in commands(PROGRAMS[0])]
    assert [word for word in (*words, "storage-directory", "replace") if word not in script] == []


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        (("exe",), ["executor"]),
        (("backup", "--storage-d"), ["--storage-directory"]),
        (("doctor", "e"), ["executor"]),
        (("restore", "a"), ["a backup.tar"]),
        (("serve", "--config", "a"), ["a backup.tar"]),
    ],
)
@pytest.mark.skipif(BASH is None, reason="NOT CHECKED: whether bash completes. Install bash")
def test_bash_completes_commands_flags_choices_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: tuple[str, ...], completed: list[str]
) -> None:
    assert BASH is not None
    (tmp_path / "a backup.tar").touch()
    main(["completion", "bash"])
    ask = '\nCOMP_WORDS=(snapshotd "$@"); COMP_CWORD=$#; _shtab_snapshotd; printf "%s\\n" "${COMPREPLY[@]}"'
    script = capsys.readouterr().out + ask
    ran = subprocess.run([BASH, "-c", script, "bash", *line], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.splitlines() == completed


def typed(document: str) -> Iterator[list[str]]:
    """Yield the commands of ours that a document tells people to type, as words."""
    for line in document.splitlines():
        command = re.fullmatch(r"    (?:\(umask 077; )?(snapshot(?:d|ctl) .*)", line)
        words = shlex.split(command[1], comments=True) if command else []
        for between, part in itertools.groupby(words, key=lambda word: word in ("&&", ">", "&")):
            found = [] if between else list(part)
            if found and found[0] in ("snapshotd", "snapshotctl"):
                yield found


def test_what_the_guide_tells_people_to_type_can_be_typed() -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "running.md").read_text(encoding="utf-8")
    lines = list(typed(guide))
    assert len(lines) > 20
    for program, *words in lines:
        dict(zip(("snapshotd", "snapshotctl"), PROGRAMS, strict=True))[program].parse_args(words)
