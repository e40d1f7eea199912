"""The filters of Get-CimInstance, without a PowerShell."""

from __future__ import annotations

import pytest

from snapshotd.simulator.hypervisor import HyperVError
from snapshotd.simulator.pwsh.wql import parse_query, select

JOBS = [
    {"Name": "export", "State": 4, "Path": "a\\b", "Parent": None, "Ends": True},
    {"Name": "Merge", "State": 7, "Path": "a%b", "Parent": "x", "Ends": False},
    {"Name": "it's", "State": 10, "Path": "", "Parent": "y", "Ends": False},
]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("", [0, 1, 2]),
        ("Name = 'EXPORT'", [0]),
        ("name <> 'export' and STATE>=7", [1, 2]),
        ("Name = 'x' OR State = 4 AND Ends = TRUE", [0]),
        ("(Name = 'export' OR State = 7) AND Ends = false", [1]),
        ("NOT State = 4 AND NOT (State = 10)", [1]),
        ("NOT(State=4)OR(State=4)", [0, 1, 2]),
        ("Parent IS NULL", [0]),
        ("Parent is not null", [1, 2]),
        ("Parent = null", [0]),
        ("Path LIKE 'a_b'", [0, 1]),
        ("Path = 'a\\\\b'", [0]),
        ("Name = 'it\\'s'", [2]),
        ('Name = "it\'s"', [2]),
        ("Name LIKE '%e%' AND State < 5", [0]),
        ("State = 'x'", []),
        ("Name > 3", []),
    ],
)
def test_a_filter_lets_through_what_it_says(where: str, found: list[int]) -> None:
    assert select(JOBS, where) == [JOBS[n] for n in found]


@pytest.mark.parametrize(
    "where",
    [
        "Name",
        "Name =",
        "= 3",
        "Name = 'a",
        "(Name = 'a'",
        "Name = 'a')",
        "Name = 'a' Name = 'b'",
        "NOT",
        "()",
        "Name IS 3",
        "Colour = 'red'",
        "Name = 'a' XOR State = 4",
        "Name LIKE",
        "Name = $x",
        "AND Name = 'a'",
    ],
)
def test_what_is_no_filter_is_refused(where: str) -> None:
    with pytest.raises(HyperVError, match="Invalid query"):
        select(JOBS, where)


def test_a_query_names_a_class_and_may_have_a_filter() -> None:
    assert parse_query("select * from A") == ("A", "")
    assert parse_query("SELECT Name, State FROM A WHERE Name = 'x'") == ("A", "Name = 'x'")
    with pytest.raises(HyperVError, match="Invalid query"):
        parse_query("DELETE A")
