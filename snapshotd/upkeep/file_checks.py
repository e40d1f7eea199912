"""The doctor on files that settings name: certificates and keys, credentials, tokens, roles. Shows no secret."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.no_answer import CredentialMissing
from snapshotd.small_file import read_small, text_of
from snapshotd.upkeep.archive import TOKENS
from snapshotd.upkeep.findings import Finding, Ground, error, ok, warning

_LARGEST: Final = 1024 * 1024
_SOON: Final = timedelta(days=30)
_AUTHORITIES: Final = {
    True: ("server.user_ca", "server.executor_ca"),
    False: ("executor.ca",),
}
"""By whether the machine serves: the settings that name certificates of authorities."""
_PAIRS: Final = {True: ("server.certificate", "server.key"), False: ("executor.certificate", "executor.key")}
_ISSUERS: Final = {True: "executor.ca", False: "server.executor_ca"}
"""The setting of the authority that must have issued the certificate, where both are on one machine."""


class _Unusable(Exception):
    """A file that cannot be used; the text says why."""


def certificates(ground: Ground) -> Iterator[Finding]:
    """Look at certificates and keys: readable, of one pair, in time, and issued by whom."""
    for name in _AUTHORITIES[ground.serves]:
        if (path := ground.file(name)) is not None:
            yield from _certificate(ground, name, path, authority=True)
    of_certificate, of_key = _PAIRS[ground.serves]
    path, key = ground.file(of_certificate), ground.file(of_key)
    if path is not None:
        yield from _certificate(ground, of_certificate, path, authority=False)
    if key is not None:
        yield from _key(of_key, key, path)
    if (path is None) != (key is None):
        yield error(of_certificate, f"Of {of_certificate} and {of_key} only one is set. Set both.")
    issuer = ground.file(_ISSUERS[ground.serves])
    if path is not None and issuer is not None:
        yield from _issued(of_certificate, path, _ISSUERS[ground.serves], issuer)


def _certificate(ground: Ground, name: str, path: Path, *, authority: bool) -> Iterator[Finding]:
    try:
        found = _certificates_in(path)
    except _Unusable as problem:
        yield error(name, str(problem))
        return
    for one in found if authority else found[:1]:
        told, until = f"{path}, of {one.subject.rfc4514_string() or 'nobody'}", one.not_valid_after_utc
        if until <= ground.now:
            yield error(name, f"{told}, expired on {until:%Y-%m-%d}. Renew it: snapshotd certificate renew.")
        elif one.not_valid_before_utc > ground.now:
            yield error(name, f"{told}, is valid from {one.not_valid_before_utc:%Y-%m-%d %H:%M}Z on. Check the clock.")
        elif until - ground.now < _SOON:
            yield warning(name, f"{told}, expires on {until:%Y-%m-%d}. Renew it: snapshotd certificate renew.")
        else:
            yield ok(name, f"{told}, is valid until {until:%Y-%m-%d}.")
        if authority and not _may_issue(one):
            yield error(name, f"{told}, is no authority's: it may issue nothing. Name the authority's own.")


def _key(name: str, path: Path, certificate: Path | None) -> Iterator[Finding]:
    try:
        content, mode = _read(path)
        key = load_pem_private_key(content, None)
    except (_Unusable, ValueError, TypeError) as problem:
        said = str(problem) if isinstance(problem, _Unusable) else f"{path} is no key in PEM without a passphrase."
        yield error(name, said)
        return
    if mode & stat.S_IRWXO:
        yield error(name, f"{path} is open to everybody on this machine. Run chmod 600 {path}.")
    try:
        ours = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        theirs = _certificates_in(certificate)[0].public_key() if certificate is not None else key.public_key()
    except _Unusable:
        return  # told of the certificate
    if theirs.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != ours:
        yield error(name, f"{path} is not the key of {certificate}. Put the two of one pair there.")
    else:
        yield ok(name, f"{path} is readable{f', and the key of {certificate}' if certificate is not None else ''}.")


def _issued(name: str, path: Path, of_authority: str, authority: Path) -> Iterator[Finding]:
    try:
        chain, issuers = _certificates_in(path), _certificates_in(authority)
    except _Unusable:
        return  # told of that file
    if any(_did_issue(issuer, one) for issuer in issuers for one in chain):
        yield ok(name, f"{path} was issued by {of_authority}, {authority}.")
    else:
        named = chain[-1].issuer.rfc4514_string()
        yield error(
            name, f"{path} was issued by {named}, not by {of_authority}, {authority}. Name its authority there."
        )


def _did_issue(issuer: x509.Certificate, one: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _certificates_in(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a file. Raises _Unusable."""
    try:
        return x509.load_pem_x509_certificates(_read(path)[0])
    except ValueError:
        raise _Unusable(f"{path} holds no certificate in PEM. Name a file that does.") from None


def _read(path: Path) -> tuple[bytes, int]:
    """Return a file's content and mode. Raises _Unusable."""
    try:
        found = read_small(path, _LARGEST)
    except OSError as problem:
        raise _Unusable(f"{path} cannot be read: {problem.strerror}. Correct that, or name another file.") from None
    return found.content, found.mode


def credentials(ground: Ground) -> Iterator[Finding]:
    """Look at the files of credentials for hosts: rights and form."""
    if not ground.executes:
        return
    named, systemd = ground.file("executor.credentials"), ground.environ.get("CREDENTIALS_DIRECTORY")
    if named is None and systemd is None:
        others = any(name.startswith("SNAPSHOTD_CREDENTIAL_") for name in ground.environ)
        text = "executor.credentials is not set, so the executor can sign in to no host. Set it to their directory."
        yield ok("credentials", "They are in the environment.") if others else warning("credentials", text)
    if named is None:
        return
    try:
        mode, names = named.stat().st_mode, sorted(path.name for path in named.iterdir() if path.is_file())
    except OSError as problem:
        yield error("credentials", f"{named} cannot be read: {problem.strerror}. Make it a directory of one file each.")
        return
    if mode & stat.S_IWOTH:
        yield error("credentials", f"{named} can be written to by everybody on this machine. Run chmod 700 {named}.")
    for name in names:
        try:
            Credentials(named, {}).find(name)
        except CredentialMissing as problem:
            text = str(problem)
            yield error("credentials", f"Cannot use the credential in {named / name}: {text}")
        else:
            yield ok("credentials", f"{named / name} can be used.")
    if not names:
        yield warning("credentials", f"{named} is empty. Put a file there for each credential that hosts name.")


def tokens(ground: Ground) -> Iterator[Finding]:
    """Look at the file of local tokens: only its owner may read it."""
    storage = ground.file("storage.directory")
    path = ground.file("auth.tokens") or (storage / TOKENS if storage is not None else None)
    if ground.serves and path is not None and os.path.lexists(path):
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield error("tokens", f"{path} is open to others than its owner. Run chmod 600 {path}.")
        else:
            yield ok("tokens", f"{path} is only its owner's.")


def tables(ground: Ground) -> Iterator[Finding]:
    """Look at the other files that settings name: roles, and what an executor may sign in to."""
    for name in ("auth.roles",) if ground.serves else ("executor.allow",):
        if (path := ground.file(name)) is None:
            continue
        try:
            tomllib.loads(text_of(_read(path)[0]))
        except _Unusable as problem:
            yield error(name, str(problem))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            yield error(name, f"{path} is not TOML: {problem}. Correct that.")
        else:
            if path.stat().st_mode & stat.S_IWOTH:
                yield error(name, f"{path} can be written to by everybody on this machine. Run chmod 644 {path}.")
            else:
                yield ok(name, f"{path} can be read.")
