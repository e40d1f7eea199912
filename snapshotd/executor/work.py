"""The hosts that an executor serves, and the commands that run on them, each in its own task.

Every host has its own pool, so a slow host delays no other. This module starts commands and hands over their outcomes.
It never repeats a command, and never judges an answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from snapshotd.api.v1.executor_pb2 import (
    CommandOutcome,
    Dispatch,
    HostAnswer,
    HostCommand,
    HostConnection,
    NoAnswer,
)
from snapshotd.executor.clock import Clock
from snapshotd.executor.outbox import Outbox
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.logs import about
from snapshotd.monitoring.meters import ExecutorMeters
from snapshotd.monitoring.traces import NO_TRACES, Traces

_log = logging.getLogger(__name__)
_LONGEST_WORDS = 300
"""Characters of a host's words in the log."""
_HOSTS = "hosts/"
_LONGEST_MS = (1 << 32) - 1
"""The most milliseconds that a command can carry as time left."""


class HostPool(Protocol):
    """The way to one host, such as snapshotd.hyperv.pool."""

    async def run(self, command: HostCommand, timeout_s: float) -> HostAnswer | NoAnswer:
        """Run a command and return the answer within about `timeout_s` seconds. A cancelled caller gets nothing."""

    @property
    def sessions(self) -> int:
        """How many sessions are open."""

    async def close(self, timeout_s: float) -> None:
        """Wait `timeout_s` seconds for running commands, cut off the rest, close all sessions. May be repeated."""


OpenPool = Callable[[HostConnection], HostPool]
"""Makes the pool of a host, without connecting."""


