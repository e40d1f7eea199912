"""Whom a certificate of our own CA is issued for, and by which names it says so."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from snapshotd.access.certificate_names import EXECUTOR, HOST, USER
from snapshotd.access.errors import AccessUnusable
from snapshotd.access.identity import NAME_RULE, is_name
from snapshotd.dispatch.feeding import EVERY_HOST
from snapshotd.domain.host_address import is_address
from snapshotd.domain.ids import is_host_id

LONGEST_COMMON_NAME: Final = 64
"""Characters [X.520]."""


class Purpose(Enum):
    """Whom a CA issues certificates for. It has one purpose, so that none of its bearers can pose as another kind."""

    SERVERS = "servers"
    USERS = "users"
    EXECUTORS = "executors"

    @property
    def unit(self) -> str:
        """The organisational unit in the CA's name, by which its purpose is known again."""
        return f"snapshotd {self.value}"

    @property
    def usage(self) -> ObjectIdentifier:
        """What its certificates are for, in TLS."""
        return ExtendedKeyUsageOID.SERVER_AUTH if self is Purpose.SERVERS else ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a certificate is issued for."""

    purpose: Purpose
    common_name: str
    names: tuple[x509.GeneralName, ...]


def server(names: Sequence[str]) -> Bearer:
    """Return the bearer of a server's certificate: the DNS names and IP addresses that it is reached at."""
    if wrong := [name for name in names if not is_address(name)]:
        raise AccessUnusable(f"Cannot issue a certificate for {wrong[0]!r}: it must be a DNS name or an IP address.")
    common_name = next((name for name in names if len(name) <= LONGEST_COMMON_NAME), "snapshotd")
    return Bearer(Purpose.SERVERS, common_name, tuple(_address(name) for name in names))


def user(name: str) -> Bearer:
    """Return the bearer of a user's certificate."""
    _check_name(name)
    return Bearer(Purpose.USERS, name, (x509.UniformResourceIdentifier(USER + name),))


def executor(name: str, hosts: Sequence[str]) -> Bearer:
    """Return the bearer of an executor's certificate, with the hosts that it may serve; EVERY_HOST for all."""
    _check_name(name)
    if wrong := [host for host in hosts if host != EVERY_HOST and not is_host_id(host)]:
        raise AccessUnusable(
            f"Cannot issue a certificate for host {wrong[0]!r}: give the host's id (1 to 63 of a-z, 0-9 and -, a "
            f"letter first), or {EVERY_HOST!r} for all hosts."
        )
    uris = [EXECUTOR + name, *(HOST + host for host in dict.fromkeys(hosts))]
    return Bearer(Purpose.EXECUTORS, name, tuple(x509.UniformResourceIdentifier(uri) for uri in uris))


def _check_name(name: str) -> None:
    if not is_name(name):
        raise AccessUnusable(f"Cannot issue a certificate for {name!r}: a name is {NAME_RULE}.")


def _address(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
