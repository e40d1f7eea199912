"""Where exports are: `<root>/<VM id>/<operation's number and tag>-<attempt>`, and `.partial` after it until complete.

Each attempt has a folder of its own, whose name never comes again: so whatever is in it is that attempt's. The host's
script puts a file into it before anything else. A folder without that file is not ours, and is never removed.

The script takes what is two above such a folder for its root, and neither makes nor removes anything while that is not
there. Only of a folder named `*.partial-<number>`, which is a copy's of a disk, is it one above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from snapshotd.domain import host_path
from snapshotd.domain.export import Export
from snapshotd.domain.ids import VmId
from snapshotd.domain.operation import Operation, Step

MARKER: Final = "snapshotd.export"
"""The file by which the host's script knows a folder of ours."""
_PARTIAL: Final = ".partial"


def partial_folder(root: str, operation: Operation, step: Step) -> str:
    """Return the folder of the attempt that a step begins, while it is not complete."""
    alike = (s for s in operation.steps if s.plan.action == step.plan.action)
    attempt = sum(s.plan.number <= step.plan.number for s in alike)
    name = operation.name.rpartition(".")[2]
    return host_path.join(root, operation.vm_id, f"{name}-{attempt}{_PARTIAL}")


def final_folder(partial: str) -> str:
    """Return where a partial folder is when it is complete."""
    return partial.removesuffix(_PARTIAL)


def is_partial(folder: str) -> bool:
    """Return whether the export in a folder is not complete."""
    return host_path.normalised(folder).endswith(_PARTIAL)


def folder_around(path: str, vm_id: VmId, exports: Iterable[Export]) -> str:
    """Return the folder of a VM's export that a path is in, complete or not; empty: in none that may be removed.

    What the VM was imported from is its own, and no export any more.
    """
    key = host_path.normalised(path)
    if vm_id not in key:
        return ""  # of most VMs: it is in the path of each of their exports
    complete = (x.directory for x in exports if not x.in_use)
    partial = re.match(rf".*\\{vm_id}\\[^\\]+{re.escape(_PARTIAL)}(?=\\)", key)
    found = next((folder for folder in complete if key.startswith(host_path.normalised(folder) + "\\")), "")
    return found or (partial[0] if partial else "")


def marker_of(folder: str) -> str:
    """Return the file that shows that a folder is there, and ours."""
    return host_path.join(folder, MARKER)
