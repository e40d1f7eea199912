"""docs/reasons.md has every reason that a caller, an operation, a VM or a host can be told, and no other.

The reasons are collected from the code: the errors, what is built with `reason=...`, and the tables that translate a
host's answer. One that the collection does not understand fails it, so that none can hide.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import projections
import snapshotd
from snapshotd.api.v1.executor_pb2 import NoAnswer
from snapshotd.application.host_failures import failure_of
from snapshotd.domain.errors import AlreadyExists, NotFound, SnapshotdError
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.ports.views import ProjectionState
from snapshotd.store.errors import Fault

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")
ROW: Final = re.compile(r"^\| `?([A-Za-z_]+)`? \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
REASON: Final = re.compile(r"[A-Z][A-Z_]+")
OTHERS: Final = ("snapshotd.api", "snapshotd.client", "snapshotd.simulator")
"""Packages that make no reasons: they show those of others, or play the host."""
CARRIED: Final = {"reason", "command.reason", "await self._attach_once(backoff)", "_fault(connection, script)"}
"""What hands on a reason, or something else of that name."""


def modules() -> Iterator[ModuleType]:
    """Yield the modules that may make reasons."""
    for package in (snapshotd, projections):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.startswith(OTHERS) and not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


MODULES: Final = tuple(modules())


def values(module: ModuleType, node: ast.expr) -> Iterator[str]:
    """Yield the reasons that an expression can be."""
    match node:
        case ast.Constant(value=str() as text):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from values(module, body)
            yield from values(module, orelse)
        case ast.JoinedStr():
            assert ast.unparse(node) == "f'PROJECTION_{progress.state.name}'", "write here what this can be"
            yield from (f"PROJECTION_{state.name}" for state in ProjectionState if state.name in ("STOPPED", "BEHIND"))
        case ast.Name() | ast.Attribute():
            try:
                found = eval(ast.unparse(node), vars(module))  # noqa: S307  (our own code)
            except NameError:
                # A local variable: its assignments are collected by themselves, or it carries another's reason.
                assert isinstance(node, ast.Attribute) or node.id in CARRIED, (module.__name__, ast.unparse(node))
            else:
                # Numbers are those of NoAnswer.Reason.
                yield from [found] if isinstance(found, str) else []
        case _:
            assert ast.unparse(node) in CARRIED, (module.__name__, ast.unparse(node))


def written() -> Iterator[str]:
    """Yield the reasons that stand in the code: `reason=...`, and what is assigned to the name."""
    for module in MODULES:
        assert module.__file__ is not None
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            match node:
                case ast.keyword(arg="reason", value=value):
                    yield from values(module, value)
                case ast.Assign(targets=[ast.Name(id="reason")], value=value):
                    yield from values(module, value)
                case ast.Call(func=ast.Name(id="NotFound" | "AlreadyExists" as name), args=[ast.Constant(value), *_]):
                    error = NotFound if name == "NotFound" else AlreadyExists
                    yield error(str(value), "x").reason
                case _:
                    pass


def errors(root: type[SnapshotdError] = SnapshotdError) -> Iterator[str]:
    """Yield the reasons of all errors, defects included."""
    if isinstance(reason := vars(root).get("reason"), str):
        yield reason
    for leaf in root.__subclasses__():
        if not leaf.__module__.startswith("tests."):
            yield from errors(leaf)


def translated() -> Iterator[str]:
    """Yield what comes of answers of hosts, and of the system's errors."""
    yield from (failure_of(HostAnswer(verdict=v)).reason for v in Verdict if v not in _NO_FAILURE)
    yield from (name for name, number in NoAnswer.Reason.items() if number)
    yield from (fault.value for fault in Fault)
    script = (ROOT / "snapshotd" / "hyperv" / "host.ps1").read_text(encoding="utf-8")
    yield from re.findall(r"'([A-Za-z]+),snapshotd'", script)


_NO_FAILURE: Final = (Verdict.NO_ANSWER, Verdict.OBSERVED, Verdict.REPORTED)
TOLD: Final = {reason for reason in (*written(), *errors(), *translated(), "INTERNAL") if reason}


def test_each_reason_stands_in_the_table_and_no_other() -> None:
    rows = [row[0] for row in ROW.findall(DOCUMENT)[1:]]
    assert sorted(TOLD - set(rows)) == [], "write what it means and what to do"
    assert sorted(set(rows) - TOLD) == [], "nothing says this any more"
    assert rows == sorted(rows, key=str.lower), "they are found by the alphabet, each once"
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
    "reason", ["SETTLE_TOO_EARLY", "OPERATION_NOT_FOUND", "MERGE_STALLED", "HOST_BUSY", "CONNECTION_LOST", "DISK_FULL"]
)
def test_the_collection_finds_reasons_of_each_origin(reason: str) -> None:
    assert reason in TOLD


def test_a_reason_is_upper_snake_but_for_those_of_the_host_script() -> None:
    assert {r for r in TOLD if not REASON.fullmatch(r)} == {r for r in translated() if not REASON.fullmatch(r)}
