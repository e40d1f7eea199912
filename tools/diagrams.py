"""Draws the lifecycles' tables as Mermaid into docs/lifecycles.md, and reports a stale drawing.

python -m tools.diagrams write | verify
"""

import sys
from pathlib import Path

from snapshotd.domain.lifecycle import LIFECYCLES, NEEDS_POWER

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


def main() -> int:
    """Write the document, or compare it with what would be written. Returns 1 if it is stale."""
    match sys.argv[1:]:
        case ["write"]:
            DOCUMENT.write_text(draw(), encoding="utf-8")
            return 0
        case ["verify"]:
            if DOCUMENT.exists() and DOCUMENT.read_text(encoding="utf-8") == draw():
                return 0
            print(f"{DOCUMENT} does not match the tables. Run 'make diagrams' and commit it.", file=sys.stderr)
            return 1
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
