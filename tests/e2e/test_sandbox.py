"""The sandbox: what it says can be typed, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_every_command_that_the_sandbox_names_works_and_nothing_is_left_behind(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", "demo.sandbox"], stdout=subprocess.PIPE, env=environ, text=True, start_new_session=True
    ) as sandbox:
        assert sandbox.stdout is not None
        said: list[str] = []
        while not said or not said[-1].startswith("Ctrl-C"):
            said.append(sandbox.stdout.readline())
            assert said[-1], said
        typed = [line.strip() for line in said if line.startswith("    ")]
        for line in typed:
            if exported := re.fullmatch(r"export (\w+)=(\S+)", line):
                environ[exported[1]] = exported[2]
        commands = [shlex.split(line)[1:] for line in typed if line.startswith("snapshotctl ")]
        assert len(commands) > 5
        for command in commands:
            run = [sys.executable, "-m", "snapshotd.client", *command]
            done = subprocess.run(run, env=environ, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (command, done.stderr)
        os.killpg(sandbox.pid, signal.SIGINT)  # as a terminal does
        assert sandbox.wait(60) == 0
    assert list(tmp_path.iterdir()) == []
