"""How the value of a setting is read: from a file, where it has a type, or from a flag or variable, where it is text.

Each reader returns the value, or raises ValueError with what to write instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from snapshotd import auth_settings
from snapshotd.dispatch.feeding import EVERY_HOST
from snapshotd.domain import host_path
from snapshotd.domain.host_address import is_loopback
from snapshotd.domain.ids import is_host_id
from snapshotd.domain.policy import ANY_HOST, HYPERV_CHECKPOINT_LIMIT
from snapshotd.export_settings import POLICIES, export_policy, root_folder

Value: TypeAlias = str | int | float | bool | tuple[str, ...] | Mapping[str, str] | Path | None

_UNIX: Final = "unix:"
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_ENDPOINT: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})")
_PORTS: Final = 65535
_LONGEST_S: Final = 30 * 24 * 3600.0
_LONGEST_AGE_S: Final = 100 * 365 * 86400.0
_SHORTEST_IDLE_S: Final = 10.0


def as_text(value: object) -> str:
    """Return text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be text that is not empty")
    return value


def as_path(value: object) -> Path:
    """Return a path, with `~` expanded."""
    try:
        return Path(as_text(value)).expanduser()
    except RuntimeError as error:
        raise ValueError(f"must be a path: {error}") from None


def as_names(value: object) -> tuple[str, ...]:
    """Return names, separated by commas or as a list."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n.strip() for n in names):
        raise ValueError('must be a list of names, e.g. ["hv01", "hv02"], or ["*"] for all')
    return tuple(n.strip() for n in names)


def as_hosts(value: object) -> tuple[str, ...]:
    """Return ids of hosts, or EVERY_HOST alone."""
    names = as_names(value)
    for name in names:
        if name != EVERY_HOST and not is_host_id(name):
            raise ValueError(f"{name!r} must be a host's id: 1 to 63 of a-z, 0-9 and -, a letter first")
    if EVERY_HOST in names and len(names) > 1:
        raise ValueError(f"{EVERY_HOST!r} means all hosts: write it alone, or list the hosts")
    return names


def as_count(value: object) -> int:
    """Return a whole number, 1 or more."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number, 1 or more")
    return value


def as_per_vm(value: object) -> int:
    """Return how many snapshots a VM may have."""
    count = as_count(value)
    if count > HYPERV_CHECKPOINT_LIMIT:
        raise ValueError(f"must be at most {HYPERV_CHECKPOINT_LIMIT}: Hyper-V allows no more checkpoints of a VM")
    return count


def as_switch(value: object) -> bool:
    """Return whether something is on."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("must be true or false")


def as_age(value: object) -> float:
    """Return a duration of any length, in seconds."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError('must be a duration above 0 with its unit, e.g. "30 d", "12 h"')
    return min(float(found[1]) * _UNITS[found[2]], _LONGEST_AGE_S)


