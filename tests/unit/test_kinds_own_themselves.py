"""A kind of operation and an action of a step are named where they are, and where they meet a wire; nowhere else."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from snapshotd.operations.catalogue import KINDS
from snapshotd.simulator import at_work, before, effects
from snapshotd.simulator.outputs import OUTPUTS
from snapshotd.steps.catalogue import ACTIONS

ROOT = Path(__file__).resolve().parents[2]
SPEAKERS = {
    "snapshot_service.py",
    "virtual_machine_service.py",
    "offering_service.py",
    "volume_service.py",
    "volume_snapshot_service.py",
    "destroy_service.py",
    "revert_commands.py",
    "outcome.py",
}
"""They speak for a kind: servicers translate a request into its Params; the client words what came of an operation, and
one command of it looks for reverts."""
OLD_NAMES = re.compile(
    "StepAction|OperationKind|StopMode|StartVm|StopVm|CreateSnapshot|RevertToSnapshot|DeleteSnapshot"
    "|allow_fallback|refuse_power_change|stop_mode"
)
"""What named kinds and actions, and their options, in the core before they owned themselves."""


SCRIPT = (ROOT / "snapshotd/hyperv/host.ps1").read_text(encoding="utf-8")


def rows(table: str) -> dict[str, str]:
    """Return the rows of a table of the host script, each by the name that it begins with."""
    (block,) = re.findall(rf"^\${table} = @\{{$(.*?)^\}}$", SCRIPT, flags=re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^    (\w+) = (.*)$", block, flags=re.MULTILINE))


def files(*rooms: str) -> list[Path]:
    """Return the Python files of rooms."""
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py")) if "api" not in path.parts]


def lines_with(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """Return where a pattern is found, docstrings left aside that show a name in backticks."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(re.sub(r"`[^`]*`", "", line))
    ]


def test_the_core_and_the_views_name_no_kind_no_action_and_no_option_of_theirs() -> None:
    core = files("snapshotd/domain", "snapshotd/application", "snapshotd/dispatch", "projections")
    assert len(core) > 30
    assert lines_with(OLD_NAMES, core) == []


@pytest.mark.parametrize("name", [*KINDS, *ACTIONS])
def test_nothing_names_a_kind_or_an_action_but_its_own_room_and_who_speaks_for_it(name: str) -> None:
    own = type((KINDS | ACTIONS)[name])  # type: ignore[index]  # one or the other
    module = own.__module__.rpartition(".")[2]
    pattern = re.compile(rf"\b({name}|{module}|{module.upper()})\b")
    rooms = ("domain", "ports", "application", "dispatch", "store", "server", "executor", "hyperv", "client")
    elsewhere = [p for p in files(*(f"snapshotd/{room}" for room in rooms), "projections") if p.name not in SPEAKERS]
    assert lines_with(pattern, elsewhere) == []
    assert lines_with(pattern, files("snapshotd/steps", "snapshotd/operations"))


@pytest.mark.parametrize(("room", "catalogue"), [("operations", KINDS), ("steps", ACTIONS)])
def test_each_has_a_file_that_bears_its_name(room: str, catalogue: dict[str, object]) -> None:
    modules = [type(entry).__module__ for entry in catalogue.values()]
    assert len(set(modules)) == len(modules)
    assert all(module.startswith(f"snapshotd.{room}.") for module in modules)


def test_an_action_is_known_by_the_name_of_its_file() -> None:
    assert [type(action).__module__.rpartition(".")[2] for action in ACTIONS.values()] == list(ACTIONS)


def test_every_action_that_is_sent_stands_in_each_table_of_both_engines() -> None:
    sent = {name for name, action in ACTIONS.items() if not action.polls}
    assert set(before._COMPARED) == set(effects.NEEDED) == set(effects._ACTIONS) == sent
    assert set(rows("Compared")) == set(rows("Actions")) == sent


def test_every_output_stands_with_its_fields_in_the_table_of_both_engines() -> None:
    sent = [action for action in ACTIONS.values() if not action.polls]
    outputs = {a.name: get_type_hints(a.output.cls) for a in sent if fields(a.output.cls)}  # type: ignore[arg-type]
    told = {
        name: {n: bool if t is bool else int if t is int else str for n, t in of.items()}
        for name, of in outputs.items()
    }
    assert told == OUTPUTS
    words = {"text": str, "flag": bool, "number": int}
    pairs = {name: re.findall(r"(\w+) = '(\w+)'", row) for name, row in rows("Outputs").items()}
    assert {name: {field: words[word] for field, word in of} for name, of in pairs.items()} == OUTPUTS


def test_both_engines_have_the_same_actions_beside_what_is_under_way_and_without_the_vm() -> None:
    for table, own in (("Beside", at_work.BESIDE), ("BesideLook", at_work.BESIDE_LOOK)):
        assert {name: set(re.findall(r"'(\w+)'", row)) for name, row in rows(table).items()} == own
    (line,) = re.findall(r"^\$OfAbsent = (.*)$", SCRIPT, flags=re.MULTILINE)
    assert set(re.findall(r"'(\w+)'", line)) == before.OF_ABSENT
    without = {name for name, action in ACTIONS.items() if not action.polls and not action.needs_vm}
    assert without == before.OF_ABSENT & set(ACTIONS)
