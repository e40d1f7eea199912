"""Settings of `serve` and `executor`, from a TOML file, the environment and flags; the later source wins.

KEYS holds every key once: its place in the file, its type, its default and its meaning. An unknown key is an error.
A key `section.name` is `SNAPSHOTD_SECTION_NAME` in the environment and `--section-name` as a flag.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from snapshotd.dispatch.feeding import EVERY_HOST
from snapshotd.domain import host_path
from snapshotd.domain.ids import is_host_id
from snapshotd.domain.policy import ANY_HOST, HYPERV_CHECKPOINT_LIMIT
from snapshotd.export_settings import POLICIES, contradiction, export_policy, root_folder
from snapshotd.small_file import read_small, text_of

Value: TypeAlias = str | int | float | bool | tuple[str, ...] | Mapping[str, str] | Path | None

_UNIX: Final = "unix:"
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_ENDPOINT: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})")
_PORTS: Final = 65535
_LONGEST_S: Final = 30 * 24 * 3600.0
_LONGEST_AGE_S: Final = 100 * 365 * 86400.0
_LARGEST_FILE: Final = 1024 * 1024
"""Bytes of a settings file."""
_SHORTEST_IDLE_S: Final = 10.0
_NOT_ABOVE: Final = (("retries.first", "retries.longest"),)
"""Pairs of durations; the first must not be above the second."""


class SettingsInvalid(Exception):
    """A setting that cannot be used. The text has its name, its source, what is wrong, and what to write."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting."""

    name: str
    """`section.name`."""
    read: Callable[[object], Value]
    """Reads a value of the file, or the text of a flag or variable. Raises ValueError with what to write."""
    default: str | int | bool | None
    """The default as written in the file; None if there is none."""
    meaning: str

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return "--" + self.name.replace(".", "-").replace("_", "-")

    @property
    def form(self) -> str:
        """The form of its value, in a word."""
        return _FORMS[self.read]

    @property
    def variable(self) -> str:
        """The variable in the environment."""
        return "SNAPSHOTD_" + self.name.replace(".", "_").upper()


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be text that is not empty")
    return value


def _path(value: object) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError as error:
        raise ValueError(f"must be a path: {error}") from None


def _names(value: object) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n.strip() for n in names):
        raise ValueError('must be a list of names, e.g. ["hv01", "hv02"], or ["*"] for all')
    return tuple(n.strip() for n in names)


def _hosts(value: object) -> tuple[str, ...]:
    names = _names(value)
    for name in names:
        if name != EVERY_HOST and not is_host_id(name):
            raise ValueError(f"{name!r} must be a host's id: 1 to 63 of a-z, 0-9 and -, a letter first")
    if EVERY_HOST in names and len(names) > 1:
        raise ValueError(f"{EVERY_HOST!r} means all hosts: write it alone, or list the hosts")
    return names


def _count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number, 1 or more")
    return value


def _per_vm(value: object) -> int:
    count = _count(value)
    if count > HYPERV_CHECKPOINT_LIMIT:
        raise ValueError(f"must be at most {HYPERV_CHECKPOINT_LIMIT}: Hyper-V allows no more checkpoints of a VM")
    return count


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("must be true or false")


def _age(value: object) -> float:
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError('must be a duration above 0 with its unit, e.g. "30 d", "12 h"')
    return min(float(found[1]) * _UNITS[found[2]], _LONGEST_AGE_S)


def _seconds(value: object) -> float:
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise ValueError('must be a duration above 0 with its unit, e.g. "30 min", "90 s", "500 ms"')
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST_S:
        raise ValueError("must be at most 30 days (720 h)")
    return seconds


def _shell_idle(value: object) -> float:
    seconds = _seconds(value)
    if seconds < _SHORTEST_IDLE_S:
        raise ValueError(f"must be {_SHORTEST_IDLE_S:g} s or more: otherwise a host would end shells that are in use")
    return seconds


def _log_format(value: object) -> str:
    if value not in ("text", "json"):
        raise ValueError('must be "text" or "json"')
    return str(value)


def _interval(value: object) -> float:
    """Return a duration, or 0 for never."""
    if value == "0" or (value == 0 and not isinstance(value, bool)):
        return 0.0
    return _seconds(value)


def duration_text(seconds: float) -> str:
    """Return a duration as it is written in settings, in the largest unit of which it is a whole number: "30 d"."""
    for unit, length in reversed(_UNITS.items()):
        if seconds and math.isclose(seconds / length, count := round(seconds / length), rel_tol=1e-9) and count:
            return f"{count} {unit}"
    return f"{seconds:g} s" if seconds else "0"


