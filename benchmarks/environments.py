"""Environments under build/ for what the benchmarks need and snapshotd does not: DBOS, py-spy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.progress import say

ROOT: Final = Path(__file__).resolve().parents[1]


def programs_of(name: str) -> Path:
    """Return where the programs of an environment are; it is made once from requirements/NAME.txt."""
    programs = ROOT / "build" / name / "bin"
    locked = ROOT / "requirements" / f"{name}.txt"
    made = programs / "installed"
    if not made.exists() or made.stat().st_mtime < locked.stat().st_mtime:
        say(f"  setting build/{name} up, once")
        subprocess.run([sys.executable, "-m", "venv", str(programs.parent)], check=True)
        install = [str(programs / "python"), "-m", "pip", "install", "-qq", "--require-hashes", "-r", str(locked)]
        subprocess.run(install, check=True, stdout=sys.stderr)
        made.touch()
    return programs
