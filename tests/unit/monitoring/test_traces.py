"""The ids of spans: read from a caller's context, or made of an operation's name, the same each time."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence

import pytest

from snapshotd import executor_from_settings
from snapshotd.domain.ids import OperationName
from snapshotd.monitoring.traces import SpanRef, read_traceparent, span_of, trace_of
from snapshotd.settings import SettingsInvalid, load

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ONE = OperationName("operations/11111111-1111-4111-8111-111111111111.1-a")


def test_a_context_is_read_and_handed_on_as_it_is_written() -> None:
    read = read_traceparent(CALLER)
    assert read == SpanRef(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)
    assert read is not None
    assert read.traceparent == CALLER
    assert read_traceparent(CALLER[:-1] + "0") == SpanRef(read.trace_id, read.span_id, sampled=False)
    assert read_traceparent(CALLER.replace("00-", "cc-", 1) + "-more") == read  # a later version


@pytest.mark.parametrize(
    "text", ["", "x", CALLER.upper(), CALLER[3:], "ff" + CALLER[2:], f"00-{'0' * 32}-{'1' * 16}-01", CALLER + "0"]
)
def test_what_is_no_context_counts_as_none(text: str) -> None:
    assert read_traceparent(text) is None


def test_the_ids_of_an_operation_are_those_of_its_name_for_ever() -> None:
    assert SpanRef(trace_of(ONE), span_of(ONE, "operation")).traceparent == (
        "00-9f720ae39c9ca3f795307e5edaab8df7-31bdb41a814c1dd9-01"
    )
    ids = [span_of(ONE, what) for what in ("call", "operation", "step 1", "step 2")]
    assert len(set(ids)) == 4


def test_without_the_extra_the_setting_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(
        name: str,
        globals_: Mapping[str, object] | None = None,
        locals_: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> object:
        if name.startswith(("opentelemetry", "snapshotd.monitoring.otlp")):
            raise ModuleNotFoundError("No module named 'opentelemetry'", name="opentelemetry")
        return real(name, globals_, locals_, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", missing)
    settings = load(None, {}, {"traces.endpoint": "http://127.0.0.1:4317"})
    with pytest.raises(
        SettingsInvalid, match=r"opentelemetry is not installed\. Run `pip install 'snapshotd\[traces\]'`"
    ):
        executor_from_settings.open_traces(settings, "snapshotd")


@pytest.mark.parametrize("text", ["127.0.0.1:4317", "ftp://a:1", "http://a", "http://a:0", "http://a:99999"])
def test_what_is_no_collector_is_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"must be http://host:port"):
        load(None, {}, {"traces.endpoint": text})
