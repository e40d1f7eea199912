"""Bars as SVG, written by hand: groups side by side on a logarithmic scale, each bar with its number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from benchmarks.targets import number

_WIDTH: Final = 860
_PANEL: Final = 190
_LEFT: Final = 10
_TOP: Final = 34
_BARS: Final = 112
"""The height of the tallest bar."""
_FONT: Final = 'font-family="sans-serif" font-size="11"'
_COLOURS: Final = ("#2563eb", "#94a3b8", "#f59e0b", "#10b981")


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram: series by group; what was not measured is left out."""

    title: str
    groups: Sequence[str]
    series: Mapping[str, Sequence[float | None]]


def svg(panels: Sequence[Panel]) -> str:
    """Return diagrams below one another."""
    height = _PANEL * len(panels)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for at, panel in enumerate(panels):
        lines += _drawn(panel, at * _PANEL)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _drawn(panel: Panel, top: int) -> list[str]:
    values = [value for series in panel.series.values() for value in series if value]
    lines = [f'<text x="{_LEFT}" y="{top + 18}" font-size="13" font-weight="bold">{escape(panel.title)}</text>']
    if not values:
        return [*lines, f'<text x="{_LEFT}" y="{top + 60}">not measured</text>']
    low = math.floor(math.log10(min(values)) - 0.2)
    reach = math.log10(max(values)) - low
    step = (_WIDTH - 2 * _LEFT) / len(panel.groups)
    width = min(60.0, step * 0.8 / len(panel.series))
    bottom = top + _TOP + _BARS
    for number_, (name, series) in enumerate(panel.series.items()):
        colour = _COLOURS[number_ % len(_COLOURS)]
        x = _WIDTH - _LEFT - 150 * (len(panel.series) - number_)
        lines.append(f'<rect x="{x}" y="{top + 9}" width="10" height="10" fill="{colour}"/>')
        lines.append(f'<text x="{x + 14}" y="{top + 18}">{escape(name)}</text>')
        for group, value in enumerate(series):
            if value:
                tall = _BARS * (math.log10(value) - low) / reach
                x_bar = _LEFT + step * group + width * number_
                lines.append(
                    f'<rect x="{x_bar:.0f}" y="{bottom - tall:.0f}" width="{width - 4:.0f}" height="{tall:.0f}" '
                    f'fill="{colour}"/>'
                )
                lines.append(f'<text x="{x_bar:.0f}" y="{bottom - tall - 3:.0f}" font-size="10">{number(value)}</text>')
    lines += [
        f'<text x="{_LEFT + step * at:.0f}" y="{bottom + 15}">{escape(group)}</text>'
        for at, group in enumerate(panel.groups)
    ]
    return lines
