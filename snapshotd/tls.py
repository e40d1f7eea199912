"""TLS from files: credentials of the server, which follow the files that they are from, and of those who connect.

    files ──read_small──► bytes ──checked──► what gRPC takes
                                   │
                                   └── TlsFileInvalid: which file, what is wrong with it, what to do

gRPC checks next to nothing of what it is given, and says nothing to people. So each file is looked at here first.

Nothing sets a TLS version: grpcio has no option for it. Its server and its clients (`tsi_ssl_..._handshaker_options`)
take TLS 1.2 and 1.3 and nothing older; tests/integration/test_tls.py holds it to that. Writes nothing, logs no key.
"""

from __future__ import annotations

import logging
import stat
import threading
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.utils import CryptographyDeprecationWarning

from snapshotd.small_file import read_small
from snapshotd.unusable import Unusable

_log = logging.getLogger(__name__)

_LARGEST: Final = 1024 * 1024
"""Bytes of a file: a bundle of all public authorities has some 200 KB."""
_COPIES: Final = Path("/run/credentials")
"""Where systemd has the copies of files that it gives to a unit (LoadCredential=), made when that starts."""


class TlsFileInvalid(Unusable):
    """A file that TLS needs cannot be used. The text has what names it, the file, what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class TlsFile:
    """A file, and what people call it: the setting or the option that names it."""

    name: str
    path: Path

    def refused(self, problem: str) -> TlsFileInvalid:
        """Return the error that this file cannot be used."""
        return TlsFileInvalid(f"Cannot use {self.name} {self.path}: {problem}.")

    def read(self, *, secret: bool = False) -> bytes:
        """Return the content. Raises TlsFileInvalid, also for a secret that is open to everybody."""
        try:
            found = read_small(self.path, _LARGEST)
        except OSError as error:
            raise self.refused(f"{(error.strerror or str(error)).lower()}. Correct that, or name another") from None
        if secret and found.mode & stat.S_IRWXO:
            raise self.refused("it is open to everybody on this machine. Set its mode to 640 or 600")
        return found.content


@dataclass(frozen=True, slots=True)
class PairContent:
    """What was read of a certificate and its key."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its chain, and its private key."""

    certificate: TlsFile
    key: TlsFile

    def read(self) -> PairContent:
        """Return what is in the files. Raises TlsFileInvalid if they cannot be read."""
        return PairContent(self.certificate.read(), self.key.read(secret=True))

    def check(self, content: PairContent) -> None:
        """Raise TlsFileInvalid unless a certificate and its key belong together and are valid now."""
        certificate = certificates_in(self.certificate, content.certificate)[0]
        try:
            key = load_pem_private_key(content.key, password=None)
        except TypeError:
            raise self.key.refused("it is encrypted. Write the key without a passphrase, and close the file") from None
        except (ValueError, UnsupportedAlgorithm):
            raise self.key.refused("it holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)") from None
        if key.public_key() != certificate.public_key():
            copied = self.key.path.is_relative_to(_COPIES)
            cure = "Restart the unit, which gets a copy of the key then" if copied else "Put files that belong together"
            raise self.key.refused(f"it is not the key of the certificate in {self.certificate.path}. {cure}")
        now = datetime.now(UTC)
        if certificate.not_valid_after_utc < now:
            raise self.certificate.refused(f"{_expired(certificate)}. Renew it")
        if now < certificate.not_valid_before_utc:
            begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M}Z"
            raise self.certificate.refused(f"it is not valid before {begins}. Check the clock, or issue it anew")


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """The files of a server.

    Args:
        pair: its own certificate and key.
        client_authorities: the certificates of those who issue certificates of callers; empty: none is asked for.
    """

    pair: Pair
    client_authorities: tuple[TlsFile, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """The files of somebody who connects.

    Args:
        authority: the certificates of those who may have issued the server's.
        pair: its own certificate and key, if it signs in by one.
    """

    authority: TlsFile
    pair: Pair | None = None

    def read(self) -> ClientContent:
        """Return what is in the files now. Raises TlsFileInvalid if it cannot be used."""
        content = ClientContent(self.authority.read(), None if self.pair is None else self.pair.read())
        _check_authorities(self.authority, content.authorities)
        if self.pair is not None and content.pair is not None:
            self.pair.check(content.pair)
        return content


@dataclass(frozen=True, slots=True)
class ClientContent:
    """What was read of the files of somebody who connects."""

    authorities: bytes
    pair: PairContent | None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials for a channel."""
        if self.pair is None:
            return grpc.ssl_channel_credentials(self.authorities)
        return grpc.ssl_channel_credentials(self.authorities, self.pair.key, self.pair.certificate)


@dataclass(frozen=True, slots=True)
class _ServerContent:
    """What was read of a server's files."""

    pair: PairContent
    client_authorities: tuple[bytes, ...]

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return it as gRPC takes it."""
        # A file need not end with a line break.
        authorities = b"\n".join(self.client_authorities) or None
        return grpc.ssl_server_certificate_configuration([(self.pair.key, self.pair.certificate)], authorities)


class ServerTls:
    """TLS of a server. Its files are looked at before each handshake, so a change holds for the next connection.

    What was read last and was whole stays in force while the files are not: a certificate and its key cannot be
    replaced in the same instant. Connections that are open go on as they are.

    Args:
        files: where they are.

    Raises TlsFileInvalid if they cannot be used at the start.
    """

    def __init__(self, files: ServerFiles) -> None:
        self._files = files
        self._reading = threading.Lock()
        """gRPC asks in threads of its own."""
        self._complaint = ""
        self._in_force = self._read()
        self._check(self._in_force)

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a listener that asks callers for no certificate."""
        return self._following(requires=False)

    def credentials_for_certificates(self) -> grpc.ServerCredentials:
        """Return the credentials of a listener that lets nobody through without a certificate."""
        assert self._files.client_authorities, "nobody issues certificates of callers"
        return self._following(requires=True)

    def _following(self, *, requires: bool) -> grpc.ServerCredentials:
        given = self._in_force

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            content = self._current()
            if content == given:
                return None
            given = content
            return content.configuration()

        # None for no change is documented by gRPC, and its types do not know it.
        return grpc.dynamic_ssl_server_credentials(given.configuration(), changed, requires)  # type: ignore[arg-type]

    def _current(self) -> _ServerContent:
        """Return what is in force, after a look at the files. Raises nothing: gRPC would refuse the connection."""
        with self._reading:
            try:
                content = self._read()
                if content != self._in_force:
                    self._check(content)
            except TlsFileInvalid as error:
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    _log.error("%s Until then, what was read before stays in force.", error)
                return self._in_force
            self._complaint = ""
            if content != self._in_force:
                self._in_force = content
                _log.info("the files of TLS have changed: new connections get %s", self._files.pair.certificate.path)
            return content

    def _read(self) -> _ServerContent:
        return _ServerContent(self._files.pair.read(), tuple(file.read() for file in self._files.client_authorities))

    def _check(self, content: _ServerContent) -> None:
        """Raise TlsFileInvalid if gRPC must not get this."""
        self._files.pair.check(content.pair)
        for file, authorities in zip(self._files.client_authorities, content.client_authorities, strict=True):
            _check_authorities(file, authorities)


warnings.filterwarnings("ignore", "Parsed a serial number", CryptographyDeprecationWarning)
"""Systems' bundles of CAs have old certificates whose serial numbers are 0: nobody who names one can help that."""


def certificates_in(file: TlsFile, content: bytes) -> list[x509.Certificate]:
    """Return the certificates of a file's content, one at least. Raises TlsFileInvalid."""
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise file.refused(
            "it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----). Name the file that does"
        ) from None


def _check_authorities(file: TlsFile, content: bytes) -> None:
    found = certificates_in(file, content)
    newest = max(found, key=lambda one: one.not_valid_after_utc)
    # A bundle may well hold some that have expired.
    if newest.not_valid_after_utc < datetime.now(UTC):
        raise file.refused(f"{_expired(newest)}. Get the authority's new certificate")


def _expired(certificate: x509.Certificate) -> str:
    """Return that a certificate has expired, whose, and when."""
    name = certificate.subject.rfc4514_string()
    return f"the certificate of {name} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}Z"
