"""The two engines, each over a host of its own, and what they answer and leave there, so that it compares."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.simulator.model import SimulatedHyperV
from snapshotd.simulator.needs import Engine
from tests.host_script.conversation import Conversation
from tests.host_script.engines import engine_on
from tests.host_script.host_commands import effect
from tests.unit.simulator_model.hosts import host_at

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DEFAULT_NAME: Final = re.compile(r"\(\d\d/\d\d/\d{4} - \d\d:\d\d:\d\d [AP]M\)")
"""The time in the name of a checkpoint that nobody has named."""
_OF_ITS_OWN: Final = {"host_time", "host", "created_at", "begun_at", "percent"}


class Named:
    """Gives what differs from run to run (ids, directories) the same names in the order that they come in."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._names: dict[str, str] = {}

    def plain(self, value: Any) -> Any:  # noqa: ANN401  (JSON values)
        """Return a JSON value with such names."""
        match value:
            case dict():
                return {self.plain(k): self.plain(v) for k, v in value.items() if k not in _OF_ITS_OWN}
            case list():
                return [self.plain(v) for v in value]
            case str():
                text = _DEFAULT_NAME.sub("(then)", value.replace(self._directory, "DIR"))
                return _GUID.sub(lambda found: self._name(found[0].lower()), text)
            case _:
                return value

    def _name(self, found: str) -> str:
        return self._names.setdefault(found, f"id-{len(self._names)}")


class Run:
    """A conversation with one engine, and its answers so far.

    Args:
        host: the model.
        engine: the engine on it.
        vm: the VM's id.
        named: for what differs.
    """

    def __init__(self, host: SimulatedHyperV, engine: Engine, vm: str, named: Named) -> None:
        self.host = host
        self.vm = vm
        self.named = named
        self._engine = engine
        self._token = 0
        self._answers: list[Any] = []
        self.script = Conversation(engine)

    @property
    def answers(self) -> list[Any]:
        """The answers so far, as they compare."""
        return self._answers

    def start_again(self) -> None:
        """Have a new process carry out what comes, after the former one was killed."""
        self.script.process.kill()
        self.script = Conversation(self._engine)

    def ask(self, command: HostCommand) -> HostAnswer:
        """Ask, and keep the answer as it compares."""
        self.script.send(command)
        return self.take_answer()

    def take_answer(self) -> HostAnswer:
        """Wait for the answer to what was sent, and keep it as it compares."""
        answer = self.script.answer()
        self._answers.append(self.named.plain(json_format.MessageToDict(answer, preserving_proto_field_name=True)))
        return answer

    def act(self, action: str, journal: str, **fields: Any) -> HostAnswer:  # noqa: ANN401
        """Ask for an effect on what is there now."""
        return self.ask(self.effect(action, journal, **fields))

    def effect(self, action: str, journal: str, **fields: Any) -> HostCommand:  # noqa: ANN401
        """Write the next effect, with these fields of its action."""
        self._token += 1
        command = effect(action, self.host, journal, 100 + self._token, step=self._token, vm=self.vm)
        json_format.ParseDict(fields, getattr(command, action))
        return command

    def next_token(self) -> int:
        """Return a token above all that were sent."""
        self._token += 1
        return 100 + self._token


@contextmanager
def running(name: str, directory: Path, vm: str, **inventory: Any) -> Iterator[Run]:  # noqa: ANN401  (JSON values)
    """Run an engine over a host in a directory, whose VM has an odd name and two disks.

    Args:
        name: the engine.
        directory: as long a path for either engine, since it stands in the disk files.
        vm: the VM's id.
        inventory: what else of the VM.
    """
    directory.mkdir()
    disks = [{"location": "SCSI:0:0"}, {"location": "SCSI:0:1"}]
    described = {"id": vm, "name": "it's $(web) `01` “ü”", "state": "Running", "disks": disks, **inventory}
    with ExitStack() as stack:
        host = stack.enter_context(host_at(directory, {"host": {"name": "hv01"}, "vms": [described]}))
        engines = engine_on(name, host, directory / "engine")
        run = Run(host, next(engines), vm, Named(directory))
        stack.callback(lambda: run.script.process.kill())  # noqa: PLW0108  (it may be another one by then)
        yield run
        next(engines, None)


def effects(directory: Path, named: Named) -> list[Any]:
    """Return the effects of scripts on record as they compare."""
    lines = [json.loads(line) for line in (directory / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = ("effect", "operation", "step", "by", "power", "disks")
    # Merges go on beside the commands, so where they stand is chance.
    return [named.plain({k: line[k] for k in kept}) for line in lines if line["by"] == "script"]


def assert_same(one: Any, other: Any, told: object = "") -> None:  # noqa: ANN401  (JSON values)
    """Fail with the lines that differ, if two values do."""
    told_by_one, told_by_other = (json.dumps(v, indent=1, sort_keys=True).splitlines() for v in (one, other))
    differences = [line for line in difflib.ndiff(told_by_one, told_by_other) if line[0] != " "]
    assert not differences, f"{told}: {differences}"
