"""What a run says of itself, at once, and the figures that it finds."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import TypeAlias

Figures: TypeAlias = dict[str, float]
"""By name: `part.size.what`."""


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value that a share of all, from 0 to 1, do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
