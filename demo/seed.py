"""The test list of the page that specified this feature, typed with snapshotctl: `make seed`.

The page is "VM Snapshots in Hyper-V" (CLOUDSTACK-10066). It says what has to be tested: snapshots with and without
memory of VMs that run or are stopped, reverts, trees, and what else happens to a VM that has snapshots. Each line of it
is a chapter here, on VMs of its own. After each command the record is compared with the host's own truth. Any
difference ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from demo import seed_changes, seed_exports, seed_snapshots
from demo.checks import Checks, say
from demo.programs import CREDENTIAL, NotStarted
from demo.seed_stage import Stage

_RUNNING: Final = "Running"
CHAPTERS: Final[tuple[tuple[Callable[[Stage], None], tuple[tuple[str, str], ...]], ...]] = (
    (seed_snapshots.create, (("create-running", _RUNNING), ("create-stopped", "Off"))),
    (seed_snapshots.revert, (("revert-running", _RUNNING), ("revert-stopped", _RUNNING))),
    (
        seed_snapshots.trees,
        (("tree-memory", _RUNNING), ("tree-mixed", _RUNNING), ("tree-disks", _RUNNING), ("tree-stopped", "Off")),
    ),
    (seed_changes.volumes, (("volumes", _RUNNING), ("volumes-other", _RUNNING))),
    (seed_changes.offering, (("offering", _RUNNING),)),
    (seed_changes.volume_snapshots, (("copied", _RUNNING), ("reader", _RUNNING))),
    (seed_snapshots.revert_and_back, (("revert-back", _RUNNING),)),
    (seed_snapshots.power, (("power", _RUNNING),)),
    (seed_snapshots.deletes, (("deletes", _RUNNING),)),
    (seed_snapshots.decisions, (("decisions", _RUNNING),)),
    (seed_snapshots.restart_of_the_service, (("sync", _RUNNING),)),
    (seed_changes.destroy, (("destroyed", _RUNNING), ("destroyed-too", "Off"))),
    (seed_exports.stop_does_not_get_slower, (("export-stop", _RUNNING),)),
    (seed_exports.start_wins, (("export-start", _RUNNING),)),
    (seed_exports.the_state_is_stopped, (("export-release", _RUNNING),)),
    (seed_exports.with_each_snapshot, (("export-snapshot", _RUNNING),)),
    (seed_exports.outages_are_outlasted, (("export-outage", _RUNNING),)),
)
"""Each with its VMs, and the state that they begin in."""


def run(directory: Path, engine: str, only: Sequence[str] = ()) -> Checks:
    """Type everything, and return what was checked. Raises NotStarted.

    Args:
        directory: holds all state and logs.
        engine: the engine of the simulated hosts.
        only: names of chapters; empty: all.
    """
    chapters = [(chapter, vms) for chapter, vms in CHAPTERS if not only or chapter.__name__ in only]
    stage = Stage(directory, engine, [vm for _, vms in chapters for vm in vms])
    say(f"start two simulated hosts ({engine} engine), of which the second has no VM, and snapshotd")
    with stage.host, stage.second, stage.daemon:
        for name, host in (("hv01", stage.host), ("hv02", stage.second)):
            stage.type(f"host add {name} 127.0.0.1 --port {host.port} --credential {CREDENTIAL}")
        stage.type("vm register hv01 --all")
        for chapter, _ in chapters:
            say((chapter.__doc__ or "").strip())
            chapter(stage)
        say("at the end")
        effects = [e for host in (stage.host, stage.second) for e in host.decisive() if e["by"] == "script"]
        steps = [(e["operation"], e["step"]) for e in effects]
        stage.checks.check("no step had a second effect", len(steps), len(set(steps)))
        stage.checks.check("no operation is left over", stage.read("operation list --active").get("operations", []), [])
    return stage.checks


def main() -> int:
    """Run the list. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["builtin", "pwsh"], default="builtin", help="engine of the simulated host")
    parser.add_argument("only", nargs="*", metavar="CHAPTER", help="only these chapters")
    asked = parser.parse_args()
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="snapshotd-seed-") as directory:
            checks = run(Path(directory), asked.engine, asked.only)
    except NotStarted as error:
        sys.stderr.write(f"{str(error).rstrip()}\n")
        return 2
    say(f"{checks.count} checks, {checks.failed} wrong, in {time.monotonic() - began:.0f} s")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
