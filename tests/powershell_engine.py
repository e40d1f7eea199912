"""Where the real PowerShell for tests is: $SNAPSHOTD_PWSH, `pwsh` on the PATH, or beside the checkout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "pwsh" / "pwsh"


def find_pwsh() -> Path | None:
    """Return the program; None if there is none."""
    named = os.environ.get("SNAPSHOTD_PWSH") or shutil.which("pwsh")
    if named:
        return Path(named)
    return _BESIDE if _BESIDE.is_file() else None


def pwsh() -> Path:
    """Return the program, or skip the test."""
    found = find_pwsh()
    if found is None:
        pytest.skip("no PowerShell engine: set SNAPSHOTD_PWSH, or put pwsh on the PATH")
    return found
