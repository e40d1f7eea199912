"""How a host may be reached: the rules for its address, its port and the name of its credential.

They are checked when a host is registered, and again by the executor before it connects: the values go into a URL and a
path. Connects to nothing.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

WINRM_HTTP_PORT: Final = 5985
"""Where Windows listens for WinRM over http [documented]."""

LARGEST_PORT: Final = 65535

_LONGEST_NAME: Final = 253
"""Characters of a name in DNS."""

_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
"""63 characters, as DNS has it. With `_`, which names of Windows computers may have [documented]."""

_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
"""A last label that systems read as the end of an IPv4 address: to them, `127.1` and `0x7f.1` are 127.0.0.1."""

_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""No slash and no leading dot, so that a name cannot leave its directory."""


def is_address(text: str) -> bool:
    """Return whether `text` is a DNS name or an IP address that means the same on every machine."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return _is_dns_name(text)
    # A zone (fe80::1%eth0) names an interface of one machine, and Python takes any text for one: also `]/x`.
    return ip.version == 4 or "%" not in text


def _is_dns_name(text: str) -> bool:
    labels = text.split(".")
    return (
        len(text) <= _LONGEST_NAME
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMBER.fullmatch(labels[-1])
    )


def is_credential_name(text: str) -> bool:
    """Return whether `text` may name a credential."""
    return _CREDENTIAL.fullmatch(text) is not None


def without_user(text: str) -> str:
    """Return what is no address, for an error: without what stands before an `@`, as user and password do in a URL."""
    return text.rpartition("@")[2]
