"""Ages, sizes, tables and plans as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1.executor_pb2 import RUNNING, STOPPED
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan, Step
from snapshotd.client.plan import describe
from snapshotd.client.render import age, counted, cut, facts, quoted, shown, size, table
from snapshotd.domain.host_errors import HostInUse

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ago(**how_long: int) -> Timestamp:
    """Return a time before NOW."""
    time = Timestamp()
    time.FromDatetime(NOW - timedelta(**how_long))
    return time


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (ago(seconds=59), "59 s"),
        (ago(minutes=59, seconds=59), "59 min"),
        (ago(hours=23), "23 h"),
        (ago(days=400), "400 d"),
        (ago(seconds=-5), "0 s"),
        (Timestamp(), ""),
    ],
)
def test_an_age_has_the_largest_unit_that_fits(time: Timestamp, text: str) -> None:
    assert age(time, NOW) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (4 << 30, "4.0 GiB"), (3 << 42, "12.0 TiB")]
)
def test_a_size_has_the_largest_unit_that_fits(count: int, text: str) -> None:
    assert size(count) == text


def test_a_table_is_aligned_by_what_is_seen() -> None:
    assert table(["A", "B"], [["x", "1"], ["漢字", "22"]]).splitlines() == ["A     B", "x     1", "漢字  22"]
    assert table(["A"], []) == "(none)"


def test_facts_leave_out_what_is_empty() -> None:
    assert facts([("Name", "web01"), ("Why", "")]) == "Name: web01"


def test_control_characters_are_escaped_and_others_left() -> None:
    assert shown("a\tb\x00ü") == "a\\tb\\x00ü"


def test_a_plan_says_what_moves_and_what_is_lost() -> None:
    plan = Plan(
        kind=OperationMetadata.DELETE_SNAPSHOT,
        virtual_machine="virtualMachines/v",
        snapshot="s/gone",
        steps=[Step(number=1, name="remove", step_class=Step.PIVOT, description="Remove it.", host="hosts/hv01")],
        children_moved=[Plan.Move(snapshot="s/child", old_parent="s/gone")],
        old_current="s/gone",
        power_before=RUNNING,
        power_after=STOPPED,
        snapshots_discarded=["s/gone"],
        guest_memory_lost=True,
        warnings=["Mind the gap."],
    )
    names = {"s/child": "Child", "s/gone": "Gone"}
    assert describe(plan, "web01", "Gone", lambda name: names[name]).splitlines() == [
        "Would delete snapshot Gone on web01:",
        "  1. remove     Remove it. [pivot, on hv01]",
        "Moves:   Child from below Gone to below none",
        "Current: Gone -> none",
        "Power:   RUNNING -> STOPPED",
        "Gone:    Gone",
        "Lost:    what the guest holds in memory",
        "Note:    Mind the gap.",
    ]


def test_a_table_that_is_too_wide_cuts_the_columns_that_yield_one_after_the_other() -> None:
    rows = [["n" * 40, "p" * 40, "1"]]
    heads = ["NAME", "PARENT", "ID"]
    assert table(heads, rows, ("PARENT", "NAME"), 70).splitlines()[1] == f"{'n' * 40}  {'p' * 23}…  1"
    assert table(heads, rows, ("PARENT", "NAME"), 50).splitlines()[1] == f"{'n' * 31}…  {'p' * 11}…  1"
    assert table(heads, rows, ("PARENT", "NAME"), 26).splitlines()[1] == f"{'n' * 9}…  {'p' * 9}…  1"
    assert table(heads, rows, ("PARENT", "NAME"), 5).splitlines()[1] == f"{'n' * 5}…  {'p' * 5}…  1"
    assert table(heads, rows, ("PARENT", "NAME")).splitlines()[1] == f"{'n' * 40}  {'p' * 40}  1"


def test_a_text_to_read_goes_over_several_lines_and_is_never_cut() -> None:
    rows = [["a", "It is broken. " * 3 + "x" * 40], ["b", "Short."]]
    assert table(["WHO", "WHY"], rows, width=32, wraps=True).splitlines() == [
        "WHO  WHY",
        "a    It is broken. It is broken.",
        "     It is broken.",
        f"     {'x' * 40}",
        "b    Short.",
    ]
    assert table(["WHO", "WHY"], rows, wraps=True).splitlines()[1].endswith(f"broken. {'x' * 40}")


@pytest.mark.parametrize(("text", "cut_text"), [("abcdef", "abcdef"), ("abcdefg", "abcde…"), ("漢字漢字", "漢字…")])
def test_what_is_cut_is_marked(text: str, cut_text: str) -> None:
    assert cut(text, 6) == cut_text


def test_what_is_quoted_is_escaped_once_and_not_too_long() -> None:
    assert quoted("x\x1b[31m") == r"'x\x1b[31m'"
    assert quoted("x" * 41) == f"'{'x' * 40}…'"


def test_one_is_counted_in_the_singular() -> None:
    assert [counted(n, "VM") for n in (0, 1, 2)] == ["0 VMs", "1 VM", "2 VMs"]
    assert "it has 1 registered VM. Unregister it first (" in HostInUse("hv01", 1).message()
    assert "it has 2 registered VMs. Unregister them first (" in HostInUse("hv01", 2).message()
