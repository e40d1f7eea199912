r"""What an executor's administrator allows it: where it may sign in with a credential, and where journals may be.

Whoever may register hosts could otherwise have an executor sign in with its service account to a machine of theirs, or
write its journals anywhere on a host. The list is a TOML file on the executor's machine:

    journal_directories = ['D:\snapshotd', '\\srv\share\journals']

    [[credential]]
    name = "hv"
    addresses = ["hv01.example.com", "10.1.2.0/24", "hv02.example.com:15986"]
    transports = ["KERBEROS_HTTPS", "NTLM_HTTPS"]

An address is a DNS name, an IP address or a network; with a port, that one counts (`*`: any), else those of Windows,
5985 and 5986. A network has no names: a host that is registered by its name is allowed by its name only. Without
`transports`, any will do. The default directory of journals is always allowed, and so is what is in one that is named.

The file is read anew when it changes. A version that cannot be read is logged, and the last one stays in force.
"""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snapshotd.access.watched_file import LastValid
from snapshotd.api.v1.executor_pb2 import HostConnection
from snapshotd.domain.host_address import (
    LARGEST_PORT,
    WINRM_HTTP_PORT,
    WINRM_HTTPS_PORT,
    is_address,
    is_credential_name,
)
from snapshotd.domain.host_path import folder_problem, within
from snapshotd.hyperv.no_answer import HostRefused
from snapshotd.hyperv.ways import way_of
from snapshotd.small_file import SmallFile, toml_of

_LARGEST_FILE: Final = 1024 * 1024
_PORTS: Final = frozenset({WINRM_HTTP_PORT, WINRM_HTTPS_PORT})
_ENTRY: Final = re.compile(
    r"\[(?P<six>[0-9a-fA-F:]+)\](?::(?P<sixport>\d{1,5}|\*))?|(?P<host>[^:\[\]]+)(?::(?P<port>\d{1,5}|\*))?"
)
_TRANSPORTS: Final = frozenset(HostConnection.Transport.keys()) - {"TRANSPORT_UNSPECIFIED"}


class AllowListInvalid(ValueError):
    """The file cannot be read, or allows something that is not understood."""


@dataclass(frozen=True, slots=True)
class _Place:
    """An address that is allowed."""

    host: str
    """A DNS name in lower case; empty: `network` counts."""
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None
    ports: frozenset[int]
    """Empty: any."""

    def holds(self, address: str, port: int) -> bool:
        """Return whether an address and port are in it."""
        if self.ports and port not in self.ports:
            return False
        if self.network is None:
            return address.lower() == self.host
        try:
            return ipaddress.ip_address(address) in self.network
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class _Rules:
    """One version of the file."""

    places: Mapping[str, tuple[tuple[_Place, frozenset[str]], ...]]
    """By name of the credential: where it may be used, and by which transports (empty: any)."""
    journal_directories: tuple[str, ...]


