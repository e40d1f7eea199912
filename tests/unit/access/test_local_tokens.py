"""Local tokens: what was issued signs in until it expires or is revoked, and nothing else; no secret is kept."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from snapshotd.__main__ import main
from snapshotd.access.errors import (
    AccessUnusable,
    SignInRefused,
    TokenExpired,
    TokenMalformed,
    TokenRevoked,
    TokensUnreadable,
    TokenUnknown,
)
from snapshotd.access.identity import Identity
from snapshotd.access.local_tokens import LocalTokens, TokenFile

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CI = Identity("token:ci")


class Clock:
    """The time, as a test sets it."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json")


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> LocalTokens:
    return LocalTokens(tmp_path / "tokens.json", clock)


def issued(file: TokenFile, name: str = "ci") -> str:
    return file.issue(name, DAY, "ann", NOW)[0]


def test_a_token_signs_in_as_its_name_from_the_moment_in_which_it_was_issued(
    file: TokenFile, tokens: LocalTokens
) -> None:
    with pytest.raises(TokenUnknown):
        tokens.verify("snapshotd_0a0a0a0a_secret")
    assert tokens.verify(issued(file)) == Identity("token:ci")
    assert tokens.verify(issued(file, "bot@example.com")) == Identity("token:bot@example.com")


def test_a_token_ends_when_it_expires(file: TokenFile, tokens: LocalTokens, clock: Clock) -> None:
    token = issued(file)
    clock.time = NOW + DAY - timedelta(microseconds=1)
    assert tokens.verify(token) == CI
    clock.time = NOW + DAY
    with pytest.raises(TokenExpired, match=r"of ci: it expired at 2026-03-02T12:00:00Z"):
        tokens.verify(token)


def test_a_revoked_token_is_refused_at_the_next_call_and_others_of_its_name_are_not(
    file: TokenFile, tokens: LocalTokens
) -> None:
    old, new = issued(file), issued(file)
    assert tokens.verify(old) == tokens.verify(new)
    identifier = old.split("_")[1]
    assert [token.id for token in file.revoke(identifier, NOW)] == [identifier]
    with pytest.raises(TokenRevoked, match="revoked at 2026-03-01T12:00:00Z"):
        tokens.verify(old)
    assert tokens.verify(new) == CI
    assert len(file.revoke("ci", NOW + DAY)) == 1
    with pytest.raises(TokenRevoked, match="2026-03-02"):
        tokens.verify(new)
    with pytest.raises(TokenRevoked, match="2026-03-01"):
        tokens.verify(old)
    assert file.revoke("ci", NOW) == []


def test_who_knows_only_the_id_of_a_token_learns_nothing_of_it(file: TokenFile, tokens: LocalTokens) -> None:
    token = issued(file)
    identifier = token.split("_")[1]
    file.revoke(identifier, NOW)
    forged = f"snapshotd_{identifier}_{'A' * 43}"
    with pytest.raises(TokenUnknown) as refused:
        tokens.verify(forged)
    assert "ci" not in re.findall(r"\w+", str(refused.value))
    assert refused.value.metadata() == {"token": identifier}


@pytest.mark.parametrize(
    "text", ["", "snapshotd_", "snapshotd_id", "snapshotd__x", "snapshotd_id_", "id_secret", "snapshotd_ï_x"]
)
def test_what_is_no_local_token_is_told_as_that_without_being_shown(tokens: LocalTokens, text: str) -> None:
    with pytest.raises(TokenMalformed) as refused:
        tokens.verify(text)
    assert text in {"", "snapshotd_"} or text not in str(refused.value)


def test_the_file_has_no_secret_and_only_its_owner_reads_it(
    tmp_path: Path, file: TokenFile, tokens: LocalTokens
) -> None:
    token = issued(file)
    secret = token.split("_", 2)[2]
    path = tmp_path / "tokens.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in path.read_text(encoding="utf-8")
    assert set(json.loads(path.read_bytes())["tokens"][0]) == {
        "name", "id", "sha256", "created", "expires", "issued_by", "revoked",
    }  # fmt: skip
    assert secret not in repr(file.all())
    file.revoke("ci", NOW)
    with pytest.raises(TokenRevoked) as refused:
        tokens.verify(token)
    assert secret not in f"{refused.value} {refused.value.metadata()} {refused.value!r}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {p.name for p in tmp_path.iterdir()} == {"tokens.json", "tokens.json.lock"}


