"""What a run of the benchmarks tells of its figures."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.__main__ import PARTS, arguments
from benchmarks.plot import Panel, svg
from benchmarks.report import budget, filled, plot, table
from benchmarks.targets import TARGETS, Bound, number

ALL_REACHED = {bound.figure: bound.limit for target in TARGETS for bound in target.bounds}


def rows(figures: dict[str, float]) -> list[str]:
    return table(figures).splitlines()[2:]


def test_a_figure_that_is_just_at_its_bound_is_reached() -> None:
    assert [row.endswith("| yes |") for row in rows(ALL_REACHED)] == [True] * len(TARGETS)


@pytest.mark.parametrize("bound", [b for t in TARGETS for b in t.bounds], ids=lambda b: b.figure)
def test_one_figure_that_misses_its_bound_makes_its_promise_missed_and_no_other(bound: Bound) -> None:
    worse = bound.limit * (1.01 if bound.at_most else 0.99)
    missed = [target for target in TARGETS if target.reached({**ALL_REACHED, bound.figure: worse}) is False]
    assert len(missed) == 1
    assert bound in missed[0].bounds


def test_a_promise_of_which_something_was_not_measured_is_not_said_to_be_kept() -> None:
    found = rows({"appends.1.ratio_stock": 2.0, "appends.16.ratio_stock": 4.5})
    (appends,) = [row for row in found if "appends" in row]
    assert appends.endswith("| ≥ 1, ≥ 4, ≥ 5 | 2, 4.5, not measured | not measured |")


def test_numbers_have_the_digits_that_tell_something() -> None:
    assert [number(n) for n in (1234.5, 99.96, 12.34, 10, 1.2, 0.456, 2.0)] == [
        *("1,234", "100", "12.3", "10", "1.2", "0.46", "2"),
    ]


def test_a_document_keeps_its_prose_and_gets_what_is_between_its_marks_anew() -> None:
    document = "before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"
    once = filled(document, {"a": "new\\1"})
    assert once == "before\n<!-- a -->\nnew\\1\n<!-- /a -->\nafter\n"
    assert filled(once, {"a": "new\\1"}) == once


def test_a_mark_that_a_document_lacks_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        filled("nothing", {"a": "new"})


def test_the_budget_has_a_column_for_each_number_of_callers_that_was_profiled() -> None:
    told = budget({"profile.64.commit_us": 120.4, "profile.64.total_us": 900.0})
    assert told.splitlines()[0] == "| µs of processor time, a create | 64 callers |"
    assert "| commit | 120 |" in told
    assert told.endswith("| total | 900 |")


def test_a_plot_has_a_bar_for_each_value_and_taller_ones_for_larger_values() -> None:
    drawn = ET.fromstring(svg([Panel("a & b", ["x", "y"], {"one": [1.0, 100.0], "other": [10.0, None]})]))  # noqa: S314
    bars = [e for e in drawn.iter() if e.tag.endswith("rect") and float(e.attrib["width"]) > 10][1:]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert len(heights) == 3
    assert heights[0] < heights[2] < heights[1]


def test_the_plot_of_a_run_is_drawn_from_whatever_was_measured() -> None:
    assert "not measured" in plot({})
    assert ">123<" in plot({"creates.64.per_s": 123.0})


def test_a_part_that_does_not_exist_is_refused_and_the_others_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments(["creates", "idle"]) == ["creates", "idle"]
    assert arguments([]) == [*PARTS]
    with pytest.raises(SystemExit):
        arguments(["create"])
    assert "'creates'" in capsys.readouterr().err
