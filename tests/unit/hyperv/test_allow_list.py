"""What an executor is allowed: to which addresses it signs in with a credential, and where journals may be."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from snapshotd.api.v1.executor_pb2 import HostCommand, HostConnection, NoAnswer
from snapshotd.hyperv.allow_list import AllowList, AllowListInvalid
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.no_answer import HostRefused
from snapshotd.hyperv.pool import HostPools, PoolSettings
from snapshotd.hyperv.session import KeptScript

LIST = r"""
journal_directories = ['D:\snapshotd', '\\srv\share\journals']

[[credential]]
name = "hv"
addresses = ["hv01.example.com", "10.1.2.0/24", "hv02:15986", "[fd00::1]:*", "fd00::2"]

[[credential]]
name = "other"
addresses = ["hv03"]
transports = ["KERBEROS_HTTPS"]
"""


def listed(directory: Path, text: str = LIST) -> AllowList:
    (directory / "allow.toml").write_text(text, encoding="utf-8")
    return AllowList(directory / "allow.toml")


def way(
    address: str, port: int = 0, credential: str = "hv", transport: str = "NTLM_HTTP", journals: str = ""
) -> HostConnection:
    return HostConnection(
        host="hosts/hv01",
        address=address,
        port=port,
        credential=credential,
        transport=HostConnection.Transport.Value(transport),
        journal_directory=journals,
    )


@pytest.mark.parametrize(
    "allowed",
    [
        way("hv01.example.com"),
        way("HV01.Example.com", 5986),
        way("10.1.2.255"),
        way("hv02", 15986),
        way("fd00::1", 1),
        way("fd00::2", transport="NTLM_HTTPS"),
        way("hv03", credential="other", transport="KERBEROS_HTTPS"),
        way("10.1.2.3", journals=r"d:\SNAPSHOTD\a"),
        way("10.1.2.3", journals=r"\\SRV\share\journals"),
    ],
)
def test_what_is_listed_is_allowed(tmp_path: Path, allowed: HostConnection) -> None:
    listed(tmp_path).check(allowed, allowed.journal_directory)


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (way("evil.example.com"), "may not sign in to evil.example.com:5985 with the credential 'hv'"),
        (way("10.1.3.1"), "may not sign in to 10.1.3.1:5985"),
        (way("hv01.example.com", 4444), "may not sign in to hv01.example.com:4444"),
        (way("hv02"), "may not sign in to hv02:5985"),
        (way("fd00::3"), r"may not sign in to \[fd00::3\]:5985"),
        (way("hv01.example.com", credential="other"), "with the credential 'other'"),
        (way("hv01.example.com", credential="none"), "with the credential 'none'"),
        (way("hv03", credential="other", transport="NTLM_HTTPS"), "to hv03:5986 by NTLM_HTTPS"),
        (way("10.1.2.3", journals=r"D:\snapshotd\..\x"), "may not keep journals in"),
        (way("10.1.2.3", journals=r"D:\snapshotd2"), "may not keep journals in"),
        (way("10.1.2.3", journals=r"\\evil\share"), "may not keep journals in"),
    ],
)
def test_what_is_not_listed_is_refused_with_what_to_do(tmp_path: Path, refused: HostConnection, words: str) -> None:
    with pytest.raises(HostRefused, match=words) as told:
        listed(tmp_path).check(refused, refused.journal_directory)
    assert "nothing was sent" in str(told.value)
    assert "allow.toml on the executor's machine" in str(told.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[credential", "allow.toml"),
        (f"a = {'[' * 5000}", "allow.toml"),
        ("[[credentials]]", "the file has credentials, which means nothing"),
        ("credential = 1", "must be tables"),
        ("credential = [1]", "must be tables"),
        ("[[credential]]\naddresses = []", "needs the name"),
        ('[[credential]]\nname = "a:b"', "needs the name"),
        ('[[credential]]\nname = "hv"\nhosts = []', "has hosts, which means nothing"),
        ('[[credential]]\nname = "hv"\naddresses = "hv01"', "must be a list of texts"),
        ('[[credential]]\nname = "hv"\naddresses = ["10.1.2.3/24"]', "is no network"),
        ('[[credential]]\nname = "hv"\naddresses = ["*"]', "is no DNS name"),
        ('[[credential]]\nname = "hv"\naddresses = ["hv01:99999"]', "no port"),
        ('[[credential]]\nname = "hv"\naddresses = ["http://hv01"]', "is no DNS name"),
        ('[[credential]]\nname = "hv"\ntransports = ["NTLM"]', "there is no NTLM"),
        ("journal_directories = ['snapshotd']", "must be a whole path"),
    ],
)
def test_what_is_not_understood_is_refused_at_the_start(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(AllowListInvalid, match=words):
        listed(tmp_path, text)
    (tmp_path / "allow.toml").unlink()
    with pytest.raises(AllowListInvalid, match="no such file"):
        AllowList(tmp_path / "allow.toml")


def test_a_file_that_everybody_may_write_to_allows_nothing(tmp_path: Path) -> None:
    listed(tmp_path)
    (tmp_path / "allow.toml").chmod(0o666)
    with pytest.raises(AllowListInvalid, match="everybody on this machine may write to it"):
        AllowList(tmp_path / "allow.toml")


def test_it_is_read_anew_when_it_changes_and_a_version_that_is_none_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snapshotd")
    allowed = listed(tmp_path, '[[credential]]\nname = "hv"\naddresses = ["hv01"]')
    with pytest.raises(HostRefused):
        allowed.check(way("hv02"))
    (tmp_path / "allow.toml").write_text('[[credential]]\nname = "hv"\naddresses = ["hv02", "hv03"]')
    allowed.check(way("hv02"))
    for break_it in (lambda: (tmp_path / "allow.toml").write_text("["), (tmp_path / "allow.toml").unlink):
        break_it()
        allowed.check(way("hv02"))
        with pytest.raises(HostRefused):
            allowed.check(way("hv01"))
    assert caplog.text.count("stays in force as it was: ") == 2


@pytest.mark.parametrize(
    ("places", "journals", "words"),
    [("10.1.2.3", "", "may not sign in"), ("127.0.0.1:*", r"\\evil\share", "may not keep journals")],
)
def test_what_is_not_allowed_gets_not_even_a_connection(tmp_path: Path, places: str, journals: str, words: str) -> None:
    allowed = listed(tmp_path, f'[[credential]]\nname = "hv"\naddresses = ["{places}"]')
    credentials = Credentials(None, {"SNAPSHOTD_CREDENTIAL_HV": "snap:secret"})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pools = HostPools(credentials, KeptScript("x", (), b"", b""), PoolSettings(), allowed)

        async def ask() -> object:
            pool = pools.open(way("127.0.0.1", listener.getsockname()[1]))
            command = HostCommand(protocol=1, kind=HostCommand.REPORT, journal_directory=journals)
            answer = await pool.run(command, 5)
            await pool.close(1)
            return answer

        answer = asyncio.run(ask())
        assert isinstance(answer, NoAnswer)
        assert (answer.reason, words in answer.detail) == (NoAnswer.HOST_REFUSED, True)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
