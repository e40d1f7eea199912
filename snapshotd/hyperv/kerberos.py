"""Kerberos: the tickets of a sign-in, by a password, a keytab or a ticket cache, and what is wrong with them in words.

The libraries are those of the extra `kerberos`, which not every installation has, so pyspnego imports them.
Never uses the tickets of whoever runs the executor.
"""

from __future__ import annotations

from typing import Final

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from snapshotd.hyperv.credentials import Credential, Kind
from snapshotd.hyperv.no_answer import CredentialMissing, HostRefused, HostUnreachable, NoHostAnswer, causes
from snapshotd.hyperv.transport import SignInRefused

_CLIENT_UNKNOWN: Final = -1765328378
_SERVER_UNKNOWN: Final = -1765328377
_REVOKED: Final = -1765328366
_KEY_EXPIRED: Final = -1765328361
_PREAUTH_FAILED: Final = -1765328360
_BAD_INTEGRITY: Final = -1765328353
_TICKET_EXPIRED: Final = -1765328352
_SKEW: Final = -1765328347
_MODIFIED: Final = -1765328343
_REPLY_SKEW: Final = -1765328236
_NO_CACHE: Final = -1765328189
_KEY_NOT_FOUND: Final = -1765328203
_CACHE_EMPTY: Final = -1765328243
_REALM_NOT_FOUND: Final = -1765328230
_KDC_UNREACHABLE: Final = -1765328228
_CACHE_OF_ANOTHER: Final = 39756032
_NO_TICKET: Final = 39756034
_EMPTY_CACHE: Final = 39756044
"""Codes of MIT Kerberos (krb5.h, gssapi_err_krb5.h)."""

_REFUSED: Final = {
    _CLIENT_UNKNOWN: "knows no such user",
    _REVOKED: "has disabled or locked the user",
    _KEY_EXPIRED: "says that the password has expired",
    _PREAUTH_FAILED: "refused the password or the keytab's key",
    _BAD_INTEGRITY: "refused the password or the keytab's key",
}


def open_context(credential: Credential, host: str, bindings: GssChannelBindings | None) -> spnego.ContextProxy:
    """Return a context with the tickets of a user. Raises NoHostAnswer or SignInRefused."""
    user = _user(credential)
    try:
        return spnego.client(user, hostname=host, service="HTTP", protocol="kerberos", channel_bindings=bindings)
    except ImportError as error:
        raise _not_installed() from error
    except Exception as error:
        raise meaning(error, credential, host) from error


def _user(credential: Credential) -> spnego.Password | spnego.KerberosKeytab | spnego.KerberosCCache:
    secret = credential.secret.reveal()
    match credential.kind:
        case Kind.KEYTAB:
            return spnego.KerberosKeytab(keytab=f"FILE:{secret}", principal=credential.username)
        case Kind.CCACHE:
            return spnego.KerberosCCache(ccache=f"FILE:{secret}", principal=credential.username)
        case _:
            return spnego.Password(username=credential.username, password=secret)


def _not_installed() -> HostRefused:
    return HostRefused(
        "this executor has no Kerberos: its libraries are not installed. Install them with the extra, pip install "
        "'snapshotd[kerberos]' (it needs gcc and libkrb5-dev), or register the host with an NTLM transport."
    )


def meaning(error: BaseException, credential: Credential, host: str) -> NoHostAnswer | SignInRefused:
    """Return what an error of the Kerberos libraries means: SignInRefused if it counts against the password."""
    realm, code = credential.username.rpartition("@")[2], _code(error)
    kdc = f"the KDC of {realm}"
    if code in _REFUSED and credential.kind is not Kind.CCACHE:
        return SignInRefused(f"{kdc} {_REFUSED[code]}: {credential.username}")
    match code:
        case _ if code in (_KDC_UNREACHABLE, _REALM_NOT_FOUND):
            return HostUnreachable(
                f"{kdc} cannot be reached, so there is no ticket for {host}. Check the realm in /etc/krb5.conf on the "
                "executor's machine, its DNS, and the network."
            )
        case _ if code in (_SKEW, _REPLY_SKEW):
            return HostRefused(
                f"the clocks of this executor's machine, of {host} and of {kdc} differ too much for Kerberos (5 min). "
                "Set them right."
            )
        case _ if code == _SERVER_UNKNOWN:
            return HostRefused(
                f"{kdc} knows no service HTTP/{host}. Register the host by the name that its account has as a service "
                f"(setspn -L shows them), or add it: setspn -S HTTP/{host} COMPUTER."
            )
        case _ if code == _KEY_NOT_FOUND:
            return CredentialMissing(
                f"the keytab holds no key of {credential.username}. Export it anew (ktpass, or ktadd)."
            )
        case _ if code == _TICKET_EXPIRED:
            return CredentialMissing(
                f"the tickets of {credential.username} in the cache have expired. Renew them (kinit), by a timer say."
            )
        case _ if code in (_NO_CACHE, _CACHE_EMPTY, _CACHE_OF_ANOTHER, _NO_TICKET, _EMPTY_CACHE):
            return CredentialMissing(
                f"the ticket cache holds no ticket of {credential.username}. Fill it (kinit), or name another."
            )
        case _ if code == _MODIFIED:
            return HostRefused(
                f"{host} cannot read its ticket: the service HTTP/{host} belongs to another account. Give it to the "
                "host's account (setspn), or wait until its new password is known to all domain controllers."
            )
    return HostRefused(f"Kerberos gives no ticket for {host}: {_text(error)}. Look at the host's and the KDC's log.")


def _code(error: BaseException) -> int:
    """Return the code of MIT Kerberos in an error or its causes; 0: none."""
    for link in _all(error):
        code = getattr(link, "err_code", None) or getattr(link, "min_code", None)
        if isinstance(code, int) and code:
            return code - (1 << 32) if code >= 1 << 31 else code
    return 0


def _all(error: BaseException) -> list[BaseException]:
    links = list(causes(error))
    return links + [e.base_error for e in links if isinstance(e, SpnegoError) and e.base_error is not None]


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
