"""The units of systemd: what they start is there, they are hardened, and no secret is readable for others.

Backups are made by a timer, and old ones deleted.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

from snapshotd.__main__ import READ
from snapshotd.settings import KEYS

SYSTEMD = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
BACKUP = SYSTEMD / "snapshotd-backup.service"
PROGRAMS = [unit for unit in UNITS if unit != BACKUP]
BACKUPS = "/var/backups/snapshotd"
DAY_S = 24 * 60 * 60
ANALYZE = shutil.which("systemd-analyze")
MOST = 20
"""Tenths of the exposure that `systemd-analyze security` may find."""


def lines(unit: Path) -> list[str]:
    """Return the settings of a unit."""
    return [line for line in unit.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#")]


def commands(unit: Path, name: str) -> list[list[str]]:
    """Return the commands of a unit's setting, as words."""
    found = [line.partition("=") for line in lines(unit)]
    return [shlex.split(value.removeprefix("-")) for setting, _, value in found if setting == name]


def test_there_are_the_units_of_both_programs_and_of_backups() -> None:
    assert [unit.name for unit in PROGRAMS] == ["snapshotd-executor.service", "snapshotd.service"]
    assert BACKUP in UNITS


@pytest.mark.parametrize("unit", sorted(SYSTEMD.iterdir()), ids=lambda unit: unit.name)
@pytest.mark.skipif(ANALYZE is None, reason="NOT CHECKED: what systemd says of the units. Install systemd")
def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path, unit: Path) -> None:
    assert ANALYZE is not None
    for one in SYSTEMD.iterdir():  # the program need not be installed here
        text = one.read_text(encoding="utf-8").replace("/opt/snapshotd/bin/snapshotd", "/bin/true")
        (tmp_path / one.name).write_text(text, encoding="utf-8")
    command = [ANALYZE, "verify", "--man=no", str(tmp_path / unit.name)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
@pytest.mark.skipif(ANALYZE is None, reason="NOT CHECKED: how exposed the units are. Install systemd (systemd-analyze)")
def test_a_unit_is_hardened(unit: Path) -> None:
    assert ANALYZE is not None
    command = [ANALYZE, "security", "--offline=true", f"--threshold={MOST}", "--no-pager", str(unit)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Overall exposure level" in ran.stdout, ran.stderr
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("unit", PROGRAMS, ids=lambda unit: unit.stem)
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


def test_a_backup_is_made_each_hour_and_one_that_was_missed_soon() -> None:
    assert {"OnCalendar=hourly", "Persistent=true", "WantedBy=timers.target"} <= set(
        lines(BACKUP.with_suffix(".timer"))
    )
    assert "Type=oneshot" in lines(BACKUP)
    assert commands(BACKUP, "ExecStart") == [["/opt/snapshotd/bin/snapshotd", "backup", f"{BACKUPS}/"]]


def test_after_a_backup_those_older_than_14_days_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    ages = {"snapshotd-just-made.tar": 0.0, "snapshotd-13.tar": 13.9, "snapshotd-14.tar": 14.1, "snapshotd-90.tar": 90}
    for name, days in (ages | {"other.tar": 90, "snapshotd-note.txt": 90}).items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - days * DAY_S,) * 2)
    (after,) = commands(BACKUP, "ExecStartPost")  # systemd runs it only if the backup was made
    subprocess.run([word.replace(BACKUPS, str(tmp_path)) for word in after], check=True)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["other.tar", "snapshotd-13.tar", "snapshotd-just-made.tar", "snapshotd-note.txt"]


def test_before_a_backup_what_an_interrupted_one_has_left_is_removed_after_a_day(tmp_path: Path) -> None:
    for name, days in ((".snapshotd-backup-now", 0.9), (".snapshotd-backup-old", 1.1), ("mine", 90)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.db").touch()
        os.utime(tmp_path / name, (time.time() - days * DAY_S,) * 2)
    (before,) = commands(BACKUP, "ExecStartPre")
    subprocess.run([word.replace(BACKUPS, str(tmp_path)) for word in before], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".snapshotd-backup-now", "mine"]


def test_what_the_guide_takes_from_the_installation_is_in_the_wheel() -> None:
    root = SYSTEMD.parents[1]
    data = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    shipped = {f"{place}/{file.name}" for place, globs in data.items() for glob in globs for file in root.glob(glob)}
    guide = (root / "docs" / "running.md").read_text(encoding="utf-8")
    named = set(re.findall(r"/opt/snapshotd/(share/snapshotd/[\w./*-]*[\w*])", guide))
    named |= {f"share/snapshotd/{name}" for name in re.findall(r"`((?:grafana|prometheus)/[\w.]+)`", guide)}
    assert named
    named |= {f"share/snapshotd/systemd/{unit.name}" for unit in SYSTEMD.iterdir()}
    assert [name for name in sorted(named) if not fnmatch.filter(shipped, name)] == []


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
