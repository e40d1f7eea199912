"""Credentials by name: where they are found, what is refused, and that a secret never shows."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from snapshotd.hyperv.credentials import Credentials, Kind
from snapshotd.hyperv.no_answer import CredentialMissing

CANARY = "kanarienvogel:Geheim 1"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode("latin-1"))
    path.chmod(mode)
    return path


def test_a_file_holds_user_and_password_and_only_the_first_colon_counts(tmp_path: Path) -> None:
    write(tmp_path / "hv", f"DOM\\snap:{CANARY}\r\n")
    credential = Credentials(tmp_path, {}).find("hv")
    assert (credential.username, credential.secret.reveal()) == ("DOM\\snap", CANARY)


def test_systemd_comes_first_then_the_directory_then_the_environment(tmp_path: Path) -> None:
    systemd, own = tmp_path / "systemd", tmp_path / "own"
    systemd.mkdir()
    own.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(systemd), "SNAPSHOTD_CREDENTIAL_HV_01": "environment:x"}
    credentials = Credentials(own, environ)
    assert credentials.find("hv-01").username == "environment"
    write(own / "hv-01", "own:x")
    assert credentials.find("hv-01").username == "own"
    write(systemd / "hv-01", "systemd:x")
    assert credentials.find("hv-01").username == "systemd"


def test_what_cannot_change_while_the_program_runs_is_known(tmp_path: Path) -> None:
    for place in ("systemd", "directory"):
        (tmp_path / place).mkdir()
        (tmp_path / place / place).write_text("u:p", encoding="utf-8")
        (tmp_path / place / place).chmod(0o600)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "systemd"), "SNAPSHOTD_CREDENTIAL_VARIABLE": "u:p"}
    credentials = Credentials(tmp_path / "directory", environ)
    given = {name: credentials.find(name).given_at_start for name in ("systemd", "directory", "variable")}
    assert given == {"systemd": True, "directory": False, "variable": True}


def test_a_changed_password_is_seen_the_next_time(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path, {})
    for password in ("one", "two"):
        write(tmp_path / "hv", f"snap:{password}\n")
        assert credentials.find("hv").secret.reveal() == password


@pytest.mark.parametrize("name", ["", ".hidden", "../hv", "a/b", "a b", "a\n", "-a", "a" * 64, "ä", "a\0"])
def test_a_name_that_could_leave_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CredentialMissing, match="credential name"):
        Credentials(tmp_path, {}).find(name)


@pytest.mark.parametrize("typed", [f"DOM\\snap:{CANARY}", CANARY, "Geheim/1", "G" * 64])
def test_a_secret_in_the_place_of_the_name_is_not_shown(tmp_path: Path, typed: str) -> None:
    with pytest.raises(CredentialMissing, match="never with the secret") as caught:
        Credentials(tmp_path, {}).find(typed)
    assert typed not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_a_file_that_everybody_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    write(tmp_path / "hv", f"snap:{CANARY}", mode)
    with pytest.raises(CredentialMissing, match="open to everybody") as caught:
        Credentials(tmp_path, {}).find("hv")
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("text", ["Geheim", ":Geheim", "Geheim:", "", "snap:a\nGeheim", "snap:Geheim\0", "\xff:Geheim"])
def test_what_is_not_one_line_of_user_and_password_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    write(tmp_path / "hv", text)
    with pytest.raises(CredentialMissing) as caught:
        Credentials(tmp_path, {}).find("hv")
    assert "Geheim" not in f"{caught.value!r} {caught.value.__cause__!r}"


MARKED = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
"""How Notepad and PowerShell's redirection write text; the last two need the mark to be written, too."""


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("end", ["\r\n", ""])
def test_a_credential_that_was_saved_on_windows_is_read_without_its_mark(
    tmp_path: Path, encoding: str, end: str
) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    (tmp_path / "hv").write_bytes(f"{mark}DOM\\snäp:Geheim-ß{end}".encode(encoding))
    (tmp_path / "hv").chmod(0o600)
    credential = Credentials(tmp_path, {}).find("hv")
    assert (credential.username, credential.secret.reveal()) == ("DOM\\snäp", "Geheim-ß")


