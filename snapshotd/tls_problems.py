"""Why a connection over TLS does not come about, for people: gRPC's own words name no file, no certificate, no date.

After an attempt that failed, this looks once more, by handshakes of its own with the standard library. It sends nothing
beyond them, and holds nobody up for long. What it does not find out, it leaves to gRPC's words.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from snapshotd.tls import ClientFiles, TlsFileInvalid, certificates_in

_PATIENCE_S: Final = 2.0
"""For each of at most three handshakes."""
_GRPC: Final = ["h2"]
_LONGEST: Final = 200
"""Characters of a name in a certificate that are shown."""
_HINTS: Final = re.compile(r"handshak|verification|security|socket closed|reset by peer|broken pipe", re.IGNORECASE)
"""What gRPC says of connections that TLS may have failed (observed with grpcio 1.85.3)."""
_EXPIRED, _NOT_YET = 10, 9
_OTHER_NAME: Final = (62, 64)
"""Codes of OpenSSL's verification."""


@dataclass(frozen=True, slots=True)
class Words:
    """What the caller calls its settings."""

    authority: str
    certificate: str
    server_name: str = ""
    """Empty: it has none."""


def may_be_tls(details: str) -> bool:
    """Return whether gRPC's details of an UNAVAILABLE leave it open that TLS is what fails."""
    return _HINTS.search(details) is not None


def explain(address: str, files: ClientFiles | None, words: Words, server_name: str = "") -> str:
    """Return why TLS fails with a server, and what to do; empty if it does not, or nobody answers.

    Args:
        address: host:port of the server.
        files: those of the caller; None: it speaks no TLS.
        words: what the caller calls its settings.
        server_name: the name that the server's certificate should have, if it is not the address's.
    """
    host, _, port = address.rpartition(":")
    at = (host.removeprefix("[").removesuffix("]"), int(port))
    try:
        if files is None:
            told = f"The server speaks TLS. Name the authority that issued its certificate with {words.authority}."
            return "" if _presented(at) is None else told
        return _with_tls(at, files, words, server_name or at[0])
    except (OSError, TlsFileInvalid):
        return ""


def _with_tls(at: tuple[str, int], files: ClientFiles, words: Words, name: str) -> str:
    context = ssl.create_default_context(cadata=files.read().authorities.decode("ascii", "replace"))
    context.set_alpn_protocols(_GRPC)
    if files.pair is not None:
        context.load_cert_chain(files.pair.certificate.path, files.pair.key.path)
    try:
        with _wrapped(context, at, name) as wrapped:
            # With TLS 1.3 a client has done its part before the server looks at its certificate.
            if wrapped.recv(1):
                return ""
    except ssl.SSLCertVerificationError as error:
        presented = _presented(at)
        return "" if presented is None else _untrusted(error.verify_code, presented, files, words, name)
    except (ssl.SSLEOFError, ConnectionResetError):
        pass
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return f"The server speaks no TLS there. Leave {words.authority} out, or give its address for TLS."
    return _turned_away(files, words)


def _untrusted(code: int, presented: x509.Certificate, files: ClientFiles, words: Words, name: str) -> str:
    """Return why a server's certificate is refused."""
    what = f"The server's certificate ({_name(presented.subject)}, issued by {_name(presented.issuer)})"
    if code == _EXPIRED:
        return f"{what} expired on {presented.not_valid_after_utc:%Y-%m-%d %H:%M}Z. Renew it on the server."
    if code == _NOT_YET:
        begins = f"{presented.not_valid_before_utc:%Y-%m-%d %H:%M}Z"
        return f"{what} is not valid before {begins}. Check the clocks of both machines."
    if code in _OTHER_NAME:
        names = ", ".join(_names(presented)) or "none"
        own_name = f", or give the name with {words.server_name}" if words.server_name else ""
        return f"{what} is not for {name}: its names are {names}. Call the server by one of them{own_name}."
    authority = certificates_in(files.authority, files.authority.read())
    known = ", ".join(_name(one.subject) for one in authority[:3]) + (", ..." if len(authority) > 3 else "")
    return (
        f"{what} is not trusted by {words.authority} {files.authority.path} ({known}). "
        "Name the file of the authority that issued it."
    )


def _turned_away(files: ClientFiles, words: Words) -> str:
    """Return why a server ends a connection whose certificates this side has nothing against."""
    if files.pair is None:
        return (
            "The server ended the handshake: it takes only callers with a certificate at this address. "
            f"Name yours with {words.certificate}, or call its other address."
        )
    own = certificates_in(files.pair.certificate, files.pair.certificate.read())[0]
    return (
        f"The server refused the certificate {files.pair.certificate.path} ({_name(own.subject)}, issued by "
        f"{_name(own.issuer)}). Get one of an authority that the server's settings name."
    )


def _presented(at: tuple[str, int]) -> x509.Certificate | None:
    """Return the certificate that a server shows, whatever it is worth; None if it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(_GRPC)
    try:
        with _wrapped(context, at, at[0]) as wrapped:
            shown = wrapped.getpeercert(binary_form=True)
    except ssl.SSLError:
        return None
    try:
        return None if shown is None else x509.load_der_x509_certificate(shown)
    except ValueError:
        return None


def _wrapped(context: ssl.SSLContext, at: tuple[str, int], name: str) -> ssl.SSLSocket:
    """Return a connection whose handshake is done. Raises OSError."""
    with ExitStack() as unless_done:
        plain = unless_done.enter_context(socket.create_connection(at, _PATIENCE_S))
        wrapped = context.wrap_socket(plain, server_hostname=name)
        unless_done.pop_all()
    return wrapped


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return [_plain(one) for one in found[:10]]


def _name(name: x509.Name) -> str:
    return _plain(name.rfc4514_string()) or "nameless"


def _plain(text: str) -> str:
    """Return a text of somebody else's certificate in one printable line."""
    return "".join(c if c.isprintable() else "?" for c in text)[:_LONGEST]
