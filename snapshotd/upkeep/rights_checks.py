"""The doctor on what a unit's user may read, when root looks, who may read everything.

The shipped units (deploy/systemd) run as users of their own, which own none of these files. So others must be able to
read the files, and to pass the directories on the way. Left out is what the units hand over as copies
(LoadCredential=): keys, and the credentials of hosts.
"""

from __future__ import annotations

import grp
import os
import shlex
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import projections
import snapshotd
from snapshotd.client.render import counted
from snapshotd.token_commands import tokens_path
from snapshotd.upkeep.findings import Finding, Ground, error, ok, warning


@dataclass(frozen=True, slots=True)
class Needed:
    """A file or directory that the service needs."""

    name: str
    """What people call it."""
    path: Path
    rights: str = "r"
    """Of r and x, as chmod has them."""


_SETTINGS: Final = {
    True: ("server.certificate", "server.user_ca", "server.executor_ca", "auth.roles", "auth.oidc_ca"),
    False: ("executor.certificate", "executor.ca", "executor.allow"),
}
"""By whether the machine serves: the settings that name files which the unit's user reads."""
_COMPILED: Final = "__pycache__"
"""Python does without what it cannot read there."""
_HIDDEN: Final = (Path("/home"), Path("/root"), Path("/run/user"))
"""Directories that nobody sees in the units, whatever their modes (ProtectHome=)."""
_FLAG: Final = "--"
"""Begins the source of a setting that is this command's alone."""


def rights(ground: Ground) -> Iterator[Finding]:
    """Look whether others than root may read what the service reads."""
    if not ground.for_unit:
        return
    closed = [*_closed(_files(ground)), *_credentials(ground), *program()]
    yield from closed or [ok("rights", "The unit's user may read the program, and the files that it needs.")]


def program() -> Iterator[Finding]:
    """Look at Python and at the packages: pip installs them for root alone if the umask is 077."""
    started = (Path(sys.executable), Path(sysconfig.get_path("scripts"), "snapshotd"))
    read = (Path(sys.prefix, "pyvenv.cfg"), Path(os.__file__))
    trees = _trees()
    needed = [*((path, "rx") for path in (*started, *trees)), *((path, "r") for path in read)]
    yield from _closed(Needed("the program", path, rights) for path, rights in needed)
    for tree in trees:
        if unread := list(_unread(tree)):
            told = f"The unit's user may not read {counted(len(unread), 'file')} below {tree}, e.g. {unread[0]}"
            mend = f"chmod -R o+rX {shlex.quote(str(tree))}"
            yield error("rights", f"{told}, so the unit fails. Run {mend}, and install with umask 022.")


def _files(ground: Ground) -> Iterator[Needed]:
    if ground.config is not None:
        yield Needed("the settings", ground.config)
    for name in _SETTINGS[ground.serves]:
        if (path := ground.file(name)) is not None:
            yield Needed(name, path)
    tokens = tokens_path(ground.settings)
    if ground.serves and not tokens.is_relative_to(ground.settings.storage):
        yield Needed("auth.tokens", tokens.parent, "x")  # the file itself is its owner's alone


def _credentials(ground: Ground) -> Iterator[Finding]:
    """Look at a directory that the executor is told to read by itself, which it does not start without."""
    path, source = ground.file("executor.credentials"), ground.settings.sources["executor.credentials"]
    if ground.serves or path is None or source.startswith(_FLAG):
        return
    if any(_closed([Needed("executor.credentials", path, "rx")])):
        told = f"executor.credentials from {source} names {path}, which is closed to the unit's user, so the unit fails"
        yield error("rights", f"{told}. Take the setting out: the unit gives credentials by LoadCredential=.")


def _closed(needed: Iterable[Needed]) -> Iterator[Finding]:
    """Yield a finding for each directory that others may not pass, with what is behind it, and for what they lack."""
    behind: dict[Path, list[str]] = {}
    alone: dict[tuple[Path, str], list[str]] = {}
    for one in needed:
        hidden = next((top for top in _HIDDEN if Path(os.path.realpath(one.path)).is_relative_to(top)), None)
        if hidden is not None:
            yield error("rights", f"{one.path} ({one.name}) is in {hidden}, which the unit hides. Put it elsewhere.")
            continue
        for directory in _way(one.path):
            behind.setdefault(directory, []).append(one.name)
        alone.setdefault((one.path, one.rights), []).append(one.name)
    for directory, names in behind.items():
        yield from _lacking(directory, "x", f"on the way to {_list(names)}")
    for (path, rights), names in alone.items():
        yield from _lacking(path, rights, _list(names))


def _lacking(path: Path, needed: str, what: str) -> Iterator[Finding]:
    """Yield that others lack rights on a file or directory, if they do."""
    found = _looked_at(path)
    bits = sum({"r": stat.S_IROTH, "x": stat.S_IXOTH}[right] for right in needed)
    if found is None or found.st_mode & bits == bits:
        return
    mend = f"chmod o+{needed} {shlex.quote(str(path))}"
    if found.st_gid and found.st_mode >> 3 & bits == bits:
        group = _group(found.st_gid)
        told = f"{path} ({what}) is open to the group {group} only. The unit needs SupplementaryGroups={group}"
        yield warning("rights", f"{told}; without it, run {mend}.")
    else:
        yield error("rights", f"{path} ({what}) is closed to the unit's user, so the unit fails. Run {mend}.")


def _way(path: Path) -> Iterable[Path]:
    """Return the directories that are passed on the way to a file, and to what it links to, from the root on."""
    real = Path(os.path.realpath(path))
    named = [Path(os.path.realpath(directory)) for directory in path.absolute().parents]
    return dict.fromkeys([*reversed(named), *reversed(real.parents)])


def _trees() -> list[Path]:
    """Return the directories of the packages, none of which is in another."""
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    packages = [Path(str(package.__file__)).parent for package in (snapshotd, projections)]
    found = {Path(os.path.realpath(path)) for path in (*installed, *packages)}
    return sorted(path for path in found if not found.intersection(path.parents))


def _unread(tree: Path) -> Iterator[Path]:
    """Yield what others may not read or enter below a directory."""
    for at, directories, files in os.walk(tree):
        directories[:] = [name for name in directories if name != _COMPILED]
        rights = chain(((name, "rx") for name in directories), ((name, "r") for name in files))
        yield from (Path(at, name) for name, needed in rights if any(_lacking(Path(at, name), needed, "")))


def _looked_at(path: Path) -> os.stat_result | None:
    """Return what is there; None: nothing, which others tell."""
    try:
        return path.stat()
    except OSError:
        return None


def _list(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
