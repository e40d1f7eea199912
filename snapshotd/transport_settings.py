"""The settings of addresses and TLS: which do not go together. A part of settings.py, as export_settings.py is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from snapshotd.setting_values import is_local

_REQUIRED: Final = "required"
_EXAMPLES: Final = {
    "server.certificate": "/etc/snapshotd/server.pem",
    "server.key": "/etc/snapshotd/server.key",
    "server.listen_mtls": "0.0.0.0:7444",
    "server.executor_ca": "/etc/snapshotd/executors-ca.pem",
    "auth.mode": _REQUIRED,
    "executor.allow": "/etc/snapshotd/allow.toml",
    "executor.ca": "/etc/snapshotd/servers-ca.pem",
    "executor.certificate": "/etc/snapshotd/executor.pem",
    "executor.key": "/etc/snapshotd/executor.key",
}
"""What is written for a setting that is missing, as an example."""
ALLOW_LIST: Final = """\
In that file, name each credential with the addresses of the hosts that it is for, e.g.:
  [[credential]]
  name = "hv"
  addresses = ["hv01.example.com", "10.1.2.0/24"]"""
"""What goes into the file of `executor.allow`."""


def contradiction(values: Mapping[str, object], sources: Mapping[str, str]) -> str:
    """Return why settings of addresses and TLS do not go together, with the lines to write; empty: they do.

    Args:
        values: all settings by name.
        sources: where each is from.
    """
    for names in (("server.certificate", "server.key"), ("executor.certificate", "executor.key")):
        there = [name for name in names if values[name] is not None]
        if len(there) == 1:
            return _needs(there[0], values, sources, "a certificate and its key are used together", names)
    return _of_server(values, sources) or _of_executor(values, sources)


def _of_server(values: Mapping[str, object], sources: Mapping[str, str]) -> str:
    mtls = str(values["server.listen_mtls"])
    if mtls:
        needed = ("server.certificate", "server.key")
        if any(values[name] is None for name in needed):
            return _needs("server.listen_mtls", values, sources, "it is an address for TLS", needed)
        if values["server.user_ca"] is None and values["server.executor_ca"] is None:
            return _needs(
                "server.listen_mtls",
                values,
                sources,
                "it asks callers for a certificate, and server.executor_ca and server.user_ca are not set",
                ("server.executor_ca",),
            )
    for name in ("server.user_ca", "server.executor_ca"):
        if values[name] is not None and not mtls:
            why = "certificates of callers are asked for at an address of their own"
            return _needs(name, values, sources, why, ("server.listen_mtls",))
    off_loopback = ("server.certificate", "server.key", "auth.mode")
    for name in ("server.listen", "server.listen_mtls"):
        address = str(values[name])
        if not address or is_local(address):
            continue
        if values["server.certificate"] is None or values["auth.mode"] != _REQUIRED:
            why = "other machines reach it, so it must speak TLS and know its callers. On loopback it need not"
            return _needs(name, values, sources, why, off_loopback)
    return ""


def _of_executor(values: Mapping[str, object], sources: Mapping[str, str]) -> str:
    if not is_local(str(values["executor.server"])) and values["executor.allow"] is None:
        why = (
            "who may register hosts there could have this executor sign in to any machine, with the credentials here. "
            "Say to which it may"
        )
        wanted = ("executor.ca", "executor.certificate", "executor.key", "executor.allow")
        return f"{_needs('executor.server', values, sources, why, wanted)}\n{ALLOW_LIST}"
    if values["executor.ca"] is not None:
        return ""
    if values["executor.certificate"] is not None:
        why = "it is shown over TLS only, to a server whose certificate was checked"
        return _needs("executor.certificate", values, sources, why, ("executor.ca",))
    if not is_local(str(values["executor.server"])):
        why = "it is on another machine, so the connection must be TLS"
        needed = ("executor.ca", "executor.certificate", "executor.key")
        return _needs("executor.server", values, sources, why, needed)
    return ""


def _needs(
    name: str, values: Mapping[str, object], sources: Mapping[str, str], why: str, needed: tuple[str, ...]
) -> str:
    """Return that a setting cannot be used without others, and the lines for those that are missing."""
    missing = [one for one in needed if values[one] in (None, "", "trust")]
    lines: list[str] = []
    for section in dict.fromkeys(one.partition(".")[0] for one in missing):
        lines.append(f"  [{section}]")
        of_it = [one for one in missing if one.partition(".")[0] == section]
        lines += [f'  {one.partition(".")[2]} = "{_EXAMPLES[one]}"' for one in of_it]
    text = f"Cannot use {name} = {str(values[name])!r} from {sources[name]}: {why}. Write into the settings file, e.g.:"
    return "\n".join([text, *lines])