def as_seconds(value: object) -> float:
    """Return a duration of at most 30 days, in seconds."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError('must be a duration above 0 with its unit, e.g. "30 min", "90 s", "500 ms"')
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST_S:
        raise ValueError("must be at most 30 days (720 h)")
    return seconds


def as_shell_idle(value: object) -> float:
    """Return how long a host keeps an idle shell, in seconds."""
    seconds = as_seconds(value)
    if seconds < _SHORTEST_IDLE_S:
        raise ValueError(f"must be {_SHORTEST_IDLE_S:g} s or more: otherwise a host would end shells that are in use")
    return seconds


def as_log_format(value: object) -> str:
    """Return the format of log lines."""
    if value not in ("text", "json"):
        raise ValueError('must be "text" or "json"')
    return str(value)


def as_interval(value: object) -> float:
    """Return a duration, or 0 for never."""
    if value == "0" or (value == 0 and not isinstance(value, bool)):
        return 0.0
    return as_seconds(value)


def duration_text(seconds: float) -> str:
    """Return a duration as it is written in settings, in the largest unit of which it is a whole number: "30 d"."""
    for unit, length in reversed(_UNITS.items()):
        if seconds and math.isclose(seconds / length, count := round(seconds / length), rel_tol=1e-9) and count:
            return f"{count} {unit}"
    return f"{seconds:g} s" if seconds else "0"


def as_address(value: object) -> str:
    """Return an address to listen on or to call: host:port, or unix:/path."""
    text = as_text(value)
    found = _ENDPOINT.fullmatch(text)
    whole = is_local(text) if text.startswith(_UNIX) else found is not None and int(found[2]) <= _PORTS
    if not whole:
        raise ValueError("must be host:port, e.g. 127.0.0.1:7443, or unix:/path")
    return text


def as_endpoint(value: object) -> str:
    """Return an address of TCP to listen on, or an empty text for none."""
    if value == "":
        return ""
    text = as_address(value)
    if text.startswith(_UNIX):
        raise ValueError("must be host:port, e.g. 0.0.0.0:7444: a unix socket speaks no TLS")
    return text


def as_listening(value: object) -> str:
    """Return an address to listen on, on this machine only or not; empty: none."""
    found = _ENDPOINT.fullmatch(value) if isinstance(value, str) else None
    if value != "" and (found is None or int(found[2]) > _PORTS):
        raise ValueError("must be host:port, e.g. 127.0.0.1:9464 or 0.0.0.0:9464, or empty for none")
    return str(value)


def as_collector(value: object) -> str:
    """Return the URL of a collector of spans; empty: none."""
    scheme, separator, address = value.partition("://") if isinstance(value, str) else ("", "", "")
    found = _ENDPOINT.fullmatch(address.removesuffix("/"))
    usable = scheme in ("http", "https") and separator and found is not None and 0 < int(found[2]) <= _PORTS
    if value != "" and not usable:
        raise ValueError("must be http://host:port or https://host:port, e.g. http://127.0.0.1:4317, or empty for none")
    return str(value).removesuffix("/")


def is_local(address: str) -> bool:
    """Return whether an address (host:port or unix:/path) can be reached from this machine only."""
    if address.startswith(_UNIX):
        path = address.removeprefix(_UNIX)
        return path.startswith("/") and bool(path.strip("/"))
    return is_loopback(address.rpartition(":")[0].removeprefix("[").removesuffix("]"))


def as_folders(value: object) -> Mapping[str, str]:
    """Return a folder for each host; with ANY_HOST for those that are not named."""
    if isinstance(value, str) and value and "=" in value:
        pairs = [pair.partition("=") for pair in value.split(",")]
        value = {host.strip(): folder.strip() for host, _, folder in pairs}
    named = {ANY_HOST: value} if isinstance(value, str) and value else value or {}
    if not isinstance(named, dict):
        raise ValueError('must be a folder on the hosts, e.g. "D:\\Copies", or a table of folders by host')  # noqa: TRY004
    for host, folder in named.items():
        if host != ANY_HOST and not is_host_id(host):
            raise ValueError(f"{host!r} must be a host's id: 1 to 63 of a-z, 0-9 and -, a letter first")
        if not isinstance(folder, str) or (problem := host_path.folder_problem(folder)):
            raise ValueError(f"{folder!r} {problem.removesuffix('.') if isinstance(folder, str) else 'must be text'}")
    return {str(host): str(folder) for host, folder in named.items()}


FORMS: Final[Mapping[Callable[[object], Value], str]] = {
    as_address: "HOST:PORT|unix:PATH",
    as_endpoint: "HOST:PORT",
    as_listening: "HOST:PORT",
    as_collector: "URL",
    as_path: "PATH",
    as_switch: "true|false",
    as_hosts: "ID,ID",
    as_count: "N",
    as_per_vm: "N",
    as_seconds: "DURATION",
    as_age: "DURATION",
    as_shell_idle: "DURATION",
    as_interval: "DURATION|0",
    as_log_format: "text|json",
    as_folders: "FOLDER|ID=FOLDER,ID=FOLDER",
    export_policy: "|".join(POLICIES),
    root_folder: "FOLDER",
    auth_settings.auth_mode: "|".join(auth_settings.MODES),
    auth_settings.oidc_issuer: "URL",
    auth_settings.oidc_text: "TEXT",
    auth_settings.oidc_claim: "CLAIM",
    auth_settings.oidc_algorithms: "ALGORITHM,ALGORITHM",
}
"""What each reader takes, in a word."""
