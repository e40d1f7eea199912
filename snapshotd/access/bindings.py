"""Who has which role on what: the file roles.toml, read anew when it changes. Denies what no binding grants.

[[binding]]
role = "operator"
subjects = ["oidc:alice@example.com", "token:ci"]
groups = ["oidc:vm-operators"]
account = "acme"        # or host = "hv01", or vm = "<Hyper-V's id>"; without any of them: on everything

[barred]
subjects = ["executor:ex1"]     # whoever signs in so may do nothing, whatever else is granted: a key was stolen
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from snapshotd.access.errors import AccessUnusable
from snapshotd.access.identity import GROUP_WAYS, WAYS, Identity
from snapshotd.access.roles import Role
from snapshotd.access.watched_file import LastValid
from snapshotd.domain.ids import HostId, VmId, is_guid, is_host_id
from snapshotd.small_file import SmallFile, read_small, toml_of

_LARGEST_FILE: Final = 1024 * 1024
_KEYS: Final = frozenset({"role", "subjects", "groups", "account", "host", "vm"})
_PARTS: Final = ("account", "host", "vm")
_PARTS_OF: Final[Mapping[str, tuple[str, ...]]] = {Role.DELEGATE: (), Role.EXECUTOR: ("host",)}
"""What some roles can be on, other than _PARTS. A delegate says for whom it calls, whatever it calls."""
_REMEMBERED: Final = 1000
"""Callers whose bindings are kept in memory."""


class RolesInvalid(AccessUnusable):
    """A file of roles that cannot be used. The text says which binding is wrong, and what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a call is about: a host, or a VM with its account and its host."""

    vm_id: VmId | None = None
    account: str = ""
    host_id: HostId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A role for some callers, on one part of everything, or on all of it."""

    role: Role
    subjects: frozenset[str]
    groups: frozenset[str]
    account: str = ""
    host: str = ""
    vm: str = ""

    @property
    def everywhere(self) -> bool:
        """Whether it is on everything."""
        return not (self.account or self.host or self.vm)

    def of(self, caller: Identity) -> bool:
        """Return whether it is the caller's."""
        return caller.subject in self.subjects or not self.groups.isdisjoint(caller.groups)

    def holds_at(self, place: Place) -> bool:
        """Return whether it is on a place."""
        if self.account:
            return place.account == self.account
        if self.host:
            return place.host_id == self.host
        return place.vm_id == self.vm if self.vm else True


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller may see in a list."""

    everything: bool = False
    accounts: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    vms: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Granted:
    """The bindings of one caller."""

    bindings: tuple[Binding, ...] = ()

    def somewhere(self, roles: Collection[Role]) -> bool:
        """Return whether the caller has one of some roles on anything."""
        return any(b.role in roles for b in self.bindings)

    def everywhere(self, roles: Collection[Role]) -> bool:
        """Return whether the caller has one of some roles on everything."""
        return any(b.role in roles and b.everywhere for b in self.bindings)

    def at(self, place: Place, roles: Collection[Role]) -> bool:
        """Return whether the caller has one of some roles on a place."""
        return any(b.role in roles and b.holds_at(place) for b in self.bindings)

    def sight(self, roles: Collection[Role]) -> Sight:
        """Return what the caller has one of some roles on."""
        held = [b for b in self.bindings if b.role in roles]
        return Sight(
            any(b.everywhere for b in held),
            frozenset(b.account for b in held if b.account),
            frozenset(b.host for b in held if b.host),
            frozenset(b.vm for b in held if b.vm),
        )


WHOLE: Final = Granted(tuple(Binding(role=role, subjects=frozenset(), groups=frozenset()) for role in Role))
"""Every role on everything: what all callers have in trust mode."""


@dataclass(slots=True)
class Bindings:
    """All bindings.

    Args:
        bindings: as read.
    """

    bindings: tuple[Binding, ...] = ()
    barred: frozenset[str] = frozenset()
    """Subjects that may do nothing, whatever they are granted."""
    _granted: dict[Identity, Granted] = field(default_factory=dict)

    def of(self, caller: Identity) -> Granted:
        """Return what a caller is granted."""
        if caller.subject in self.barred:
            return Granted()
        if caller not in self._granted:
            if len(self._granted) > _REMEMBERED:
                self._granted.clear()
            self._granted[caller] = Granted(tuple(b for b in self.bindings if b.of(caller)))
        return self._granted[caller]


def follow_roles(path: Path) -> LastValid[Bindings]:
    """Return what follows the bindings in a file. Raises RolesInvalid and OSError if it cannot be used now."""
    return LastValid(path, _LARGEST_FILE, _read, RolesInvalid)


def read_bindings(path: Path) -> Bindings:
    """Return the bindings in a file. Raises RolesInvalid and OSError."""
    return _read(path, read_small(path, _LARGEST_FILE))


def _read(path: Path, file: SmallFile) -> Bindings:
    """Return the bindings in what was read of a file. Raises RolesInvalid."""
    try:
        document = toml_of(file.content)
    except ValueError as error:
        raise RolesInvalid(f"Cannot use {path}: it is not TOML: {error}.") from None
    tables, barred = document.pop("binding", []), document.pop("barred", {"subjects": []})
    if document or not isinstance(tables, list):
        other = ", ".join(document) or "binding"
        raise RolesInvalid(
            f"Cannot use {path}: it holds {other}. Write [[binding]] tables and one table [barred], and nothing else."
        )
    subjects = _names(barred.get("subjects")) if isinstance(barred, dict) and len(barred) == 1 else None
    if subjects is None:
        raise RolesInvalid(f'Cannot use {path}: [barred] must hold subjects = ["executor:ex1"], and nothing else.')
    if problem := _names_nobody(subjects, WAYS):
        raise RolesInvalid(f"Cannot use {path}: [barred] {problem}.")
    return Bindings(tuple(_binding(path, n, table) for n, table in enumerate(tables, 1)), subjects)


def _binding(path: Path, number: int, table: object) -> Binding:
    """Return one binding. Raises RolesInvalid."""

    def refuse(problem: str) -> RolesInvalid:
        return RolesInvalid(f"Cannot use {path}: binding {number} {problem}.")

    if not isinstance(table, dict) or (unknown := sorted(set(table) - _KEYS)):
        raise refuse(f"has {', '.join(unknown) if isinstance(table, dict) else 'no keys'}; there are {_listed(_KEYS)}")
    if table.get("role") not in list(Role):
        raise refuse(f"has the role {table.get('role')!r}; there are {_listed(Role)}")
    subjects, groups = (_names(table.get(key, [])) for key in ("subjects", "groups"))
    if subjects is None or groups is None or not (subjects or groups):
        raise refuse('is for nobody: write subjects = ["oidc:alice@example.com"], or groups likewise')
    if problem := _names_nobody(subjects, WAYS) or _names_nobody(groups, GROUP_WAYS):
        raise refuse(problem)
    parts = {key: table[key] for key in _PARTS if key in table}
    if len(parts) > 1 or not all(isinstance(part, str) and part.strip() == part != "" for part in parts.values()):
        raise refuse(
            f"is on {_listed(parts)}: name one of account, host and vm, as text without blanks around it; none of them "
            "means everything"
        )
    if "host" in parts and not is_host_id(parts["host"]):
        raise refuse(f"is on the host {parts['host']!r}, which is no host's id: 1 to 63 of a-z, 0-9 and -")
    if "vm" in parts and not is_guid(parts["vm"].lower()):
        raise refuse(f"is on the VM {parts['vm']!r}, which is not Hyper-V's id of one: a GUID")
    if "vm" in parts:
        parts["vm"] = parts["vm"].lower()
    if useless := parts.keys() - _PARTS_OF.get(table["role"], _PARTS):
        raise refuse(f"has the role {table['role']}, which is never on one {useless.pop()}. Leave that out")
    return Binding(role=Role(table["role"]), subjects=subjects, groups=groups, **parts)


def _names(value: object) -> frozenset[str] | None:
    """Return names; None if they are none."""
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() == name != "" for name in value):
        return None
    return frozenset(value)


def _names_nobody(names: Iterable[str], ways: Mapping[str, Callable[[str], bool]]) -> str:
    """Return what is wrong with a name that no caller can have, so that it bars or grants nothing; empty: none is."""
    for name in sorted(names):
        way, colon, own = name.partition(":")
        if not colon:
            return f'names {name!r} without the way it signs in: write e.g. "oidc:{name}" or "token:{name}"'
        if way not in ways:
            return f"names {name!r}, and there is no way {way!r} to sign in; there are {_listed(ways)}"
        if not ways[way](own):
            return f"names {name!r}, which nobody can be called. Each name is written out; there are no patterns"
    return ""


def _listed(names: Iterable[str] | Mapping[str, object]) -> str:
    return ", ".join(sorted(names))