class Work:
    """The work of an executor on its hosts.

    Args:
        open_pool: makes the pool of a host.
        outbox: takes the outcomes.
        settings: those of the executor.
        clock: measures durations.
        meters: counts the commands.
        traces: takes their spans.
    """

    def __init__(
        self,
        open_pool: OpenPool,
        outbox: Outbox,
        settings: ExecutorSettings,
        clock: Clock,
        meters: ExecutorMeters,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._open_pool = open_pool
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._meters = meters
        self._traces = traces
        self._hosts: dict[str, tuple[HostConnection, HostPool]] = {}
        self._retiring: dict[asyncio.Task[None], HostPool] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._draining = False

    def reach(self, connection: HostConnection) -> None:
        """Note how to reach a host. Its sessions are kept if nothing has changed."""
        known = self._hosts.get(connection.host)
        if known is not None and known[0] == connection:
            return
        self.release(connection.host)
        self._hosts[connection.host] = (connection, self._open_pool(connection))
        facts = about(host=connection.host.removeprefix(_HOSTS))
        _log.info("%s: this executor serves it, at %s", connection.host, connection.address, extra=facts)

    def release(self, host: str) -> None:
        """Start nothing more on a host. Close its sessions after its running commands have ended."""
        known = self._hosts.pop(host, None)
        if known is None:
            return
        _, pool = known
        closing = asyncio.get_running_loop().create_task(pool.close(self._settings.unlimited_s), name=f"closing {host}")
        self._retiring[closing] = pool
        closing.add_done_callback(self._retired)

    def sessions(self) -> int:
        """Return how many sessions are open on all hosts. Any thread may ask."""
        pools = [*(pool for _, pool in tuple(self._hosts.values())), *tuple(self._retiring.values())]
        return sum(pool.sessions for pool in pools)

    def start(self, dispatch: Dispatch) -> None:
        """Run a command in its own task. One that is already running is not started again."""
        if dispatch.dispatch_id in self._running:
            return
        if self._draining:
            self.refuse(dispatch, NoAnswer.CONNECTION_LOST, "not started: the executor is stopping.")
            return
        known = self._hosts.get(dispatch.host)
        if known is None:
            detail = f"not started: the executor does not know how to reach {dispatch.host}."
            self.refuse(dispatch, NoAnswer.HOST_UNREACHABLE, detail)
            return
        task = asyncio.get_running_loop().create_task(self._run(dispatch, *known), name=f"dispatch {dispatch.host}")
        self._running[dispatch.dispatch_id] = task

    def refuse(self, dispatch: Dispatch, reason: NoAnswer.Reason.ValueType, detail: str) -> None:
        """Report to the server that a dispatch was not started."""
        _log.warning("%s: dispatch %s %s", dispatch.host, dispatch.dispatch_id, detail, extra=_facts(dispatch))
        no_answer = NoAnswer(reason=reason, detail=detail)
        self._outbox.put(CommandOutcome(dispatch_id=dispatch.dispatch_id, no_answer=no_answer))

    def abandon(self, dispatch_id: str) -> None:
        """Drop a dispatch. If it waits for a session, it never starts. If it runs, it ends without an outcome."""
        self._outbox.abandon(dispatch_id)
        if (task := self._running.pop(dispatch_id, None)) is not None:
            task.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Start nothing more, and wait up to `timeout_s` seconds for running commands."""
        self._draining = True
        if self._running:
            _log.info("stopping: %d commands still run", len(self._running))
            await asyncio.wait(self._running.values(), timeout=timeout_s)

    async def close(self, timeout_s: float) -> None:
        """Close every session. Cut off what still runs after `timeout_s` seconds."""
        pools = [*self._retiring.values(), *(pool for _, pool in self._hosts.values())]
        self._hosts.clear()
        for closing in list(self._retiring):
            closing.cancel()
        await asyncio.gather(*(pool.close(timeout_s) for pool in pools))
        if self._running:
            await asyncio.wait(self._running.values())

    async def _run(self, dispatch: Dispatch, connection: HostConnection, pool: HostPool) -> None:
        outcome = CommandOutcome(dispatch_id=dispatch.dispatch_id)
        started, began_ns = self._clock.monotonic(), time.time_ns()
        try:
            result = await self._answer(dispatch, connection, pool)
        except Exception as bug:  # noqa: BLE001  (see below)
            # A defect on one host must neither end the executor nor leave the server waiting.
            text = "%s: dispatch %s failed in the executor"
            _log.exception(text, dispatch.host, dispatch.dispatch_id, extra=_facts(dispatch))
            result = NoAnswer(reason=NoAnswer.CONNECTION_LOST, detail=f"the executor failed: {type(bug).__name__}")
        finally:
            if self._running.get(dispatch.dispatch_id) is asyncio.current_task():
                del self._running[dispatch.dispatch_id]
        action = dispatch.command.WhichOneof("action")
        kind = HostCommand.Kind.Name(dispatch.command.kind)
        took_s = self._clock.monotonic() - started
        if isinstance(result, HostAnswer):
            outcome.answer.CopyFrom(result)
            word = verdict = HostAnswer.Verdict.Name(result.verdict)
            if result.HasField("error"):
                word += f" ({result.error.id}: {result.error.message[:_LONGEST_WORDS]!a})"
        else:
            outcome.no_answer.CopyFrom(result)
            word = verdict = NoAnswer.Reason.Name(result.reason)
        self._meters.command_ended(dispatch.host.removeprefix(_HOSTS), kind, verdict, took_s)
        what = f"{kind} {action}" if action else kind
        subject, took_ms = dispatch.command.vm_id or "all VMs", took_s * 1000
        _log.info(
            "%s: %s of %s: %s in %.0f ms", dispatch.host, what, subject, word, took_ms, extra=_facts(dispatch, verdict)
        )
        if self._traces.enabled:
            facts = _facts(dispatch)["facts"]
            attributes = {f"snapshotd.{name}": value for name, value in facts.items()} | {"snapshotd.outcome": verdict}
            failed = verdict if outcome.HasField("no_answer") else ""
            self._traces.command_ended(dispatch.traceparent, what, attributes, began_ns, failed)
        self._outbox.put(outcome)

    async def _answer(self, dispatch: Dispatch, connection: HostConnection, pool: HostPool) -> HostAnswer | NoAnswer:
        timeout_s = self._settings.unlimited_s
        if dispatch.HasField("time_limit"):
            timeout_s = dispatch.time_limit.ToTimedelta().total_seconds()
        if timeout_s <= 0:
            return NoAnswer(reason=NoAnswer.DEADLINE_EXCEEDED, detail="not started: it came after its deadline.")
        command = HostCommand()
        command.CopyFrom(dispatch.command)
        command.journal_directory = command.journal_directory or connection.journal_directory
        command.time_left_ms = min(int(timeout_s * 1000), _LONGEST_MS)
        result = await pool.run(command, timeout_s)
        if isinstance(result, HostAnswer) and (size := result.ByteSize()) > self._settings.largest_outcome_bytes:
            detail = f"the answer has {size} bytes; the server takes {self._settings.largest_outcome_bytes}."
            return NoAnswer(reason=NoAnswer.MALFORMED_ANSWER, detail=detail)
        return result

    def _retired(self, closing: asyncio.Task[None]) -> None:
        self._retiring.pop(closing, None)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            _log.error("sessions of a released host could not be closed", exc_info=error)


def _facts(dispatch: Dispatch, reason: str = "") -> dict[str, dict[str, str]]:
    """Return what a line about a dispatch names."""
    command = dispatch.command
    host, kind = dispatch.host.removeprefix(_HOSTS), HostCommand.Kind.Name(command.kind)
    return about(operation=command.operation, vm=command.vm_id, host=host, kind=kind, reason=reason)
