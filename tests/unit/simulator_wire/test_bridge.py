"""The bridge between stub cmdlets and the model, spoken to as a stub does."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snapshotd.simulator.hypervisor import Caller, HyperVError
from snapshotd.simulator.pwsh.bridge import Bridge


class Script:
    """A calling script."""

    killed = False

    def kill(self) -> None:
        """Never asked for."""


def full(_: Caller, __: Mapping[str, Any]) -> object:
    raise OSError(errno.ENOSPC, "No space left on device")


def refused(_: Caller, __: Mapping[str, Any]) -> object:
    raise HyperVError("InvalidState", "Start-VM", "no")


def test_a_call_that_fails_is_answered_with_its_error_and_the_next_one_is_taken(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path / "bridge", {"full": full, "refused": refused})
    bridge.admit("token", Script())
    answers = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "bridge"))
        with connection.makefile("rwb") as lines:
            for call in ("full", "refused"):
                lines.write(json.dumps({"token": "token", "call": call, "arguments": {}}).encode() + b"\n")
                lines.flush()
                answers.append(json.loads(lines.readline())["error"])
    bridge.close()
    text = "The simulated host failed: [Errno 28] No space left on device"
    assert answers == [
        {"id": "OperationFailed", "message": text},
        {"id": "InvalidState,Microsoft.HyperV.PowerShell.Commands.StartVM", "message": "no"},
    ]
