"""What a run must show: each promise, the figures that it is read from, and their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure, and what it must reach: at least `limit`, or at most."""

    figure: str
    limit: float
    at_most: bool = False
    unit: str = ""

    def reached(self, figures: Mapping[str, float]) -> bool | None:
        """Return whether it is reached; None: it was not measured."""
        value = figures.get(self.figure)
        if value is None:
            return None
        return value <= self.limit if self.at_most else value >= self.limit

    def wanted(self) -> str:
        """Return the limit, for people."""
        return f"{'≤' if self.at_most else '≥'} {number(self.limit)}{self.unit}"

    def found(self, figures: Mapping[str, float]) -> str:
        """Return the figure, for people."""
        value = figures.get(self.figure)
        return "not measured" if value is None else f"{number(value)}{self.unit}"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise."""

    what: str
    bounds: tuple[Bound, ...]

    def reached(self, figures: Mapping[str, float]) -> bool | None:
        """Return whether all its bounds are reached; None: some were not measured, and none is missed."""
        found = [bound.reached(figures) for bound in self.bounds]
        if False in found:
            return False
        return None if None in found else True


def number(value: float) -> str:
    """Return a number with as many digits as tell something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if value >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")


def _at_most(figure: str, limit: float, unit: str = "") -> Bound:
    return Bound(figure, limit, at_most=True, unit=unit)


_READS: Final = ("list", "audit", "tree")
TARGETS: Final = (
    Target(
        "creates over gRPC, 64 callers, with log ÷ without a store", (Bound("creates.64.ratio_without_store", 0.9),)
    ),
    Target("creates, 64 callers ÷ DBOS, three steps, at its best concurrency", (Bound("creates.64.ratio_dbos", 10),)),
    Target("creates with one caller: latency on an instant host, p50", (_at_most("creates.1.p50_ms", 10, " ms"),)),
    Target(
        "appends ÷ stock eventsourcing (SQLite), 1, 16, 64 writers",
        (
            Bound("appends.1.ratio_stock", 1.0),
            Bound("appends.16.ratio_stock", 4),
            Bound("appends.64.ratio_stock", 5),
        ),
    ),
    Target("views rebuilt ÷ stock projection, events/s", (Bound("views.ratio_stock", 20),)),
    Target(
        "restart to serving, 1,000,000 events ÷ 100,000 (same number of active VMs); at 1,000,000",
        (_at_most("restart.1000000.ratio_to_100000", 1.2), _at_most("restart.1000000.serving_s", 3, " s")),
    ),
    Target(
        "command on a VM with 60,000 events ÷ with 100: latency, processor time",
        (_at_most("state.command_latency_ratio", 1.2), _at_most("state.command_cpu_ratio", 1.2)),
    ),
    Target(
        "the 2,000th create/delete cycle on a VM ÷ the 10th: latency, processor time",
        (_at_most("state.cycle_latency_ratio", 1.2), _at_most("state.cycle_cpu_ratio", 1.2)),
    ),
    Target(
        "idle processor time, 100,000 VMs: nothing attached; 100 hosts compared every 5 minutes, no difference",
        (_at_most("idle.100000.cpu_percent", 1, " %"), _at_most("idle.100000.attached_cpu_percent", 10, " %")),
    ),
    Target(
        "resident memory, 100,000 VMs with 5 snapshots each, cache warm",
        (_at_most("idle.100000.warm_memory_mb", 600, " MB"),),
    ),
    Target(
        "page of 100 VMs, audit query by actor and time, tree: p99, 100,000 VMs and 1,000,000 events",
        tuple(_at_most(f"reads.1000000.{read}_p99_ms", 20, " ms") for read in _READS),
    ),
    Target(
        "the same ÷ at 10,000 VMs and 100,000 events",
        tuple(_at_most(f"reads.1000000.{read}_p99_ratio", 1.5) for read in _READS),
    ),
    Target(
        "10,000 operations in flight on 100 hosts, daemon killed: all going again",
        (_at_most("inflight.going_s", 30, " s"),),
    ),
)
