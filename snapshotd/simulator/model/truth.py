"""The ground truth: every effect on the host, one JSON object a line, appended when it happens and never changed.

An effect is numbered on its VM too (`vm_n`), and the VM's own file holds its last line: a process that was killed
between the two is made good when the host is opened again.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

DECISIVE: Final = frozenset(
    {
        *("checkpoint_made", "checkpoint_applied", "checkpoint_removed", "power_changed"),
        *("drive_added", "drive_removed", "disk_created", "disk_resized", "vm_created", "vm_removed"),
        *("export_begun", "disk_converted", "vm_imported", "vm_configured"),
    }
)
"""Effects that a command exists for. All others are auxiliary."""


class Truth:
    """The truth file.

    Args:
        path: where it is; made if missing, in a directory that is there.
    """

    def __init__(self, path: Path) -> None:
        self._count = 0
        self._of_vm: dict[str, int] = {}
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no regular file", str(path))  # to open a pipe would wait for a reader
        if path.exists():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            for line in whole.splitlines():
                self._note(json.loads(line))
            if len(whole) < len(text):  # a line that was never finished has never been told to anybody
                path.write_bytes(whole)
        # Unbuffered: what is written is the system's, and outlives the process.
        self._file = path.open("ab", buffering=0)

    def append(self, line: Mapping[str, Any]) -> None:
        """Append an effect, numbered."""
        numbered = {"at": line["at"], "n": self._count + 1, **line}
        self._file.write(json.dumps(numbered).encode() + b"\n")
        self._note(numbered)

    def last_of(self, vm_id: str) -> int:
        """Return the number of the last effect on a VM; 0: there was none."""
        return self._of_vm.get(vm_id, 0)

    def make_good(self, last: Mapping[str, Any] | None) -> None:
        """Append a VM's last effect if it is not in the file yet."""
        if last is not None and last["vm_n"] > self._of_vm.get(last["vm"], 0):
            self.append(last)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _note(self, line: Mapping[str, Any]) -> None:
        self._count = line["n"]
        self._of_vm[line["vm"]] = max(self._of_vm.get(line["vm"], 0), line.get("vm_n", 0))
