"""A demonstration that cannot start says why in a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from demo.main_job import main


@pytest.mark.slow
def test_a_demo_without_its_powershell_says_so_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SNAPSHOTD_PWSH", str(tmp_path / "pwsh"))
    monkeypatch.setattr(sys, "argv", ["main_job", "--engine", "pwsh"])
    assert main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("simulate-host did not start (exit code 2): snapshotd simulate-host: Cannot use")
    assert str(tmp_path / "pwsh") in line
