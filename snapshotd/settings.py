"""Settings of `serve` and `executor`, from a TOML file, the environment and flags; the later source wins.

KEYS holds every key once: its place in the file, its type, its default and its meaning. An unknown key is an error.
A key `section.name` is `SNAPSHOTD_SECTION_NAME` in the environment and `--section-name` as a flag.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snapshotd import auth_settings, export_settings, transport_settings
from snapshotd import setting_values as of
from snapshotd.export_settings import export_policy, root_folder
from snapshotd.setting_values import Value, duration_text
from snapshotd.small_file import read_small, toml_of
from snapshotd.unusable import Unusable

_LARGEST_FILE: Final = 1024 * 1024
"""Bytes of a settings file."""
_NOT_ABOVE: Final = (("retries.first", "retries.longest"),)
"""Pairs of durations; the first must not be above the second."""


class SettingsInvalid(Unusable):
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
        return of.FORMS[self.read]

    @property
    def variable(self) -> str:
        """The variable in the environment."""
        return "SNAPSHOTD_" + self.name.replace(".", "_").upper()


KEYS: Final = (
    Key("server.listen", of.as_address, "127.0.0.1:7443", "address of the gRPC server; port 0: any free one"),
    Key(
        "server.listen_mtls",
        of.as_endpoint,
        "",
        "a second address, for callers who show a certificate, as executors do; empty: none",
    ),
    Key(
        "server.certificate", of.as_path, None, "the server's certificate with its chain (PEM); with it, TLS is spoken"
    ),
    Key("server.key", of.as_path, None, "the private key of the server's certificate (PEM)"),
    Key("server.user_ca", of.as_path, None, "certificate of the authority that issues those of users (PEM)"),
    Key("server.executor_ca", of.as_path, None, "certificate of the authority that issues those of executors (PEM)"),
    Key(
        "auth.mode",
        auth_settings.auth_mode,
        "trust",
        "required: callers prove who they are; trust: they give any name, on loopback only",
    ),
    Key("auth.roles", of.as_path, None, "file of the roles: who may do what (TOML)"),
    Key("auth.tokens", of.as_path, None, "file of local tokens; by default tokens.json in the storage directory"),
    Key("auth.oidc_issuer", auth_settings.oidc_issuer, "", "URL of the identity provider (OIDC); empty: none"),
    Key("auth.oidc_audience", auth_settings.oidc_text, "", "for whom its tokens must be issued (aud)"),
    Key("auth.oidc_name_claim", auth_settings.oidc_claim, "sub", "claim that holds the caller's name"),
    Key("auth.oidc_groups_claim", auth_settings.oidc_claim, "groups", "claim that lists the caller's groups"),
    Key("auth.oidc_algorithms", auth_settings.oidc_algorithms, "RS256,ES256", "ways in which tokens may be signed"),
    Key("auth.oidc_ca", of.as_path, None, "CAs of the identity provider's address (PEM); by default the usual ones"),
    Key("storage.directory", of.as_path, "/var/lib/snapshotd", "directory of events.db and views.db"),
    Key("executor.server", of.as_address, "127.0.0.1:7443", "address of the server that an executor attaches to"),
    Key(
        "executor.ca",
        of.as_path,
        None,
        "certificate of the authority that issued the server's (PEM); with it, TLS is spoken",
    ),
    Key("executor.certificate", of.as_path, None, "the executor's certificate, which it shows to the server (PEM)"),
    Key("executor.key", of.as_path, None, "the private key of the executor's certificate (PEM)"),
    Key("executor.in_process", of.as_switch, True, "serve runs an executor in its own process"),
    Key("executor.hosts", of.as_hosts, "*", "ids of the hosts that the executor reaches; * for all"),
    Key("executor.credentials", of.as_path, None, "directory of credential files, one per name: username:password"),
    Key(
        "executor.allow",
        of.as_path,
        None,
        "the file that says to which addresses this executor may sign in, with which credential; none: to all",
    ),
    Key("executor.sessions_per_host", of.as_count, 4, "the most WinRM sessions kept per host"),
    Key(
        "executor.shell_idle",
        of.as_shell_idle,
        "5 min",
        "how long a host keeps a shell that was left behind",
    ),
    Key(
        "hosts.sync_interval",
        of.as_interval,
        "5 min",
        "how often a host is compared with the record; 0: only when an executor attaches, and on request",
    ),
    Key(
        "hosts.sign_in_pause",
        of.as_seconds,
        "30 min",
        "how long a host that refused a credential is not signed in to again by itself",
    ),
    Key("snapshots.max_per_vm", of.as_per_vm, 10, "the most snapshots that a VM may have"),
    Key("snapshots.old_after", of.as_age, "30 d", "the age of a snapshot from which the plan of a revert warns of it"),
    Key("snapshots.create_wait", of.as_seconds, "30 min", "how long a checkpoint may take"),
    Key("snapshots.revert_wait", of.as_seconds, "30 min", "how long a restore may take"),
    Key("snapshots.remove_wait", of.as_seconds, "10 min", "how long the removal of a checkpoint may take"),
    Key("snapshots.power_wait", of.as_seconds, "10 min", "how long a start or stop may take"),
    Key(
        "snapshots.merge_poll",
        of.as_seconds,
        "2 s",
        "the first interval between two looks at a merge; at most 10 s",
    ),
    Key(
        "snapshots.merge_stall", of.as_seconds, "30 min", "how long a merge may stand still before it counts as stalled"
    ),
    Key(
        "jobs.stall",
        of.as_seconds,
        "30 min",
        "how long a host's job (a copy, an export) may stand still before it has failed",
    ),
    Key(
        "volume_snapshots.directory",
        of.as_folders,
        "",
        "the folder for copies of disks, as the hosts see it; or a table of folders by host; empty: none",
    ),
    Key("export.policy", export_policy, "NEVER", "when a VM is exported by itself that has no policy of its own"),
    Key("export.directory", root_folder, "", "the folder below which exports are, as the hosts see it; empty: none"),
    Key(
        "export.release",
        of.as_switch,
        False,
        "with ON_STOP: a VM is removed from its host when it is exported, and imported when it is started",
    ),
    Key("export.attempts", of.as_count, 100, "how often an export is begun, at most, before it fails"),
    Key("retries.max_attempts", of.as_count, 5, "how often an effect is tried; a look at the host has no limit"),
    Key("retries.first", of.as_seconds, "1 s", "back-off after the first attempt; it doubles each time"),
    Key("retries.longest", of.as_seconds, "1 min", "the longest back-off"),
    Key("retries.observe_wait", of.as_seconds, "1 min", "how long a report of a host may take"),
    Key("retries.answer_grace", of.as_seconds, "10 s", "how long after a deadline an executor may take to report"),
    Key("limits.calls", of.as_count, 10_000, "the most calls under way at once, waits and watches among them"),
    Key("limits.calls_per_caller", of.as_count, 5_000, "the most of them that are of one caller"),
    Key(
        "limits.calls_per_second",
        of.as_count,
        2_000,
        "how many calls a second one caller may make on average; twice as many at once",
    ),
    Key("metrics.listen", of.as_listening, "", "address of metrics for Prometheus (http, read only); empty: none"),
    Key(
        "traces.endpoint",
        of.as_collector,
        "",
        "where spans are sent (OTLP over gRPC), e.g. http://127.0.0.1:4317; empty: none",
    ),
    Key("log.format", of.as_log_format, "text", "lines of the log on standard error: for people, or JSON for programs"),
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

    @property
    def storage(self) -> Path:
        """The directory of the event log and the views."""
        directory = self.path("storage.directory")
        assert directory is not None
        return directory

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
    checks = (export_settings.contradiction, transport_settings.contradiction, auth_settings.contradiction)
    if problem := next(filter(None, (check(values, sources) for check in checks)), ""):
        raise SettingsInvalid(problem)
    return settings


def _sections() -> str:
    sections = sorted({f"[{name.partition('.')[0]}]" for name in _BY_NAME})
    return f"The sections are {', '.join(sections)}."


def _read_file(file: Path) -> dict[str, object]:
    try:
        document = toml_of(read_small(file, _LARGEST_FILE).content)
    except OSError as error:
        raise SettingsInvalid(f"Cannot read {file}: {error.strerror}.") from None
    except ValueError as error:
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
