"""Samples of a stack divided among the parts of snapshotd."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from benchmarks import profiling
from benchmarks.profiling import NAMES, PARTS, THREADS, part_of, role_of, sampled, shares_of_main
from benchmarks.programs import NotReady, Process

ROOT = Path(__file__).resolve().parents[3]
LOOP = "BaseEventLoop._run_once (asyncio/base_events.py:1922)"
HANDLE = "Handle._run (asyncio/events.py:80)"
SERVICE = "SnapshotService.CreateSnapshot (snapshotd/server/snapshot_service.py:7)"
DECISION = "decide (snapshotd/application/decide.py:71)"
ENCODING = "encode (snapshotd/store/codec.py:30)"
COMMIT = "SqliteEventLog.append (snapshotd/store/sqlite_log.py:120)"
STANDARD = "dumps (json/__init__.py:231)"


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        ([LOOP, HANDLE, SERVICE, DECISION], "decision"),
        ([LOOP, HANDLE, SERVICE, DECISION, STANDARD], "decision"),
        ([LOOP, HANDLE, SERVICE], "translation"),
        ([LOOP, HANDLE, SERVICE, COMMIT, ENCODING, STANDARD, "f.<locals>.<genexpr> (json/encoder.py:3)"], "encoding"),
        ([LOOP, HANDLE, COMMIT], "commit"),
        ([LOOP, HANDLE, "Runner.run (projections/runner.py:128)"], "views"),
        ([LOOP, HANDLE], "wire"),
        ([LOOP, HANDLE, "stream_unary_rpc_method_handler (grpc/__init__.py:1)"], "wire"),
        ([LOOP, HANDLE, "create_task (asyncio/tasks.py:1)"], "other"),
        ([LOOP], "other"),
        (["_run_module_as_main (<frozen runpy>:198)"], "other"),
        ([], "other"),
    ],
)
def test_a_stack_counts_to_the_innermost_part(frames: list[str], part: str) -> None:
    assert part_of(frames) == part


def test_the_shares_are_those_of_the_main_thread() -> None:
    samples = [
        f"thread (1): MainThread;{LOOP};{HANDLE};{DECISION} 3",
        f"thread (1): MainThread;{LOOP};{HANDLE} 1",
        f"thread (2): event-log-writer;{COMMIT} 90",
    ]
    assert shares_of_main(samples) == {"decision": 0.75, "wire": 0.25}
    with pytest.raises(NotReady, match="nothing of the daemon's main thread"):
        shares_of_main(samples[2:])


def test_each_part_has_a_name_and_each_of_our_paths_is_there() -> None:
    assert {part for _, part in PARTS} | set(THREADS.values()) | {"other"} == set(NAMES)
    own = [beginning for beginning, _ in PARTS if not beginning.startswith("grpc/")]
    assert [b for b in own if not [*ROOT.glob(f"{b}*")]] == []


def test_a_sampler_that_sees_nothing_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "py-spy").write_text("#!/bin/sh\necho Error: Permission denied\n", encoding="utf-8")
    (tmp_path / "py-spy").chmod(0o700)
    monkeypatch.setattr(profiling, "programs_of", lambda _: tmp_path)
    process = Process(["-c", "import time; time.sleep(60)"], tmp_path / "log", speaks=False)
    with (
        process,
        pytest.raises(NotReady, match="cannot sample the daemon: Error: Permission denied"),
        sampled(process, tmp_path / "raw"),
    ):
        pytest.fail("it goes on")


def test_a_sampler_is_ended_by_an_interrupt_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"#!{sys.executable}\nimport signal, sys\nprint('Sampling process', flush=True)\n"
    script += f"assert signal.sigwait([{int(signal.SIGINT)}])\n"
    script += "open(sys.argv[sys.argv.index('--output') + 1], 'w').write('whole')\n"
    script = script.replace("print(", "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nprint(", 1)
    (tmp_path / "py-spy").write_text(script, encoding="utf-8")
    (tmp_path / "py-spy").chmod(0o700)
    monkeypatch.setattr(profiling, "programs_of", lambda _: tmp_path)
    process = Process(["-c", "import time; time.sleep(60)"], tmp_path / "log", speaks=False)
    with process, sampled(process, tmp_path / "raw"):
        pass
    assert (tmp_path / "raw").read_text(encoding="utf-8") == "whole"


def test_threads_of_a_pool_are_one_kind() -> None:
    assert [role_of(name) for name in ("views_0", "asyncio_12", "event-log-writer", "MainThread")] == [
        *("views", "asyncio", "event-log-writer", "MainThread"),
    ]
