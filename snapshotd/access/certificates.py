"""What a client certificate names: a user or an executor, by which of two CAs has issued it.

TLS has proved that the caller has the certificate's key, and that one of the two CAs stands behind it. It does not say
which. So that a user's certificate never makes an executor, nor the other way round, it is asked again here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from snapshotd.access.certificate_names import (
    EXECUTOR,
    HOST,
    UNREADABLE,
    USER,
    common_name_of,
    is_authority,
    issued_by,
    uris_of,
)
from snapshotd.access.errors import (
    AccessUnusable,
    CertificateExpired,
    CertificateForeign,
    CertificateNameless,
    CertificateNotYetValid,
    CertificateUnfit,
    time_text,
)
from snapshotd.access.identity import ExecutorIdentity, Identity, is_foreign_name, is_name
from snapshotd.access.watched_file import WatchedFile
from snapshotd.dispatch.feeding import EVERY_HOST
from snapshotd.domain.ids import is_host_id
from snapshotd.small_file import SmallFile

_LARGEST_FILE: Final = 1024 * 1024
"""Bytes of a file of CAs."""
_log = logging.getLogger(__name__)

_Cas = Sequence[x509.Certificate]


class ClientCertificates:
    """Tells whom client certificates name.

    The files are read again when they change. If they cannot be used then, the CAs of before stay in force.

    Args:
        user_ca: PEM file of the CAs that issue certificates of users; None: no certificate makes a user.
        executor_ca: likewise for executors. No CA may be in both.
        now: tells the time.

    Raises AccessUnusable if the files cannot be used at the start.
    """

    def __init__(self, user_ca: Path | None, executor_ca: Path | None, now: Callable[[], datetime]) -> None:
        paths = {"users": user_ca, "executors": executor_ca}
        self._files = {callers: WatchedFile(path, _LARGEST_FILE) for callers, path in paths.items() if path}
        self._now = now
        self._newest: dict[str, _Cas | str] = {}
        """What was read last of each file: CAs, or why it cannot be used."""
        self._cas: dict[str, _Cas] = {}
        """What is in force."""
        self._problem = self._look()
        if self._problem:
            raise AccessUnusable(self._problem)

    def caller_of(self, pem: bytes) -> Identity | ExecutorIdentity:
        """Return whom a certificate names, a user or an executor, as the CA that issued it has it.

        Raises SignInRefused.
        """
        try:
            return self.executor_of(pem)
        except CertificateForeign:
            return self.user_of(pem)

    def user_of(self, pem: bytes) -> Identity:
        """Return the user that a certificate (PEM, the leaf alone) names. Raises SignInRefused."""
        leaf = self._trusted(pem, "users")
        uris = uris_of(leaf)
        named = [uri.removeprefix(USER) for uri in uris if uri.startswith(USER)]
        if uris and (len(uris) != 1 or len(named) != 1 or not is_name(named[0])):
            raise CertificateNameless(_subject(leaf), f"it must name one user, and names {', '.join(uris)}")
        name = named[0] if named else common_name_of(leaf)
        if not is_foreign_name(name):
            raise CertificateNameless(_subject(leaf), f"it has neither a name {USER}... nor one usable common name")
        return Identity(f"certificate:{name}")

    def executor_of(self, pem: bytes) -> ExecutorIdentity:
        """Return the executor that a certificate (PEM, the leaf alone) names, and its hosts. Raises SignInRefused."""
        leaf = self._trusted(pem, "executors")
        uris = uris_of(leaf)
        named = [uri.removeprefix(EXECUTOR) for uri in uris if uri.startswith(EXECUTOR)]
        hosts = [uri.removeprefix(HOST) for uri in uris if uri.startswith(HOST)]
        if len(named) != 1 or not is_name(named[0]):
            raise CertificateNameless(_subject(leaf), f"it must have one name {EXECUTOR}...")
        if len(named) + len(hosts) != len(uris) or not all(is_host_id(h) or h == EVERY_HOST for h in hosts):
            raise CertificateNameless(_subject(leaf), f"of its names {', '.join(uris)}, one is no host of an executor")
        return ExecutorIdentity(named[0], frozenset(hosts))

    def _trusted(self, pem: bytes, callers: str) -> x509.Certificate:
        """Return the certificate, if a CA of these callers has issued it for a client, and both are valid now."""
        self._look_again()
        try:
            leaf = x509.load_pem_x509_certificate(pem)
            subject, issuer, problem = _subject(leaf), leaf.issuer.rfc4514_string(), _unfit(leaf)
        except UNREADABLE as error:
            raise CertificateUnfit("", f"it cannot be read ({error})") from None
        issuers = [ca for ca in self._cas.get(callers, ()) if issued_by(leaf, ca)]
        if not issuers:
            other = next((o for o, cas in self._cas.items() if any(issued_by(leaf, ca) for ca in cas)), "")
            raise CertificateForeign(subject, issuer, callers, f", but one of {other}" if other else "")
        # While a CA is being renewed, there may be two of one key: the longest valid one counts.
        authority = max(issuers, key=lambda ca: ca.not_valid_after_utc)
        for certificate, whose in ((leaf, "it"), (authority, "its CA")):
            self._refuse_untimely(certificate, subject, whose)
        if problem:
            raise CertificateUnfit(subject, problem)
        return leaf

    def _refuse_untimely(self, certificate: x509.Certificate, subject: str, whose: str) -> None:
        now = self._now()
        if now > certificate.not_valid_after_utc:
            raise CertificateExpired(subject, whose, time_text(certificate.not_valid_after_utc))
        if now < certificate.not_valid_before_utc:
            start = time_text(certificate.not_valid_before_utc)
            raise CertificateNotYetValid(subject, whose, start, time_text(now))

    def _look_again(self) -> None:
        problem = self._look()
        if problem and problem != self._problem:
            _log.error("%s The CAs of before stay in force.", problem)
        self._problem = problem

    def _look(self) -> str:
        """Put in force what the files hold, as far as it can be used. Return why not; empty: all can."""
        for callers, file in self._files.items():
            try:
                news = file.news()
                if news is not None:
                    self._newest[callers] = _authorities(news, file.path)
            except OSError as error:
                self._newest[callers] = f"Cannot read the CAs of {callers} in {file.path}: {error.strerror}."
            except AccessUnusable as error:
                self._newest[callers] = str(error)
        usable = {callers: cas for callers, cas in self._newest.items() if not isinstance(cas, str)}
        wanted = self._cas | usable
        of_users, of_executors = ({_key(ca) for ca in wanted.get(c, ())} for c in ("users", "executors"))
        if of_users & of_executors:
            files = " and ".join(str(file.path) for file in self._files.values())
            return (
                f"Cannot use {files}: one CA is in both, so that its users could pose as executors. Make a CA of its "
                "own for executors (`snapshotd certificate authority DIR --name NAME --for executors`)."
            )
        self._cas = wanted
        return next((problem for problem in self._newest.values() if isinstance(problem, str)), "")


def _authorities(file: SmallFile, path: Path) -> _Cas:
    try:
        found = x509.load_pem_x509_certificates(file.content)
        for certificate in found:
            _key(certificate)
        others = [_subject(certificate) for certificate in found if not is_authority(certificate)]
    except UNREADABLE as error:
        raise AccessUnusable(f"Cannot use {path}: it must hold certificates of CAs in PEM ({error}).") from None
    if others:
        raise AccessUnusable(f"Cannot use {path}: {others[0]!r} in it is not the certificate of a CA.")
    return found


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "(without a subject)"


def _unfit(certificate: x509.Certificate) -> str:
    """Return why a certificate is not one for clients; empty: it is."""
    if is_authority(certificate):
        return "it is that of a CA"
    for extension in certificate.extensions:
        match extension.value:
            case x509.ExtendedKeyUsage() as usage if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
                return "it was not issued for signing in as a client"
            case x509.KeyUsage(digital_signature=False):
                return "its key may not sign"
            case _:
                pass
    return ""
