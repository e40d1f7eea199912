"""Draws the lifecycles' tables as Mermaid into docs/lifecycles.md, and reports a stale drawing.

python -m tools.diagrams write | verify
"""

import sys
from pathlib import Path

from snapshotd.domain.lifecycle import LIFECYCLES, NEEDS_POWER
from tools import drawn

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "lifecycles.md"


def draw() -> str:
    """Return the document: one state diagram for each lifecycle, then the power that activities need."""
    lines = [
        "# Lifecycles",
        "",
        "Drawn by `make diagrams` from `snapshotd/domain/lifecycle.py`. An arrow that is not here cannot happen.",
    ]
    for lifecycle in LIFECYCLES:
        lines += ["", f"## {lifecycle.name[0].upper()}{lifecycle.name[1:]}", "", "```mermaid", "stateDiagram-v2"]
        for trigger, source, dest in lifecycle.pairs():
            start = "[*]" if source.name == "NEW" else source.name
            lines.append(f"    {start} --> {dest.name}: {trigger.replace('_', ' ')}")
        lines.append("```")
    lines += ["", "## Power that an activity needs to begin", "", "| activity | power |", "|---|---|"]
    for trigger, powers in NEEDS_POWER.items():
        names = ", ".join(sorted(p.name for p in powers))
        lines.append(f"| {trigger.replace('_', ' ')} | {names} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(drawn.run(sys.argv[1:], DOCUMENT, draw, __doc__))
