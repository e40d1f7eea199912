"""The real PowerShell that tests run scripts in, or a skip that says that there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.programs import find_pwsh


def pwsh() -> Path:
    """Return the program, or skip the test."""
    found = find_pwsh()
    if found is None:
        pytest.skip("no PowerShell engine: set SNAPSHOTD_PWSH, or put pwsh on the PATH")
    return found
