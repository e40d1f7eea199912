"""A host without Hyper-V in it, for tests of the wire: it records what the control port asks of it.

As a program it is `simulate-host` over that host and the echo engine.
"""

from __future__ import annotations

import argparse
import errno
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field

from snapshotd.simulator.main import run
from snapshotd.simulator.running import MODEL_ACTIONS
from snapshotd.simulator.settings import add_arguments, from_arguments
from tests.unit.simulator_wire.echo_engine import EchoEngine


@dataclass
class RecordedHost:
    """Stands where the model stands; it has no Hyper-V in it, only the record of what it was asked."""

    name: str = "HV01"
    asked: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        if name not in MODEL_ACTIONS:
            raise AttributeError(name)

        def action(**arguments: object) -> dict[str, object]:
            self.asked.append((name, arguments))
            if arguments.get("vm") == "nobody":
                raise LookupError("no VM nobody")
            if arguments.get("vm") == "full":
                raise OSError(errno.ENOSPC, "No space left on device")
            return {"asked": name}

        return action

    def restart_host(self) -> None:
        self.asked.append(("restart_host", {}))


def main() -> int:
    """Run it as a program."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(
        from_arguments(parser.parse_args(sys.argv[2:])), lambda _: nullcontext(RecordedHost()), lambda _: EchoEngine()
    )


if __name__ == "__main__":
    sys.exit(main())
