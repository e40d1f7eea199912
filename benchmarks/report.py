"""Writes docs/performance.md and its plot from the figures of a run: `python -m benchmarks.report` after a whole one.

The prose of the document is written by people; what stands between two marks is written here.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.plot import Panel, svg
from benchmarks.targets import TARGETS, number

ROOT: Final = Path(__file__).resolve().parents[1]
FIGURES: Final = ROOT / "build" / "bench.json"
RUN: Final = ROOT / "build" / "bench-run.json"
"""Where, when and with what the figures were found."""
DOCUMENT: Final = ROOT / "docs" / "performance.md"
PLOT: Final = ROOT / "docs" / "performance.svg"
_REACHED: Final = {True: "yes", False: "**no**", None: "not measured"}
_LIBRARIES: Final = ("grpcio", "protobuf", "eventsourcing", "msgspec")
_BUDGET: Final = ("translation", "decision", "encoding", "commit", "views", "wire", "other")


def about() -> dict[str, str]:
    """Return where, when and with what a run is made."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else []
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "machine": f"{names[0] if names else platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                f"SQLite {sqlite3.sqlite_version}",
                *(f"{name} {version(name)}" for name in _LIBRARIES),
                *(line.split(" ")[0].replace("==", " ") for line in _locked() if line.startswith("dbos==")),
            ]
        ),
    }


def _locked() -> list[str]:
    return (ROOT / "requirements" / "dbos.txt").read_text(encoding="utf-8").splitlines()


def save(figures: Mapping[str, float]) -> None:
    """Keep the figures of a run."""
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n", encoding="utf-8")
    RUN.write_text(json.dumps(about(), indent=1) + "\n", encoding="utf-8")


def table(figures: Mapping[str, float]) -> str:
    """Return what a run must show beside what it has shown, in Markdown."""
    lines = ["| what | at least | found | reached |", "|---|---|---|---|"]
    for target in TARGETS:
        wanted = ", ".join(bound.wanted() for bound in target.bounds)
        found = ", ".join(bound.found(figures) for bound in target.bounds)
        lines.append(f"| {target.what} | {wanted} | {found} | {_REACHED[target.reached(figures)]} |")
    return "\n".join(lines)


def budget(figures: Mapping[str, float]) -> str:
    """Return where the processor time of a create goes, in Markdown."""
    callers = [n for n in (1, 64) if f"profile.{n}.total_us" in figures]
    lines = [f"| µs of processor time, a create | {' | '.join(f'{n} callers' for n in callers)} |"]
    lines.append("|---|" + "---|" * len(callers))
    for part in (*_BUDGET, "total"):
        cells = [number(figures.get(f"profile.{n}.{part}_us", 0.0)) for n in callers]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines)


def everything(figures: Mapping[str, float]) -> str:
    """Return all figures, in Markdown."""
    return "\n".join(["| figure | |", "|---|---|", *(f"| `{n}` | {number(v)} |" for n, v in sorted(figures.items()))])


def plot(figures: Mapping[str, float]) -> str:
    """Return the plot of a run."""

    def by(form: str, sizes: Sequence[int]) -> list[float | None]:
        return [figures.get(form.format(size)) for size in sizes]

    callers, writers, events, vms = (1, 16, 64), (1, 16, 64), (10_000, 100_000, 1_000_000), (1_000, 10_000, 100_000)
    dbos = figures.get("creates.dbos_per_s")
    return svg(
        [
            Panel(
                "Whole creates per second over gRPC",
                [f"{n} callers" for n in callers],
                {
                    "with log": by("creates.{}.per_s", callers),
                    "without a store": by("creates.{}.without_store_per_s", callers),
                    "DBOS, at its best": [dbos for _ in callers],
                },
            ),
            Panel(
                "Appends per second",
                [f"{n} writers" for n in writers],
                {
                    "snapshotd": by("appends.{}.per_s", writers),
                    "stock eventsourcing": by("appends.{}.stock_per_s", writers),
                    "plain SQL": by("appends.{}.plain_per_s", writers),
                },
            ),
            Panel(
                "Restart, seconds until serving",
                [f"{n:,} events" for n in events],
                {"snapshotd": by("restart.{}.serving_s", events)},
            ),
            Panel(
                "Memory of an idle daemon, MB",
                [f"{n:,} VMs" for n in vms],
                {"snapshotd": by("idle.{}.memory_mb", vms)},
            ),
        ]
    )


def filled(document: str, parts: Mapping[str, str]) -> str:
    """Return a document with what stands between its marks made anew."""
    for name, text in parts.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        document, count = marks.subn(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", document)  # type: ignore[misc]
        assert count == 1, name
    return document


def main() -> None:
    """Write the document and the plot."""
    figures, run = json.loads(FIGURES.read_text()), json.loads(RUN.read_text())
    about_run = f"{run['date']}, commit {run['commit']}. {run['machine']}. {run['versions']}."
    parts = {"run": about_run, "table": table(figures), "budget": budget(figures), "figures": everything(figures)}
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), parts), encoding="utf-8")
    PLOT.write_text(plot(figures), encoding="utf-8")
    sys.stdout.write(f"written: {DOCUMENT}, {PLOT}\n")


if __name__ == "__main__":
    main()
