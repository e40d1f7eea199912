"""Enums go to .NET by their type: .NET Framework has overloads where a word fits several enums, and picks none."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

_CALL = re.compile(r"New-Object\s+[\w.]+\s|[.:]\w+\(")
"""Where the arguments of a constructor or a method begin."""
_BARE_WORDS = re.compile(r"(?:[ (]|^)'[A-Z][A-Za-z]+(?:, [A-Z][A-Za-z]+)*'(?! -)")
"""A literal that may be taken for an enum's members, with no type before it."""
_NOT_DOTNETS = re.compile(r"-\w+\s+'[^']*'|\{.*")
"""What an operator or a command of PowerShell's takes, and what begins after the call."""


def bare_words(text: str) -> list[str]:
    """Return the lines that hand .NET a word where it may want an enum."""
    found = []
    for line in text.splitlines():
        call = _CALL.search(line)
        if call and _BARE_WORDS.search(_NOT_DOTNETS.sub("", line[call.end() :])):
            found.append(line.strip())
    return found


@pytest.mark.parametrize("name", ["host.ps1", "bootstrap.ps1"])
def test_no_enum_is_handed_to_dotnet_as_a_bare_word(name: str) -> None:
    assert bare_words((files("snapshotd.hyperv") / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "$stream = New-Object IO.FileStream $path, 'OpenOrCreate', 'Write', 'Read', 4096, $through",
        "[void]$stream.Seek($offset, 'Begin')",
        "$list.AddAccessRule((New-Object Security.AccessControl.MutexAccessRule $account, 'FullControl', 'Allow'))",
        "[IO.File]::Open($path, 'Open')",
        "New-Object Flags 'ReadWrite, Delete'",
    ],
)
def test_a_bare_word_is_found(line: str) -> None:
    assert bare_words(line) == [line]


@pytest.mark.parametrize(
    "line",
    [
        "$share = [IO.FileShare]'ReadWrite, Delete'",
        "New-Object IO.FileStream $path, ([IO.FileMode]::Open), ([IO.FileAccess]::Read), $share",
        "if ($found.ContainsKey($status)) { 'OTHER' }",
    ],
)
def test_a_typed_one_is_none(line: str) -> None:
    assert bare_words(line) == []
