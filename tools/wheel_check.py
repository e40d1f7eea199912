"""Checks the wheel in dist/: all that belongs to the packages is in it, and it runs with exactly the locked versions.

It is installed as docs/running.md says, into an environment of its own in build/wheel-check.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_DIST: Final = ROOT / "dist"
_PLACE: Final = ROOT / "build" / "wheel-check"
_PACKAGES: Final = ("snapshotd", "projections")
_SHARED: Final = (
    *("share/man/man1/snapshotd.1", "share/man/man1/snapshotctl.1"),
    *("share/snapshotd/systemd/snapshotd.service", "share/snapshotd/systemd/snapshotd-executor.service"),
    *("share/snapshotd/systemd/snapshotd-backup.service", "share/snapshotd/systemd/snapshotd-backup.timer"),
    *("share/snapshotd/grafana/snapshotd.json", "share/snapshotd/prometheus/alerts.yml"),
)


def main() -> int:
    """Check the wheel. Return the exit code."""
    (wheel,) = _DIST.glob("*.whl")
    if missing := _missing(wheel):
        sys.stderr.write(f"{wheel.name} lacks {', '.join(missing)}. See [tool.setuptools] in pyproject.toml.\n")
        return 1
    shutil.rmtree(_PLACE, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(_PLACE))
    pip = (str(_PLACE / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check")
    _run(*pip, "--require-hashes", "-r", str(_DIST / "requirements.txt"))
    _run(*pip, "--no-deps", str(wheel))
    _run(str(_PLACE / "bin" / "python"), "-m", "pip", "check")
    release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for command, said in (
        (("snapshotd", "--version"), f"snapshotd {release}"),
        (("snapshotd", "config", "check"), "storage.directory"),
        (("snapshotctl", "--help"), "exit codes"),
        (("snapshotctl", "--version"), f"snapshotctl {release}"),
    ):
        shown = _run(str(_PLACE / "bin" / command[0]), *command[1:])
        assert said in shown, (command, shown)
    gone = [name for name in _SHARED if not (_PLACE / name).is_file()]
    assert not gone, f"not installed: {gone}"
    sys.stdout.write(f"{wheel.name} is whole, and runs with the locked versions.\n")
    return 0


def _missing(wheel: Path) -> list[str]:
    """Return the files of the packages, as they are committed, that the wheel lacks."""
    listed = _run("git", "-C", str(ROOT), "ls-files", *_PACKAGES).splitlines()
    with zipfile.ZipFile(wheel) as opened:
        held = set(opened.namelist())
    return [name for name in listed if name not in held]


def _run(*command: str) -> str:
    """Run a command away from the checkout, whose packages must not stand in for those of the wheel."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=_DIST)
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
