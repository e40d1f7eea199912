"""The doctor on files that settings name: certificates and keys, credentials, tokens, roles. Shows no secret."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from snapshotd.access.bindings import read_bindings
from snapshotd.access.certificate_names import HOST, is_authority, issued_by, uris_of
from snapshotd.access.errors import AccessUnusable
from snapshotd.dispatch.feeding import EVERY_HOST
from snapshotd.hyperv.allow_list import AllowList, AllowListInvalid
from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.no_answer import CredentialMissing
from snapshotd.small_file import read_small
from snapshotd.tls import Pair, TlsFile, TlsFileInvalid, certificates_in
from snapshotd.token_commands import tokens_path
from snapshotd.upkeep.findings import Finding, Ground, error, ok, warning

_LARGEST: Final = 1024 * 1024
_SOON: Final = timedelta(days=30)
_AUTHORITIES: Final = {
    True: ("server.user_ca", "server.executor_ca"),
    False: ("executor.ca",),
}
"""By whether the machine serves: the settings that name certificates of authorities."""
_PAIRS: Final = {True: ("server.certificate", "server.key"), False: ("executor.certificate", "executor.key")}
_NOT_LOOKED_AT: Final = {
    True: "executor.credentials is not set, so the executor of this process can sign in to no host. Set it to their "
    "directory; or set executor.in_process = false, if executors run elsewhere.",
    False: "They were not looked at: under the unit they come by LoadCredential=, not by a setting. To look at them, "
    "run snapshotd doctor executor --executor-credentials DIR.",
}
"""By whether the machine serves: what is told where nothing names credentials."""
_ISSUERS: Final = {True: "executor.ca", False: "server.executor_ca"}
"""The setting of the authority that must have issued the certificate, where both are on one machine."""


def certificates(ground: Ground) -> Iterator[Finding]:
    """Look at certificates and keys: readable, of one pair, in time, and issued by whom."""
    for name in _AUTHORITIES[ground.serves]:
        if (path := ground.file(name)) is not None:
            yield from _authority(ground, TlsFile(name, path))
    if (pair := pair_of(ground)) is None:
        return
    try:
        content = pair.read()
        pair.check(content)
    except TlsFileInvalid as problem:
        yield error(pair.certificate.name, str(problem))
        return
    chain = certificates_in(pair.certificate, content.certificate)
    yield ok(pair.key.name, f"{pair.key.path} is the key of {pair.certificate.path}.")
    yield _in_time(ground, pair.certificate, chain[0])
    if not ground.serves:
        yield _hosts(ground, pair.certificate, chain[0])
    issuer = _ISSUERS[ground.serves]
    if (path := ground.file(issuer)) is not None:
        yield from _issued(pair.certificate, chain, TlsFile(issuer, path))


def pair_of(ground: Ground) -> Pair | None:
    """Return the certificate and the key of the program; None: it has none."""
    of_certificate, of_key = _PAIRS[ground.serves]
    certificate, key = ground.file(of_certificate), ground.file(of_key)
    if certificate is None or key is None:
        return None  # settings with one of them alone are refused
    return Pair(TlsFile(of_certificate, certificate), TlsFile(of_key, key))


def _authority(ground: Ground, file: TlsFile) -> Iterator[Finding]:
    try:
        found = certificates_in(file, file.read())
    except TlsFileInvalid as problem:
        yield error(file.name, str(problem))
        return
    if not any(is_authority(one) for one in found):
        named = found[0].subject.rfc4514_string()
        yield error(
            file.name, f"{file.path}, of {named}, is no authority's: it may issue nothing. Name its authority's."
        )
    # A bundle may well hold some that have expired.
    yield _in_time(ground, file, max(found, key=lambda one: one.not_valid_after_utc))


def _in_time(ground: Ground, file: TlsFile, certificate: x509.Certificate) -> Finding:
    until = certificate.not_valid_after_utc
    told = f"{file.path}, of {certificate.subject.rfc4514_string() or 'nobody'},"
    if until <= ground.now:
        return error(file.name, f"{told} expired on {until:%Y-%m-%d}. Renew it: snapshotd certificate renew.")
    if until - ground.now < _SOON:
        return warning(file.name, f"{told} expires on {until:%Y-%m-%d}. Renew it: snapshotd certificate renew.")
    return ok(file.name, f"{told} is valid until {until:%Y-%m-%d}.")


def _hosts(ground: Ground, file: TlsFile, certificate: x509.Certificate) -> Finding:
    """Compare the hosts of an executor with those that its certificate lets it serve, as the server does."""
    wanted, uris = set(ground.settings.names("executor.hosts")), uris_of(certificate)
    granted = {uri.removeprefix(HOST) for uri in uris if uri.startswith(HOST)}
    told = f"{file.path} is for {', '.join(sorted(granted)) or 'no host'}"
    renew = "Issue another certificate: snapshotd certificate issue ... --host ID"
    if EVERY_HOST in granted or (granted and wanted == {EVERY_HOST}) or wanted <= granted:
        return ok(file.name, f"{told}.")
    if wanted == {EVERY_HOST}:
        return error(file.name, f"{told}, so the executor serves none. {renew}.")
    others = ", ".join(sorted(wanted - granted))
    return error(
        "executor.hosts", f"{told}, not for {others}: the server refuses the executor. {renew}, or take {others} out."
    )


def _issued(file: TlsFile, chain: Sequence[x509.Certificate], authority: TlsFile) -> Iterator[Finding]:
    try:
        issuers = certificates_in(authority, authority.read())
    except TlsFileInvalid as problem:
        yield error(authority.name, str(problem))
        return
    if any(issued_by(one, issuer) for issuer in issuers for one in chain):
        yield ok(file.name, f"{file.path} was issued by {authority.name}, {authority.path}.")
    else:
        named = chain[-1].issuer.rfc4514_string()
        wrong = f"{file.path} was issued by {named}, not by {authority.name}, {authority.path}"
        yield error(file.name, f"{wrong}. Name its authority there.")


def credentials(ground: Ground) -> Iterator[Finding]:
    """Look at the files of credentials for hosts: rights and form."""
    if not ground.executes:
        return
    named = ground.file("executor.credentials")
    if named is not None:
        yield from _credentials_in(named)
    elif any(name.startswith("SNAPSHOTD_CREDENTIAL_") for name in ground.environ):
        yield ok("credentials", "They are in the environment.")
    elif "CREDENTIALS_DIRECTORY" not in ground.environ:
        yield warning("credentials", _NOT_LOOKED_AT[ground.serves])


def _credentials_in(directory: Path) -> Iterator[Finding]:
    try:
        mode, names = directory.stat().st_mode, sorted(path.name for path in directory.iterdir() if path.is_file())
    except OSError as problem:
        text = f"{directory} cannot be read: {problem.strerror}. Make it a directory of one file each."
        yield error("credentials", text)
        return
    if mode & stat.S_IWOTH:
        yield error(
            "credentials", f"{directory} can be written to by everybody on this machine. Run chmod 700 {directory}."
        )
    for name in names:
        try:
            Credentials(directory, {}).find(name)
        except CredentialMissing as problem:
            yield error("credentials", f"Cannot use the credential in {directory / name}: {problem}")
        else:
            yield ok("credentials", f"{directory / name} can be used.")
    if not names:
        yield warning("credentials", f"{directory} is empty. Put a file there for each credential that hosts name.")


def tokens(ground: Ground) -> Iterator[Finding]:
    """Look at the file of local tokens: it is the service's, and only its owner may read it."""
    path, storage = tokens_path(ground.settings), ground.settings.storage
    if not ground.serves or not path.exists():
        return
    found = path.stat()
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield error("tokens", f"{path} is open to others than its owner. Run chmod 600 {path}.")
    elif storage.exists() and storage.stat().st_uid != found.st_uid:
        told = f"{path} belongs to another user than {storage}, so the service cannot read it"
        yield error("tokens", f"{told}. Run chown --reference={storage} {path}.")
    else:
        yield ok("tokens", f"{path} is only its owner's.")


_READ: Final[Mapping[str, Callable[[Path], object]]] = {"auth.roles": read_bindings, "executor.allow": AllowList}
"""What reads each of these files as the program does."""


def tables(ground: Ground) -> Iterator[Finding]:
    """Look at the other files that settings name: roles, and what an executor may sign in to."""
    read = {"auth.roles": ground.serves, "executor.allow": ground.executes}
    for name in _READ:
        if not read[name] or (path := ground.file(name)) is None:
            continue
        try:
            found = read_small(path, _LARGEST)
            _READ[name](path)
        except OSError as problem:
            yield error(name, f"{path} cannot be read: {problem.strerror}. Correct that, or name another file.")
        except (AccessUnusable, AllowListInvalid) as problem:
            yield error(name, str(problem))
        else:
            if found.mode & stat.S_IWOTH:
                yield error(name, f"{path} can be written to by everybody on this machine. Run chmod 644 {path}.")
            else:
                yield ok(name, f"{path} is valid.")
