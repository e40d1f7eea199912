"""What the daemon and the executor count, each in a registry of its own. Labels are names of our own, never a VM's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from snapshotd.domain.events import DriftDetected
from snapshotd.monitoring.lives import News, OperationEnded, StepEnded

_LONG_S: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Bounds for what hosts do."""
_SHORT_S: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
"""Bounds for calls."""
_REASONS: Final = 30
"""How many reasons of refusals are told apart."""
OTHER: Final = "OTHER"
"""Stands for a label's values beyond those that are told apart."""


class Callers:
    """Counts the calls that were refused because of who made them.

    Args:
        registry: what it is shown in.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._refused = Counter(
            "snapshotd_callers_refused",
            "Calls and executors that were refused because of who they are: not signed in, or not allowed; by reason.",
            ["reason"],
            registry=registry,
        )
        self._known: set[str] = set()

    def refused(self, reason: str) -> None:
        """Count a refusal; `reason` is one of a few fixed words, never what the caller sent."""
        counted_as = reason if reason in self._known or len(self._known) < _REASONS else OTHER
        self._known.add(counted_as)
        self._refused.labels(counted_as).inc()


class Meters:
    """What the daemon counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.callers = Callers(self.registry)
        self._operations = Counter(
            "snapshotd_operations_ended",
            "Operations that have ended, by kind and outcome.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self._operation_s = Histogram(
            "snapshotd_operation_duration",
            "Time from the request of an operation to its end, by kind.",
            ["kind"],
            unit="seconds",
            buckets=_LONG_S,
            registry=self.registry,
        )
        self._steps = Counter(
            "snapshotd_steps_ended",
            "Steps of operations that have ended, by action and outcome.",
            ["action", "outcome"],
            registry=self.registry,
        )
        self._step_s = Histogram(
            "snapshotd_step_duration",
            "Time from the first command of a step to its end, by action; steps that never began are left out.",
            ["action"],
            unit="seconds",
            buckets=_LONG_S,
            registry=self.registry,
        )
        self._drifts = Counter(
            "snapshotd_drifts_found",
            "Differences between a host and the record that were found, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self._calls = Counter(
            "snapshotd_calls",
            "gRPC calls that have ended, by method and code; method is 'other' for those that do not exist.",
            ["method", "code"],
            registry=self.registry,
        )
        self._call_s = Histogram(
            "snapshotd_call_duration",
            "Time from the begin of a gRPC call to its end, by method.",
            ["method"],
            unit="seconds",
            buckets=_SHORT_S,
            registry=self.registry,
        )

    def take(self, news: News) -> None:
        """Count what has ended, or was found."""
        match news:
            case OperationEnded(life=life, outcome=outcome):
                self._operations.labels(life.kind, outcome.name).inc()
                self._operation_s.labels(life.kind).observe(news.took_s)
            case StepEnded(action=action, outcome=ended_as):
                self._steps.labels(action, ended_as.name).inc()
                if (took_s := news.took_s) is not None:
                    self._step_s.labels(action).observe(took_s)
            case DriftDetected(kind=kind):
                self._drifts.labels(kind.name).inc()

    def call_ended(self, method: str, code: str, took_s: float) -> None:
        """Count a call.

        Args:
            method: `/package.Service/Method`, if it exists; else "other".
            code: the name of its status code.
            took_s: how long it took.
        """
        self._calls.labels(method, code).inc()
        self._call_s.labels(method).observe(took_s)


class ExecutorMeters:
    """What an executor counts.

    Args:
        registry: what it is shown in; None: in one of its own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=False)
        self._commands = Counter(
            "snapshotd_executor_commands",
            "Commands to hosts that have ended, by host, kind and outcome.",
            ["host", "kind", "outcome"],
            registry=self.registry,
        )
        self._command_s = Histogram(
            "snapshotd_executor_command_duration",
            "Time that a command took, with waiting for a session of its host, by host.",
            ["host"],
            unit="seconds",
            buckets=_LONG_S,
            registry=self.registry,
        )

        self._attached = Gauge(
            "snapshotd_executor_attached", "1: this executor is attached to its server.", registry=self.registry
        )
        self._sessions = Gauge(
            "snapshotd_executor_sessions", "WinRM sessions that are open, used or not.", registry=self.registry
        )

    def read_sessions(self, count: Callable[[], int]) -> None:
        """Show how many sessions there are, by a function that any thread may call."""
        self._sessions.set_function(count)

    def attached(self, *, is_attached: bool) -> None:
        """Show whether the executor is attached."""
        self._attached.set(is_attached)

    def command_ended(self, host: str, kind: str, outcome: str, took_s: float) -> None:
        """Count a command."""
        self._commands.labels(host, kind, outcome).inc()
        self._command_s.labels(host).observe(took_s)
