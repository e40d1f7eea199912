"""Print who may call what into docs/roles.md, from the table in the code.

python -m tools.roles_table write
python -m tools.roles_table verify   fails if the document is stale
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from snapshotd.access.roles import RULES, Concern, Role, Rule
from tools import drawn

DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "roles.md"
_PEOPLE: Final = (Role.VIEWER, Role.OPERATOR, Role.AUDITOR, Role.ADMIN, Role.EXECUTOR)
_ABOUT: Final = {
    Role.VIEWER: "sees hosts, VMs, snapshots and operations",
    Role.OPERATOR: "sees them, and works on VMs: snapshots, power, disks, exports",
    Role.AUDITOR: "sees them, and the events",
    Role.ADMIN: "may do all that people do",
    Role.EXECUTOR: "may attach, and serve its hosts; a certificate of the executors' CA brings it along",
    Role.DELEGATE: "may say for whom it makes a call (`x-snapshotd-on-behalf-of`); what it calls takes another role",
}
_INTRO: Final = """\
# Roles

Printed by `make diagrams` from `snapshotd/access/roles.py`.

With `auth.mode = "required"`, nobody may do anything that no binding grants. Bindings are in the file that
`auth.roles` names. It is read anew when it changes; one that turns invalid is logged, and the last valid one stays in
force:

```toml
[[binding]]
role = "operator"
subjects = ["oidc:alice@example.com", "token:ci"]   # as they stand in events
groups = ["oidc:vm-operators"]
account = "acme"                                    # VMs whose owner is acme

[[binding]]
role = "viewer"
groups = ["oidc:everybody"]                         # on everything

[barred]
subjects = ["executor:ex1"]                         # may do nothing, at once: its key was stolen
```

A binding is on the VMs of an `account`, on a `host` and the VMs on it, on one `vm` (Hyper-V's id), or on everything.
That of an executor is on a host or on everything, that of a delegate always on everything. Only an admin of everything
says which machine a host is: whoever could say that of one host could name another one's address, and reach its VMs.
What somebody may not see is not found, in the same words as what does not exist. Who was refused is recorded as an
event: `snapshotctl audit list --type CallRefused`.

"""


def table() -> str:
    """Return the document."""
    lines = ["| role | what it is for |", "|---|---|", *(f"| {role} | {_ABOUT[role]} |" for role in Role), ""]
    lines += ["## Who may call what", "", f"| method | on | {' | '.join(_PEOPLE)} |"]
    lines += [f"|---|---|{'---|' * len(_PEOPLE)}"]
    lines += [_row(method, rule) for method, rule in RULES.items()]
    weighty, beyond = (
        ", ".join(f"`{field}` of {m.rpartition('/')[2]}" for m, r in RULES.items() for field in getattr(r, kind))
        for kind in ("weighty", "beyond")
    )
    lines += ["", f"¹ But only an admin of the VM may set {weighty}. What reaches beyond the VM takes an admin of the "]
    lines[-1] += f"host, the VM's or the one that is named, also where a VM's admin is enough otherwise: {beyond}."
    lines += [""]
    lines += [
        "*Nothing*: it needs no sign-in. *What is listed*: the answer holds what the caller may see, and no more."
    ]
    return _INTRO + "\n".join(lines) + "\n"


def _row(method: str, rule: Rule) -> str:
    service, _, name = method.rpartition("/")
    cells = [_cell(rule, role) for role in _PEOPLE]
    return f"| {service.rpartition('.')[2]}/{name} | {rule.concern.value} | {' | '.join(cells)} |"


def _cell(rule: Rule, role: Role) -> str:
    if rule.concern is not Concern.NOTHING and role not in rule.roles:
        return ""
    return "yes¹" if rule.beyond or (rule.weighty and role is not Role.ADMIN) else "yes"


if __name__ == "__main__":
    sys.exit(drawn.run(sys.argv[1:], DOCUMENT, table, __doc__))