def test_a_mark_is_no_part_of_the_user_in_a_variable_either() -> None:
    assert Credentials(None, {"SNAPSHOTD_CREDENTIAL_HV": "\ufeffsnap:x"}).find("hv").username == "snap"


@pytest.mark.parametrize("content", [b"\xff\xfes\0:\0x", "snap:Geheim".encode("utf-16-le"), b"\xff\xfe"])
def test_what_is_half_of_an_encoding_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hv").write_bytes(content)
    (tmp_path / "hv").chmod(0o600)
    with pytest.raises(CredentialMissing) as caught:
        Credentials(tmp_path, {}).find("hv")
    assert "Geheim" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "hv", "snap:" + "x" * 70_000)
    with pytest.raises(CredentialMissing, match="larger"):
        Credentials(tmp_path, {}).find("hv")


def test_a_directory_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hv").mkdir()
    with pytest.raises(CredentialMissing, match="cannot be read"):
        Credentials(tmp_path, {}).find("hv")


def test_none_of_that_name_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CredentialMissing, match=r"CREDENTIALS_DIRECTORY.*SNAPSHOTD_CREDENTIAL_HV_1"):
        Credentials(tmp_path, {}).find("hv.1")


def test_a_secret_shows_in_no_repr_no_text_and_no_dump() -> None:
    credential = Credentials(None, {"SNAPSHOTD_CREDENTIAL_HV": f"snap:{CANARY}"}).find("hv")
    assert CANARY not in f"{credential!r} {credential} {credential.secret!s} {[credential.secret]} {vars(credential)}"
    for dump in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not written anywhere"):
            dump(credential)


def pem(*labels: str) -> str:
    return "".join(f"-----BEGIN {label}-----\n{CANARY}\n-----END {label}-----\n" for label in labels)


def test_a_certificate_and_its_key_are_one_credential_without_a_user(tmp_path: Path) -> None:
    text = pem("CERTIFICATE", "PRIVATE KEY")
    write(tmp_path / "hv", text)
    credential = Credentials(tmp_path, {}).find("hv")
    assert (credential.kind, credential.username, credential.secret.reveal()) == (Kind.CERTIFICATE, "", text)
    assert CANARY not in repr(credential)


@pytest.mark.parametrize("labels", [["CERTIFICATE"], ["PRIVATE KEY"], ["CERTIFICATE", "ENCRYPTED PRIVATE KEY"]])
def test_a_certificate_without_its_key_and_a_key_that_is_encrypted_are_refused(
    tmp_path: Path, labels: list[str]
) -> None:
    write(tmp_path / "hv", pem(*labels))
    with pytest.raises(CredentialMissing, match=r"certificate and its key|encrypted") as caught:
        Credentials(tmp_path, {}).find("hv")
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(("word", "kind"), [("keytab", Kind.KEYTAB), ("ccache", Kind.CCACHE)])
def test_a_keytab_or_ticket_cache_is_named_and_another_content_is_another_credential(
    tmp_path: Path, word: str, kind: Kind
) -> None:
    file = write(tmp_path / "keys", "x")
    write(tmp_path / "hv", f"snap@EXAMPLE.COM:{word}:{file}\n")
    credential = Credentials(tmp_path, {}).find("hv")
    assert (credential.kind, credential.username, credential.secret.reveal()) == (kind, "snap@EXAMPLE.COM", str(file))
    os.utime(file, (1, 1))
    assert Credentials(tmp_path, {}).find("hv").changed != credential.changed


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("snap:keytab:{}", "realm"),
        ("snap@X:keytab:keys", "whole path"),
        ("snap@X:keytab:{}/none", "cannot be read"),
        ("snap@X:ccache:{}/open", "open to everybody"),
        ("snap@X:ccache:{}", "is no file"),
    ],
)
def test_a_keytab_that_cannot_or_must_not_be_used_is_told(tmp_path: Path, line: str, words: str) -> None:
    write(tmp_path / "open", "x", 0o644)
    write(tmp_path / "hv", line.format(tmp_path))
    with pytest.raises(CredentialMissing, match=words):
        Credentials(tmp_path, {}).find("hv")