def test_tokens_that_are_issued_at_the_same_time_are_all_on_record(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tokens.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: issued(TokenFile(path), f"bot{number}"), range(24)))
    tokens = LocalTokens(path, Clock())
    assert {tokens.verify(token).subject for token in made} == {f"token:bot{number}" for number in range(24)}


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "half of it": lambda content: content[: len(content) // 2],
    "another version": lambda content: content.replace(b'"version": 1', b'"version": 2'),
    "an id twice": lambda content: json.dumps({"tokens": json.loads(content)["tokens"] * 2}).encode(),
    "a name with a blank": lambda content: content.replace(b'"ci"', b'"c i"'),
    "a time without offset": lambda content: content.replace(b"2026-03-02T12:00:00Z", b"2026-03-02T12:00:00"),
    "a field that nobody knows": lambda content: content.replace(b'"name"', b'"admin": true, "name"'),
    "not text": lambda content: b"\xff\xfe\xff",
    "too deep": lambda content: b"[" * 100_000,
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_is_broken_lets_nobody_in_and_is_logged_once_until_it_is_whole_again(
    tmp_path: Path, file: TokenFile, tokens: LocalTokens, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    token, path = issued(file), tmp_path / "tokens.json"
    assert tokens.verify(token) == CI
    whole = path.read_bytes()
    broken = BROKEN[what](whole)
    assert broken != whole
    path.write_bytes(broken)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            with pytest.raises(TokensUnreadable):
                tokens.verify(token)
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    with pytest.raises(AccessUnusable, match=re.escape(str(path))):
        issued(file)
    assert path.read_bytes() == broken, "what may be mended is not written over"
    path.write_bytes(whole)
    assert tokens.verify(token) == CI


def test_a_file_that_others_may_write_lets_nobody_in(tmp_path: Path, file: TokenFile, tokens: LocalTokens) -> None:
    token, path = issued(file), tmp_path / "tokens.json"
    path.chmod(0o620)
    with pytest.raises(TokensUnreadable):
        tokens.verify(token)
    with pytest.raises(AccessUnusable, match="mode to 600"):
        file.all()
    path.chmod(0o640)
    assert tokens.verify(token) == CI


def test_a_file_that_cannot_be_read_lets_nobody_in_and_one_that_is_gone_has_no_token(
    tmp_path: Path, file: TokenFile, tokens: LocalTokens, caplog: pytest.LogCaptureFixture
) -> None:
    token, path = issued(file), tmp_path / "tokens.json"
    assert tokens.verify(token) == CI
    path.unlink()
    with pytest.raises(TokenUnknown):
        tokens.verify(token)
    path.mkdir()
    for _ in range(2):
        with pytest.raises(TokensUnreadable):
            tokens.verify(token)
    assert len(caplog.records) == 1
    for change in (lambda: issued(file), file.all):
        with pytest.raises(AccessUnusable, match="it is a directory"):
            change()


@pytest.mark.parametrize("name", ["", "a b", "-x", "deadbeef", "ü", "a/b", "x" * 64, "a\n"])
def test_a_name_that_could_be_taken_for_something_else_gets_no_token(
    tmp_path: Path, file: TokenFile, name: str
) -> None:
    with pytest.raises(AccessUnusable, match="Cannot issue a token"):
        issued(file, name)
    assert not (tmp_path / "tokens.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_the_services_user_can_read(tmp_path: Path, file: TokenFile) -> None:
    os.chown(tmp_path, 4321, 4321)
    issued(file)
    assert {p.stat().st_uid for p in tmp_path.iterdir()} == {4321}
    os.chown(tmp_path, 0, 0)
    issued(file)
    assert {p.stat().st_uid for p in tmp_path.iterdir()} == {4321}


def run(tmp_path: Path, *arguments: str) -> int:
    return main(["token", *arguments, "--storage-directory", str(tmp_path)])


def listed(capsys: pytest.CaptureFixture[str]) -> Sequence[Sequence[str]]:
    return [re.split("  +", line) for line in capsys.readouterr().out.splitlines()]


def test_the_command_prints_a_token_alone_on_standard_output_and_never_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "issue", "ci", "--expires", "30d") == 0
    printed = capsys.readouterr()
    token = printed.out.removesuffix("\n")
    assert re.fullmatch(r"snapshotd_[0-9a-f]{8}_[\w-]{43}", token)
    identifier, secret = token.split("_", 2)[1:]
    assert identifier in printed.err
    assert secret not in printed.err
    now = datetime.now(UTC)
    tokens = LocalTokens(tmp_path / "tokens.json", lambda: now + timedelta(days=29))
    assert tokens.verify(token) == Identity("token:ci")
    assert run(tmp_path, "list") == 0
    head, row = listed(capsys)
    assert head[:3] == ["ID", "NAME", "STATE"]
    assert row[:3] == [identifier, "ci", "in force"]
    assert run(tmp_path, "revoke", "ci") == 0
    assert capsys.readouterr().out == f"Revoked token {identifier} of ci.\n"
    with pytest.raises(SignInRefused):
        tokens.verify(token)
    assert run(tmp_path, "revoke", identifier) == 0
    assert run(tmp_path, "list") == 0
    assert listed(capsys)[-1][2] == "revoked"


@pytest.mark.parametrize(("device", "why"), [("/dev/full", "no space left on device"), ("", "broken pipe")])
def test_a_token_that_could_not_be_printed_is_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, device: str, why: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    target = os.open(device, os.O_WRONLY) if device else os.dup(writing)
    os.close(writing)
    output = os.fdopen(target, "w", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", output)
        assert run(tmp_path, "issue", "ci") == 2
    with suppress(OSError):
        output.close()
    assert f"Cannot print the token: {why}. It was revoked; issue another one." in capsys.readouterr().err
    (token,) = TokenFile(tmp_path / "tokens.json").all()
    assert token.revoked is not None


def test_without_a_standard_output_nothing_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", None)
        assert run(tmp_path, "issue", "ci") == 2
    assert "snapshotd token: Cannot write the output: standard output is closed." in capsys.readouterr().err
    assert not (tmp_path / "tokens.json").exists()


def test_the_file_may_be_elsewhere_and_a_token_that_is_not_there_is_not_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    assert run(tmp_path, "issue", "ci", "--auth-tokens", str(elsewhere)) == 0
    assert len(TokenFile(elsewhere).all()) == 1
    assert run(tmp_path, "revoke", "ci") == 2
    assert "snapshotd token: Cannot revoke 'ci': there is no token of that id or name" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(tmp_path, "issue", "ci", "--expires", "30")
    assert 'must be a duration above 0 with its unit, e.g. "30 d"' in capsys.readouterr().err
