"""The explorer itself, over models that are small enough to be followed by hand."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.models.exploration import Outcome, Step, explore


@dataclass(frozen=True, slots=True)
class Arrows:
    """A model by its arrows; those in lower case are faults. It starts at A, and Z is the end."""

    arrows: Mapping[str, tuple[str, ...]]
    forbidden: str = ""

    @property
    def start(self) -> str:
        """Return the first state."""
        return "A"

    def steps(self, state: str) -> Iterator[Step[str]]:
        """Yield the arrows from a state."""
        for to in self.arrows.get(state, ()):
            yield Step(f"{state}{to}", to.upper(), fault=to.islower())

    def violation(self, state: str) -> str:
        """Return whether it is the forbidden state."""
        return f"{state} is forbidden" if state == self.forbidden else ""

    def over(self, state: str) -> bool:
        """Return whether it is the end."""
        return state == "Z"


def test_each_state_counts_once_whatever_leads_to_it() -> None:
    assert explore(Arrows({"A": ("B", "C", "b"), "B": ("C", "Z"), "C": ("A", "Z")})) == Outcome(4)


def test_the_shortest_way_to_a_violation_is_found_through_faults_too() -> None:
    model = Arrows({"A": ("B", "c"), "B": ("D",), "C": ("E",), "D": ("E",), "E": ("Z",)}, forbidden="E")
    assert explore(model) == Outcome(5, "E is forbidden", ("Ac", "CE"))


def test_the_first_state_may_be_forbidden() -> None:
    assert explore(Arrows({"A": ("Z",)}, forbidden="A")) == Outcome(1, "A is forbidden")


@pytest.mark.parametrize(
    "arrows",
    [{"A": ("Z", "b")}, {"A": ("Z", "B"), "B": ("C",), "C": ("B",)}, {"A": ("B", "Z"), "B": ("z",)}],
    ids=["nothing follows", "a circle", "only a fault leads to the end"],
)
def test_a_state_that_never_ends_without_a_fault_is_found(arrows: Mapping[str, tuple[str, ...]]) -> None:
    outcome = explore(Arrows(arrows))
    assert outcome.violation.startswith("ends: ")
    assert outcome.path[-1].upper() == "AB"