class AllowList:
    """The list in a file.

    Args:
        path: the file.

    Raises AllowListInvalid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = LastValid(path, _LARGEST_FILE, _read, AllowListInvalid)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise AllowListInvalid(f"Cannot read the allow-list {path}: {why}.") from None

    def check(self, connection: HostConnection, journal_directory: str = "") -> None:
        """Raise HostRefused if this executor may not sign in to a host, or keep journals in a directory there.

        Args:
            connection: the way to the host.
            journal_directory: on the host; empty: the default.
        """
        rules = self._file.now()
        way = way_of(connection)
        port = connection.port or way.port
        place = f"[{connection.address}]:{port}" if ":" in connection.address else f"{connection.address}:{port}"
        ways = [
            transports
            for allowed, transports in rules.places.get(connection.credential, ())
            if allowed.holds(connection.address, port)
        ]
        if not any(not transports or way.name in transports for transports in ways):
            what = f"to {place}" if not ways else f"to {place} by {way.name}"
            raise HostRefused(
                f"this executor may not sign in {what} with the credential {connection.credential!r}; nothing was "
                f"sent. If it is to, name the address for that credential in {self._path} on the executor's machine."
            )
        if journal_directory and not any(within(journal_directory, allowed) for allowed in rules.journal_directories):
            raise HostRefused(
                f"this executor may not keep journals in {journal_directory} on {connection.host}; nothing was sent. "
                f"If it is to, name the directory in journal_directories of {self._path} on the executor's machine."
            )


def _read(path: Path, file: SmallFile) -> _Rules:
    """Return the rules in what was read of a file. Raises AllowListInvalid."""
    try:
        rules = _rules(toml_of(file.content))
    except ValueError as error:
        raise AllowListInvalid(f"Cannot use the allow-list {path}: {str(error).rstrip('.')}.") from None
    if file.mode & stat.S_IWOTH:
        raise AllowListInvalid(
            f"Cannot use the allow-list {path}: everybody on this machine may write to it. Run chmod 644 {path}."
        )
    return rules


def _rules(document: Mapping[str, object]) -> _Rules:
    """Return the rules in a document. Raises ValueError for anything that is not understood."""
    _only(document, {"credential", "journal_directories"}, "the file")
    directories = _texts(document.get("journal_directories", []), "journal_directories")
    for directory in directories:
        if problem := folder_problem(directory):
            raise ValueError(f"journal_directories: {directory!r} {problem}")
    places: dict[str, tuple[tuple[_Place, frozenset[str]], ...]] = {}
    tables = document.get("credential", [])
    if not isinstance(tables, list):
        raise ValueError("credential must be tables, each begun by [[credential]]")  # noqa: TRY004  (of the file)
    for table in tables:
        if not isinstance(table, dict):
            raise ValueError("credential must be tables, each begun by [[credential]]")  # noqa: TRY004  (as above)
        _only(table, {"name", "addresses", "transports"}, "a table [[credential]]")
        name = table.get("name")
        if not isinstance(name, str) or not is_credential_name(name):
            raise ValueError('a table [[credential]] needs the name of a credential, as name = "hv"')
        transports = frozenset(_texts(table.get("transports", []), f"transports of {name}"))
        if unknown := sorted(transports - _TRANSPORTS):
            raise ValueError(f"transports of {name}: there is no {', '.join(unknown)}")
        addresses = _texts(table.get("addresses", []), f"addresses of {name}")
        places[name] = places.get(name, ()) + tuple((_place(one), transports) for one in addresses)
    return _Rules(places, directories)


def _only(table: Mapping[str, object], known: set[str], where: str) -> None:
    if unknown := sorted(set(table) - known):
        raise ValueError(
            f"{where} has {', '.join(unknown)}, which means nothing; it may have {', '.join(sorted(known))}"
        )


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"{name} must be a list of texts")
    return tuple(value)


def _place(text: str) -> _Place:
    """Return the place in an entry. Raises ValueError."""
    if text.count(":") > 1 and not text.startswith("["):
        host, port = text, ""
    elif found := _ENTRY.fullmatch(text):
        host, port = found["six"] or found["host"], found["sixport"] or found["port"] or ""
    else:
        raise ValueError(f"{text!r} is no DNS name, IP address or network, with or without a port")
    ports = frozenset[int]() if port == "*" else frozenset({int(port)}) if port else _PORTS
    if any(not 0 < one <= LARGEST_PORT for one in ports):
        raise ValueError(f"{text!r} has no port of 1 to {LARGEST_PORT}")
    try:
        return _Place("", ipaddress.ip_network(host), ports)
    except ValueError as error:
        if "/" in host:
            raise ValueError(f"{text!r} is no network: {error}") from None
        if not is_address(host):
            raise ValueError(f"{text!r} is no DNS name, IP address or network") from None
    return _Place(host.lower(), None, ports)
