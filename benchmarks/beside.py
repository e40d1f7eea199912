"""`make bench BESIDE=<commit>`: this checkout and another commit in turns, each with its own locked packages."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.appends import APPENDS, WRITERS
from benchmarks.creates import CALLERS, CREATES
from benchmarks.progress import say

_HERE = Path(__file__).resolve().parents[1]
_ROUNDS = 5
_CREATES = "from benchmarks.creates import creates_per_second as m; print(m(Path(d), {}, {}, stored={}))"
_APPENDS = "from benchmarks.appends import ours as m; print(m(Path(d), {}, {}))"
_RUN = "import tempfile; from pathlib import Path; d = tempfile.mkdtemp(prefix='snapshotd-bench-')\n"


def workloads() -> dict[str, str]:
    """Return what is measured, by name: statements that print a rate per second."""
    creates = {
        f"creates, {callers} callers, {'with log' if stored else 'in memory'}": _CREATES.format(
            callers, CREATES[callers], stored
        )
        for callers in CALLERS
        for stored in (True, False)
    }
    return creates | {f"appends, {writers} writers": _APPENDS.format(writers, APPENDS) for writers in WRITERS}


def rate(tree: Path, statements: str) -> float:
    """Measure once, in a checkout's own environment."""
    command = [str(tree / ".venv/bin/python"), "-c", _RUN + statements]
    return float(subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Check the other commit out, measure both in turns, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit")
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory(prefix="snapshotd-beside-") as name:
        other = Path(name) / "tree"
        subprocess.run(["git", "clone", "--quiet", str(_HERE), str(other)], check=True)
        subprocess.run(["git", "checkout", "--quiet", commit], cwd=other, check=True)
        say(f"setting {commit} up")
        subprocess.run(["make", "--quiet", ".venv/.installed"], cwd=other, check=True, stdout=sys.stderr)
        say(f"median rates per second of {_ROUNDS} runs each, in turns")
        say(f"{'':<32} {commit[:10]:>10} {'here':>10} {'ratio':>7}")
        for what, statements in workloads().items():
            pairs = [(rate(other, statements), rate(_HERE, statements)) for _ in range(_ROUNDS)]
            theirs, ours = (statistics.median(rates) for rates in zip(*pairs, strict=True))
            say(f"{what:<32} {theirs:>10.0f} {ours:>10.0f} {ours / theirs:>7.2f}")


if __name__ == "__main__":
    main()