def _address(value: object) -> str:
    text = _text(value)
    found = _ENDPOINT.fullmatch(text)
    whole = is_local(text) if text.startswith(_UNIX) else found is not None and int(found[2]) <= _PORTS
    if not whole:
        raise ValueError("must be host:port, e.g. 127.0.0.1:7443, or unix:/path")
    if not is_local(text):
        raise ValueError(
            "must be on loopback (127.0.0.1, [::1], localhost or unix:/path): there is no authentication yet"
        )
    return text


def is_local(address: str) -> bool:
    """Return whether an address (host:port or unix:/path) can be reached from this machine only."""
    if address.startswith(_UNIX):
        path = address.removeprefix(_UNIX)
        return path.startswith("/") and bool(path.strip("/"))
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _folders(value: object) -> Mapping[str, str]:
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


_FORMS: Final[Mapping[Callable[[object], Value], str]] = {
    _address: "HOST:PORT|unix:PATH",
    _path: "PATH",
    _switch: "true|false",
    _hosts: "ID,ID",
    _count: "N",
    _per_vm: "N",
    _seconds: "DURATION",
    _age: "DURATION",
    _shell_idle: "DURATION",
    _interval: "DURATION|0",
    _log_format: "text|json",
    _folders: "FOLDER|ID=FOLDER,ID=FOLDER",
    export_policy: "|".join(POLICIES),
    root_folder: "FOLDER",
}
KEYS: Final = (
    Key("server.listen", _address, "127.0.0.1:7443", "address of the gRPC server; port 0: any free one"),
    Key("storage.directory", _path, "/var/lib/snapshotd", "directory of events.db and views.db"),
    Key("executor.server", _address, "127.0.0.1:7443", "address of the server that an executor attaches to"),
    Key("executor.in_process", _switch, True, "serve runs an executor in its own process"),
    Key("executor.hosts", _hosts, "*", "ids of the hosts that the executor reaches; * for all"),
    Key("executor.credentials", _path, None, "directory of credential files, one per name: username:password"),
    Key("executor.sessions_per_host", _count, 4, "the most WinRM sessions kept per host"),
    Key(
        "executor.shell_idle",
        _shell_idle,
        "5 min",
        "how long a host keeps a shell that was left behind",
    ),
    Key(
        "hosts.sync_interval",
        _interval,
        "5 min",
        "how often a host is compared with the record; 0: only when an executor attaches, and on request",
    ),
    Key(
        "hosts.sign_in_pause",
        _seconds,
        "30 min",
        "how long a host that refused a credential is not signed in to again by itself",
    ),
    Key("snapshots.max_per_vm", _per_vm, 10, "the most snapshots that a VM may have"),
    Key("snapshots.old_after", _age, "30 d", "the age of a snapshot from which the plan of a revert warns of it"),
    Key("snapshots.create_wait", _seconds, "30 min", "how long a checkpoint may take"),
    Key("snapshots.revert_wait", _seconds, "30 min", "how long a restore may take"),
    Key("snapshots.remove_wait", _seconds, "10 min", "how long the removal of a checkpoint may take"),
    Key("snapshots.power_wait", _seconds, "10 min", "how long a start or stop may take"),
    Key(
        "snapshots.merge_poll",
        _seconds,
        "2 s",
        "the first interval between two looks at a merge; at most 10 s",
    ),
    Key("snapshots.merge_stall", _seconds, "30 min", "how long a merge may stand still before it counts as stalled"),
    Key(
        "jobs.stall",
        _seconds,
        "30 min",
        "how long a host's job (a copy, an export) may stand still before it has failed",
    ),
    Key(
        "volume_snapshots.directory",
        _folders,
        "",
        "the folder for copies of disks, as the hosts see it; or a table of folders by host; empty: none",
    ),
    Key("export.policy", export_policy, "NEVER", "when a VM is exported by itself that has no policy of its own"),
    Key("export.directory", root_folder, "", "the folder below which exports are, as the hosts see it; empty: none"),
    Key(
        "export.release",
        _switch,
        False,
        "with ON_STOP: a VM is removed from its host when it is exported, and imported when it is started",
    ),
    Key("export.attempts", _count, 100, "how often an export is begun, at most, before it fails"),
    Key("retries.max_attempts", _count, 5, "how often an effect is tried; a look at the host has no limit"),
    Key("retries.first", _seconds, "1 s", "back-off after the first attempt; it doubles each time"),
    Key("retries.longest", _seconds, "1 min", "the longest back-off"),
    Key("retries.observe_wait", _seconds, "1 min", "how long a report of a host may take"),
    Key("retries.answer_grace", _seconds, "10 s", "how long after a deadline an executor may take to report"),
    Key("log.format", _log_format, "text", "lines of the log on standard error: for people, or JSON for programs"),
)
"""All settings."""

