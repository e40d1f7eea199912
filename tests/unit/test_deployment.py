"""The units of systemd: what they start is there, they are hardened, and no secret is readable for others."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from snapshotd.__main__ import READ
from snapshotd.settings import KEYS

SYSTEMD = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")
MOST = 20
"""Tenths of the exposure that `systemd-analyze security` may find."""


def lines(unit: Path) -> list[str]:
    """Return the settings of a unit."""
    return [line for line in unit.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#")]


def test_there_are_the_units_of_both_programs() -> None:
    assert [unit.name for unit in UNITS] == ["snapshotd-executor.service", "snapshotd.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
@pytest.mark.skipif(ANALYZE is None, reason="NOT CHECKED: how exposed the units are. Install systemd (systemd-analyze)")
def test_a_unit_is_hardened(unit: Path) -> None:
    assert ANALYZE is not None
    command = [ANALYZE, "security", "--offline=true", f"--threshold={MOST}", "--no-pager", str(unit)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Overall exposure level" in ran.stdout, ran.stderr
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_watched_and_starts_a_command_with_settings_that_there_are(unit: Path) -> None:
    found = lines(unit)
    assert {"Type=notify", "Restart=always"} <= set(found)
    assert any(re.fullmatch(r"WatchdogSec=\d+", line) for line in found)
    (started,) = [line.removeprefix("ExecStart=").split() for line in found if line.startswith("ExecStart=")]
    assert started[0] == "/opt/snapshotd/bin/snapshotd"
    assert started[1] in READ
    variables = [line.partition("=")[2].partition("=") for line in found if line.startswith("Environment=")]
    known = {key.variable for key in KEYS if key.name in READ[started[1]]}
    assert [name for name, _, _ in variables if name not in known] == []
    loaded = {line.partition("=")[2].partition(":")[0] for line in found if line.startswith("LoadCredential=")}
    assert {value.removeprefix("%d/") for _, _, value in variables} <= loaded


def test_the_image_is_built_of_locked_versions_and_runs_as_nobody_without_a_shell() -> None:
    text = (SYSTEMD.parent / "container" / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    instructions = [line for line in text.splitlines() if line and not line.startswith("#")]
    *_, last = [n for n, line in enumerate(instructions) if line.startswith("FROM ")]
    installs = [part for line in instructions for part in line.split("&&") if "pip install" in part]
    assert installs
    assert [part for part in installs if "--require-hashes" not in part and "--no-deps" not in part] == []
    run = instructions[last:]
    assert [line for line in run if line.startswith("RUN ")] == []
    assert "USER 65532:65532" in run
    assert [line.partition(" ")[2][0] for line in run if line.startswith(("ENTRYPOINT", "CMD"))] == ["[", "["]


def test_the_lock_has_the_one_entry_that_the_image_takes_setuptools_from() -> None:
    locked = (SYSTEMD.parents[1] / "requirements" / "dev.txt").read_text(encoding="utf-8")
    entry = re.compile(r"^setuptools==\S+ \\\n(    --hash=sha256:\w{64} \\\n)*    --hash=sha256:\w{64}$", re.MULTILINE)
    assert len(entry.findall(locked)) == 1
