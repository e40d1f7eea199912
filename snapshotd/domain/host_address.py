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

WINRM_HTTPS_PORT: Final = 5986
"""Where Windows listens for WinRM over https [documented]."""

LARGEST_PORT: Final = 65535

_LONGEST_NAME: Final = 253
"""Characters of a name in DNS."""

_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
"""63 characters, as DNS has it. With `_`, which names of Windows computers may have [documented]."""

_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
"""A last label that systems read as the end of an IPv4 address: to them, `127.1` and `0x7f.1` are 127.0.0.1."""

_FINGERPRINT: Final = re.compile(r"sha256:([0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31})")
"""Of a certificate's DER, with or without colons."""

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


def is_loopback(host: str) -> bool:
    """Return whether a host, by its name or IP address, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_ip(address: str) -> bool:
    """Return whether an address is an IP address, and no name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


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


def fingerprint_of(text: str) -> str:
    """Return the SHA-256 fingerprint in `sha256:<hex>`, in lower case without colons; empty: the text is none."""
    return text[len("sha256:") :].replace(":", "").lower() if _FINGERPRINT.fullmatch(text) else ""


def trust_problem(ca_file: str) -> str:
    """Return why a text can name nothing to check a host's certificate by, for people; empty: it can."""
    if not ca_file or fingerprint_of(ca_file):
        return ""
    if ca_file.startswith("/") and ca_file.isprintable():
        return ""
    return (
        "must be a whole path of a PEM file on the executor's machine, or the fingerprint of the host's certificate, "
        "sha256: and 64 hex digits; or empty for the system's CAs. A certificate is always checked: to trust one that "
        "is self-signed, name its fingerprint."
    )
