"""A simulated host for tests: a process of its own, or threads in this one; and a client of its control port.

Each is a context manager. The process can be killed and started again, and then listens where it did before.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from snapshotd.simulator.needs import ControlledHost, Engine
from snapshotd.simulator.running import RunningHost

USERNAME, PASSWORD = "svc-snapshotd", "Str0ng-enough!"
PROGRAM = (sys.executable, "-m", "snapshotd", "simulate-host")
READY_S = 30.0
"""How long a host may take until it says that it is ready."""


class ControlRefused(Exception):
    """The control port found an action senseless; the text says why."""


class SimulatedHostClient:
    """What a test does to a host, and what it knows of it.

    Args:
        control: "host:port" of the control port.
        listening: "host:port" of WS-Management.
        truth: the truth file.
    """

    username, password = USERNAME, PASSWORD

    def __init__(self, control: str, listening: str, truth: Path) -> None:
        self.control_address = control
        self.listening = listening
        self._truth = truth

    @property
    def port(self) -> int:
        """Where WS-Management is served, on 127.0.0.1."""
        return int(self.listening.rpartition(":")[2])

    def control(self, action: str, **arguments: object) -> dict[str, object]:
        """Ask the control port for an action. Raises ControlRefused."""
        request = urllib.request.Request(
            f"http://{self.control_address}/{action}", json.dumps(arguments).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=READY_S) as answer:  # noqa: S310  (our own, on loopback)
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ControlRefused(json.load(error)["error"]) from error
        assert isinstance(document, dict)
        return document

    def truth(self) -> list[dict[str, object]]:
        """Read every effect there was, in order."""
        if not self._truth.exists():
            return []
        # The last line may be half written at this moment.
        whole = self._truth.read_text(encoding="utf-8").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def decisive(self) -> list[dict[str, object]]:
        """Read the decisive effects only."""
        return [line for line in self.truth() if line["decisive"]]


class SimulatedHostThreads(SimulatedHostClient):
    """A simulated host in this process, over a model and an engine that were made already.

    Args:
        host: the model.
        engine: runs scripts on it.
        truth: the model's truth file.
        rtt_s: seconds that every request takes on its way.
    """

    def __init__(self, host: ControlledHost, engine: Engine, truth: Path, rtt_s: float = 0.0) -> None:
        self.running = RunningHost(host, engine, f"{USERNAME}:{PASSWORD}", rtt_s=rtt_s)
        super().__init__(self.running.control, self.running.listening, truth)

    def __enter__(self) -> Self:
        self.running.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.running.close()


class SimulatedHostProcess(SimulatedHostClient):
    """`snapshotd simulate-host` in a process of its own.

    Args:
        directory: an empty or former directory for its state, truth and log.
        inventory: as the inventory file; written when there is none yet.
        options: further options of the command line.
        program: what is started.
    """

    def __init__(
        self,
        directory: Path,
        inventory: Mapping[str, object],
        options: Sequence[str] = (),
        program: Sequence[str] = PROGRAM,
    ) -> None:
        super().__init__("127.0.0.1:0", "127.0.0.1:0", directory / "truth.jsonl")
        self._directory = directory
        self._options = tuple(options)
        self._program = tuple(program)
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "credential").write_text(f"{USERNAME}:{PASSWORD}\n", encoding="utf-8")
        if not (directory / "inventory.json").exists():
            (directory / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")

    def start(self) -> None:
        """Start the process and wait until it is ready; where it listened before, if it did."""
        assert self._process is None, "it runs already"
        with (self._directory / "stderr.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=subprocess.PIPE, stderr=log)
        ready = json.loads(_first_line(self._process, self._directory / "stderr.log"))
        self.listening, self.control_address = ready["listening"], ready["control"]

    def _command(self) -> list[str]:
        at = self._directory
        return [
            *self._program,
            *("--listen", self.listening, "--control", self.control_address),
            *("--state", str(at / "state"), "--inventory", str(at / "inventory.json")),
            *("--truth", str(at / "truth.jsonl"), "--credential", str(at / "credential")),
            *self._options,
        ]

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def stop(self) -> int:
        """End it by SIGTERM and return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again on its state and its ports."""
        self.kill()
        self.start()

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None, "it does not run"
        assert process.stdout is not None
        process.send_signal(number)
        try:
            return process.wait(READY_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self.stop()


def _first_line(process: subprocess.Popen[bytes], log: Path) -> bytes:
    """Wait for the line that says where it listens. Raises RuntimeError with its stderr when none comes."""
    lines: list[bytes] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda stream=process.stdout: lines.append(stream.readline()))
    reader.start()
    reader.join(READY_S)
    if not lines or not lines[0]:
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        raise RuntimeError(f"simulate-host did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
    return lines[0]