_BY_NAME: Final = {key.name: key for key in KEYS}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings by key, with the source of each."""

    values: Mapping[str, Value]
    sources: Mapping[str, str]

    def text(self, name: str) -> str:
        """Return a setting that is a text."""
        value = self.values[name]
        assert isinstance(value, str), name
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """Return a setting that is a list of names."""
        value = self.values[name]
        assert isinstance(value, tuple), name
        return value

    def count(self, name: str) -> int:
        """Return a setting that is a whole number."""
        value = self.values[name]
        assert isinstance(value, int), name
        return value

    def seconds(self, name: str) -> float:
        """Return a setting that is a duration, in seconds."""
        value = self.values[name]
        assert isinstance(value, float), name
        return value

    def switch(self, name: str) -> bool:
        """Return a setting that is a switch."""
        value = self.values[name]
        assert isinstance(value, bool), name
        return value

    def folders(self, name: str) -> Mapping[str, str]:
        """Return a setting that names folders by host."""
        value = self.values[name]
        assert isinstance(value, Mapping), name
        return value

    def path(self, name: str) -> Path | None:
        """Return a setting that is a path."""
        value = self.values[name]
        assert value is None or isinstance(value, Path), name
        return value


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, str]) -> Settings:
    """Return the settings.

    Args:
        file: the TOML file, or None.
        environ: the environment; only SNAPSHOTD_<SECTION>_<NAME> counts.
        flags: the flags of the command line, as text by key name.

    Raises SettingsInvalid for the first setting that cannot be used.
    """
    values: dict[str, Value] = {k.name: None if k.default is None else k.read(k.default) for k in KEYS}
    sources = dict.fromkeys(values, "default")
    given: list[tuple[str, object, str]] = []
    if file is not None:
        given += [(name, value, str(file)) for name, value in _read_file(file).items()]
    given += [(k.name, environ[k.variable], f"${k.variable}") for k in KEYS if k.variable in environ]
    given += [(name, text, _BY_NAME[name].flag) for name, text in flags.items()]
    for name, value, source in given:
        key = _BY_NAME.get(name)
        if key is None:
            near = ", ".join(sorted(k for k in _BY_NAME if k.partition(".")[0] == name.partition(".")[0]))
            known = f"There are: {near}." if near else _sections()
            raise SettingsInvalid(f"Cannot read {source}: there is no setting {name}. {known}")
        try:
            values[name] = key.read(value)
        except ValueError as error:
            raise SettingsInvalid(f"Cannot use {name} = {value!r} from {source}: {error}.") from None
        sources[name] = source
    settings = Settings(values, sources)
    for low, high in _NOT_ABOVE:
        if settings.seconds(low) > settings.seconds(high):
            raise SettingsInvalid(
                f"Cannot use {low} = {duration_text(settings.seconds(low))} from {sources[low]}: it is above "
                f"{high} = {duration_text(settings.seconds(high))} ({sources[high]}). Lower the one or raise the other."
            )
    if problem := contradiction(values, sources):
        raise SettingsInvalid(problem)
    return settings


def _sections() -> str:
    sections = sorted({f"[{name.partition('.')[0]}]" for name in _BY_NAME})
    return f"The sections are {', '.join(sections)}."


def _read_file(file: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(text_of(read_small(file, _LARGEST_FILE).content))
    except OSError as error:
        raise SettingsInvalid(f"Cannot read {file}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"Cannot read {file}: it is not TOML: {error}.") from None
    found: dict[str, object] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise SettingsInvalid(f"Cannot read {file}: {section} is outside of a section. {_sections()}")
        found |= {f"{section}.{name}": value for name, value in content.items()}
    return found


def default_file() -> Path | None:
    """Return the default settings file, /etc/snapshotd/snapshotd.toml, or None if it does not exist."""
    file = Path(os.sep, "etc", "snapshotd", "snapshotd.toml")
    return file if file.exists() else None
