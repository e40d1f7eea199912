r"""Credentials by name: where an executor finds user and password of a host. The server knows only the name.

The places, in this order; the first credential found counts:

1. `$CREDENTIALS_DIRECTORY/<name>`: systemd's credentials
2. `<credentials_dir>/<name>`: a file that only its owner and group may read
3. `$SNAPSHOTD_CREDENTIAL_<NAME>`: NAME in upper case, with `_` for `-` and `.`

Each holds one of these:

| content | for |
|---|---|
| one line, `username:password` | NTLM, Basic, CredSSP; Kerberos, as `user@REALM:password` |
| one line, `user@REALM:keytab:/path` | Kerberos, with the keys in a keytab |
| one line, `user@REALM:ccache:/path` | Kerberos, with the tickets in a cache that others renew |
| a certificate and its key, in PEM | a client certificate that the host maps to an account |

The user may be `DOMAIN\user` or `user@domain`. The password may hold anything but a line end, and must not begin with
`keytab:` or `ccache:`. A secret appears in no log, error or repr: its type hides it.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import NoReturn

from snapshotd.domain.host_address import is_credential_name
from snapshotd.hyperv.no_answer import CredentialMissing
from snapshotd.small_file import BOM, read_small, text_of

_LARGEST_FILE = 64 * 1024
"""Bytes; a certificate with its chain and key has some thousand."""
_OPEN = "{} is open to everybody on this machine. Set its mode to 640 or 600."
_PEM = "-----BEGIN "
_FORMS = (
    "It must be one line, username:password; or a certificate and its key, in PEM (for Kerberos also "
    "user@REALM:keytab:/path and user@REALM:ccache:/path)."
)


class Secret:
    """A text that shows itself only through `reveal`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. Only for the one library call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a secret is never pickled or copied into a dump."""
        raise TypeError("a Secret is not written anywhere")


class Kind(Enum):
    """What a secret is, in words."""

    PASSWORD = "username:password"  # noqa: S105  (no secret, but its name)
    KEYTAB = "user@REALM:keytab:/path"
    CCACHE = "user@REALM:ccache:/path"
    CERTIFICATE = "a certificate and its key, in PEM"


@dataclass(frozen=True)
class Credential:
    """Who signs in to a host."""

    username: str
    """Empty with a certificate: the host knows whom it stands for."""
    secret: Secret
    """The password, the path of the keytab or the cache, or the PEM text."""
    kind: Kind = Kind.PASSWORD
    changed: str = ""
    """When the keytab or the cache was changed: with another content it is another credential."""
    given_at_start: bool = False
    """It cannot change while this program runs: systemd made a copy of it, or it is in the environment."""


class Credentials:
    """Finds credentials by name.

    Args:
        credentials_dir: the directory of place 2, or None.
        environ: the environment, for places 1 and 3.
    """

    def __init__(self, credentials_dir: Path | None, environ: Mapping[str, str]) -> None:
        self._directory = credentials_dir
        self._environ = environ

    def find(self, name: str) -> Credential:
        """Return a credential. Files are read each time, so a changed password takes effect at once.

        Raises CredentialMissing if there is none of that name, or if it cannot or must not be used.
        """
        if not is_credential_name(name):
            # Not shown: it may well be the secret itself.
            raise CredentialMissing(
                "a credential name must be 1 to 63 letters, digits and . _ -, a letter or digit first. Register the "
                "host with the name of a credential, never with the secret itself."
            )
        systemd = self._environ.get("CREDENTIALS_DIRECTORY")
        for directory in ([Path(systemd)] if systemd else []) + ([self._directory] if self._directory else []):
            line = _read(directory / name)
            if line is not None:
                found = _parse(line, str(directory / name))
                return replace(found, given_at_start=directory is not self._directory)
        variable = "SNAPSHOTD_CREDENTIAL_" + re.sub("[.-]", "_", name).upper()
        if (value := self._environ.get(variable)) is not None:
            return replace(_parse(value, f"${variable}"), given_at_start=True)
        places = ["$CREDENTIALS_DIRECTORY", str(self._directory) if self._directory else "", f"${variable}"]
        looked = ", ".join(p for p in places if p)
        raise CredentialMissing(f"no credential {name!r} in {looked} of this executor. Put it into one of them.")


def _read(path: Path) -> str | None:
    """Return the content of a credential file, or None if there is none. Raises CredentialMissing if it is unusable."""
    try:
        found = read_small(path, _LARGEST_FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CredentialMissing(f"{path} cannot be read: {error.strerror}. {_FORMS}") from error
    if found.mode & stat.S_IRWXO:
        raise CredentialMissing(_OPEN.format(path))
    try:
        return text_of(found.content)
    except UnicodeDecodeError:
        # Not chained: the text of the error would show the bytes.
        raise CredentialMissing(f"{path} is not text in UTF-8, nor in UTF-16 with a byte order mark.") from None


def _parse(text: str, place: str) -> Credential:
    """Return the credential in a text. Raises CredentialMissing, without the content, if it is none."""
    # A variable that was set from a file may have the file's mark.
    text = text.removeprefix(BOM)
    if text.lstrip().startswith(_PEM):
        return _certificate(text, place)
    line = text.removesuffix("\n").removesuffix("\r")
    username, colon, password = line.partition(":")
    if not (username and colon and password) or any(c in line for c in "\r\n\0"):
        raise CredentialMissing(f"{place} holds no credential. {_FORMS}")
    for kind, prefix in ((Kind.KEYTAB, "keytab:"), (Kind.CCACHE, "ccache:")):
        if password.startswith(prefix):
            return _of_file(username, kind, password.removeprefix(prefix), place)
    return Credential(username, Secret(password))


def _certificate(text: str, place: str) -> Credential:
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY-----" not in text:
        raise CredentialMissing(f"{place} must hold both a certificate and its key, in PEM. Put them into one file.")
    if "ENCRYPTED" in text:
        raise CredentialMissing(f"{place} holds a key that is encrypted. Decrypt it: the file's mode protects it.")
    return Credential("", Secret(text), Kind.CERTIFICATE)


def _of_file(username: str, kind: Kind, path: str, place: str) -> Credential:
    """Return a credential of Kerberos that is in another file."""
    what = "keytab" if kind is Kind.KEYTAB else "ticket cache"
    if "@" not in username:
        raise CredentialMissing(f"{place} must name the user with its realm, as user@REALM, for a {what}.")
    if not path.startswith("/"):
        raise CredentialMissing(f"{place} must name the {what} by its whole path.")
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no path"
        raise CredentialMissing(
            f"{place} names the {what} {path}, which cannot be read: {said}. Put it there, or name another."
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise CredentialMissing(f"{place} names the {what} {path}, which is no file. Name another.")
    if found.st_mode & stat.S_IRWXO:
        raise CredentialMissing(_OPEN.format(path))
    return Credential(username, Secret(path), kind, f"{found.st_mtime_ns} {found.st_ino}")
