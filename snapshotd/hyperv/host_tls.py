"""TLS to a host: its certificate is checked before a byte of a request is sent, and what is wrong with it is told.

    ca_file empty         the system's CAs, and the host's name
    ca_file a path        the CAs in that file only, and the host's name
    ca_file sha256:<hex>  this very certificate, within its dates; its name does not count, as with a self-signed one

There is no way to leave the check out. After a refusal, one more connection is made, which ends with its handshake and
carries nothing: the TLS library does not show a certificate that it has refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from snapshotd.domain.host_address import fingerprint_of
from snapshotd.hyperv.certificate_words import Shown, shown, shown_pem
from snapshotd.hyperv.credentials import Secret
from snapshotd.hyperv.no_answer import CredentialMissing, HostRefused, said_by_tls
from snapshotd.hyperv.transport import Broken, RequestRefused
from snapshotd.small_file import read_small

_LARGEST_CA_FILE = 1024 * 1024
"""Bytes; a bundle of all public CAs has a quarter of that."""

_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME, _OTHER_IP = 62, 64
"""Words of OpenSSL for what is wrong with a certificate (X509_V_ERR_*)."""

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})
"""What the TLS library says of an answer that is not TLS."""


class HostTls:
    """What a host's certificate must be, and what this side shows of itself.

    Args:
        ca_file: as in the module's text.
        own: a client certificate with its key, in PEM, or None.

    Raises HostRefused for a file that cannot be used, CredentialMissing for such a client certificate.
    """

    def __init__(self, ca_file: str, own: Secret | None) -> None:
        self._pin = fingerprint_of(ca_file)
        self._context = _context(ca_file, pinned=bool(self._pin))
        self.own: Shown | None = None
        """The client certificate."""
        if own is not None:
            _show_own(self._context, own)
            self.own = shown_pem(own.reveal())

    def wrap(self, sock: socket.socket, host: str) -> ssl.SSLSocket:
        """Return a connection with TLS on it, which nothing must be sent over before `shake_hands`."""
        return self._context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)

    def shake_hands(self, secured: ssl.SSLSocket, host: str, place: str, limit_s: float) -> None:
        """Make the handshake, and check the host's certificate, within a limit of time.

        Raises RequestRefused for a certificate that is not trusted, Broken if what answers speaks no TLS, OSError for a
        connection that is lost. The connection must not be used then.
        """
        secured.settimeout(limit_s)
        try:
            secured.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise RequestRefused(_refusal(error, host, place, look(host, _port_of(place), limit_s))) from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise
        except ssl.SSLError as error:
            raise Broken(_failed(error, place)) from error
        if self._pin:
            self._check_pin(secured.getpeercert(binary_form=True) or b"", place)

    def _check_pin(self, certificate: bytes, place: str) -> None:
        found = hashlib.sha256(certificate).hexdigest()
        told = shown(certificate)
        if not hmac.compare_digest(found, self._pin):
            raise RequestRefused(
                f"{place}: nothing was sent, since the host's certificate is another one than was pinned "
                f"(sha256:{self._pin}): {told}. If it was renewed, compare its fingerprint on the host, then run "
                f"`snapshotctl host update HOST --ca-file sha256:{found}`."
            )
        now = datetime.now(UTC)
        if told is None or not told.begins <= now <= told.ends:
            raise RequestRefused(_out_of_time(told, place, now))


@contextlib.contextmanager
def _in_memory(text: bytes) -> Iterator[str]:
    """Yield the path of a file that is in memory only: the TLS library reads a key from nothing but files."""
    file = os.memfd_create("certificate")
    try:
        os.write(file, text)
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def _context(ca_file: str, *, pinned: bool) -> ssl.SSLContext:
    if pinned:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        # The fingerprint is compared instead, before anything is sent.
        context.verify_mode = ssl.CERT_NONE
    elif ca_file:
        try:
            text = read_small(Path(ca_file), _LARGEST_CA_FILE).content.decode("ascii", "replace")
            context = ssl.create_default_context(cadata=text)
        except OSError as error:
            said = str(error.strerror or "it holds no certificate in PEM").lower()
            if isinstance(error, ssl.SSLError):
                said = "it holds no certificate in PEM"
            raise HostRefused(
                f"the CA file {ca_file} on the executor's machine cannot be used: {said}. Put the PEM file of the "
                "host's CA there, or run `snapshotctl host update` with another --ca-file."
            ) from error
    else:
        context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Windows asks for a client certificate after the handshake, when it has seen the request.
    context.post_handshake_auth = True
    return context


def _show_own(context: ssl.SSLContext, own: Secret) -> None:
    with _in_memory(own.reveal().encode()) as path:
        try:
            context.load_cert_chain(path, password=lambda: "")
        except (ssl.SSLError, ValueError) as error:
            # Not chained: nothing of the key may show.
            said = said_by_tls(error) if isinstance(error, ssl.SSLError) else "it cannot be read"
            raise CredentialMissing(
                f"the client certificate of the credential cannot be used: {said}. Write a certificate and the key "
                "that belongs to it, both in PEM, into the credential's file."
            ) from None


def look(host: str, port: int, limit_s: float) -> bytes | None:
    """Return the certificate that is shown at an address, trusted or not; None: no TLS is spoken there.

    For the words of an error only. Sends nothing but a handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=limit_s) as sock,
            context.wrap_socket(sock, server_hostname=host) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except OSError:
        return None


def _port_of(place: str) -> int:
    return int(place.rpartition(":")[2])


def _failed(error: ssl.SSLError, place: str) -> str:
    if error.reason in _NO_TLS:
        return (
            f"{place}: what answers there speaks no TLS. If it is the host's WinRM listener for http, register the "
            "host with its listener for https (5986), or with the transport NTLM_HTTP or KERBEROS_HTTP"
        )
    return f"{place}: the TLS connection failed ({said_by_tls(error)}). The host must speak TLS 1.2 or later"


def _refusal(error: ssl.SSLCertVerificationError, host: str, place: str, certificate: bytes | None) -> str:
    """Return why a certificate is not trusted, which it is, and what to do."""
    told = shown(certificate)
    begin = f"{place}: nothing was sent, since the host's certificate"
    now = datetime.now(UTC)
    match error.verify_code:
        case _ if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
            return _out_of_time(told, place, now)
        case _ if error.verify_code in (_OTHER_NAME, _OTHER_IP):
            names = f" but for {', '.join(told.names) or 'no name'}" if told else ""
            return (
                f"{begin} is not for {host}{names}: {told}. Register the host by a name in its certificate, or issue "
                "one with this name."
            )
    pin = (
        f", or this certificate itself, once its fingerprint is compared on the host: sha256:{told.sha256}"
        if told
        else ""
    )
    return (
        f"{begin} is issued by a CA that is not trusted ({error.verify_message}): {told}. Put that CA's PEM file on "
        f"the executor's machine and name it by `snapshotctl host update HOST --ca-file FILE`{pin}."
    )


def _out_of_time(told: Shown | None, place: str, now: datetime) -> str:
    begin = f"{place}: nothing was sent, since the host's certificate"
    if told is None:
        return f"{begin} is not valid now. Look at its dates on the host."
    if now < told.begins:
        return f"{begin} is not valid yet: {told}. Check the clocks of the host and of the executor's machine."
    if now > told.ends:
        return f"{begin} has expired: {told}. Renew it on the host."
    return f"{begin} is issued by a CA whose own certificate is not valid now: {told}. Renew that CA's certificate."
