"""What errors of the Kerberos libraries mean, by their codes, and what is told where there are none."""

from __future__ import annotations

import pytest

from snapshotd.hyperv.credentials import Credential, Kind, Secret
from snapshotd.hyperv.kerberos import meaning, open_context
from snapshotd.hyperv.no_answer import NoHostAnswer
from snapshotd.hyperv.transport import SignInRefused

BY_PASSWORD = Credential("snap@EXAMPLE.COM", Secret("Geheim"))
BY_CACHE = Credential("snap@EXAMPLE.COM", Secret("/cache"), Kind.CCACHE)


class Failed(Exception):
    """As the libraries raise it: those of krb5 name the code one way, those of gssapi another, without a sign."""

    def __init__(self, err_code: int = 0, min_code: int = 0) -> None:
        super().__init__("out of luck")
        self.err_code = err_code
        self.min_code = min_code


def within(error: Exception) -> Exception:
    """Wrap an error as pyspnego does."""
    outer = RuntimeError("Processing security token")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (-1765328366, "SignInRefused", "has disabled or locked the user: snap@EXAMPLE.COM"),
        (-1765328361, "SignInRefused", "the password has expired"),
        (-1765328360, "SignInRefused", "refused the password"),
        (-1765328347, "HostRefused", "the clocks of this executor's machine, of hv01 and of the KDC of EXAMPLE.COM"),
        (-1765328377, "HostRefused", "knows no service HTTP/hv01"),
        (-1765328343, "HostRefused", "the service HTTP/hv01 belongs to another account"),
        (-1765328352, "CredentialMissing", "have expired. Renew them"),
        (-1765328228, "HostUnreachable", "the KDC of EXAMPLE.COM cannot be reached"),
        (-1765328189, "CredentialMissing", "holds no ticket of snap@EXAMPLE.COM"),
        (1, "HostRefused", "Kerberos gives no ticket for hv01: out of luck"),
    ],
)
def test_each_code_is_told_as_what_it_is(code: int, reason: str, words: str) -> None:
    for error in (Failed(err_code=code), within(Failed(min_code=code % (1 << 32)))):
        told = meaning(error, BY_PASSWORD, "hv01")
        assert (type(told).__name__, words in str(told) or code == 1) == (reason, True), told


def test_nothing_counts_against_a_password_that_was_not_used() -> None:
    told = meaning(Failed(err_code=-1765328366), BY_CACHE, "hv01")
    assert isinstance(told, NoHostAnswer)
    assert not isinstance(told, SignInRefused)


def test_without_its_libraries_kerberos_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spnego._gss.HAS_GSSAPI", False)
    with pytest.raises(NoHostAnswer, match=r"pip install 'snapshotd\[kerberos\]'"):
        open_context(BY_PASSWORD, "hv01", None)
