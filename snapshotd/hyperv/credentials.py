r"""Credentials by name: where an executor finds user and password of a host. The server knows only the name.

The places, in this order; the first credential found counts:

1. `$CREDENTIALS_DIRECTORY/<name>`: systemd's credentials
2. `<credentials_dir>/<name>`: a file that only its owner and group may read
3. `$SNAPSHOTD_CREDENTIAL_<NAME>`: NAME in upper case, with `_` for `-` and `.`

Each holds one line, `username:password`. The user may be `DOMAIN\user` or `user@domain`. The password may hold
anything but a line end. A secret appears in no log, error or repr: its type hides it.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from snapshotd.domain.host_address import is_credential_name
from snapshotd.hyperv.no_answer import CredentialMissing
from snapshotd.small_file import BOM, read_small, text_of

_LARGEST_FILE = 4096
"""Bytes; a credential is one line."""


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


@dataclass(frozen=True)
class Credential:
    """Who signs in to a host."""

    username: str
    password: Secret


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
        """Return a credential. It is read each time, so a changed password takes effect at once.

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
                return _parse(line, str(directory / name))
        variable = "SNAPSHOTD_CREDENTIAL_" + re.sub("[.-]", "_", name).upper()
        if (value := self._environ.get(variable)) is not None:
            return _parse(value, f"${variable}")
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
        raise CredentialMissing(
            f"{path} cannot be read: {error.strerror}. It must be a file with one line, username:password."
        ) from error
    if found.mode & stat.S_IRWXO:
        raise CredentialMissing(f"{path} is open to everybody on this machine. Set its mode to 640 or 600.")
    try:
        return text_of(found.content)
    except UnicodeDecodeError:
        # Not chained: the text of the error would show the bytes.
        raise CredentialMissing(f"{path} is not text in UTF-8, nor in UTF-16 with a byte order mark.") from None


def _parse(text: str, place: str) -> Credential:
    """Return the credential in `username:password`. Raises CredentialMissing, without the content, if it is none."""
    # A variable that was set from a file may have the file's mark.
    line = text.removeprefix(BOM).removesuffix("\n").removesuffix("\r")
    username, colon, password = line.partition(":")
    if not (username and colon and password) or any(c in line for c in "\r\n\0"):
        raise CredentialMissing(f"{place} must hold one line, username:password.")
    return Credential(username, Secret(password))
