"""Visits every state that a model can reach, and finds the shortest way to one that must not be. Knows no model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

StateT = TypeVar("StateT", bound=Hashable)


class Step(NamedTuple, Generic[StateT]):
    """One thing that can happen next."""

    label: str
    to: StateT
    fault: bool = False
    """It need not happen, so nothing may depend on it to end."""


class Model(Protocol[StateT]):
    """What is explored."""

    @property
    def start(self) -> StateT:
        """Return the first state."""

    def steps(self, state: StateT) -> Iterable[Step[StateT]]:
        """Yield all that can happen in a state."""

    def violation(self, state: StateT) -> str:
        """Return which promise a state breaks, or nothing."""

    def over(self, state: StateT) -> bool:
        """Return whether nothing more needs to happen."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an exploration has found."""

    states: int
    """Found until it ended."""
    violation: str = ""
    """Empty: there is none."""
    path: tuple[str, ...] = ()
    """The labels of the steps that lead to the violation."""


def explore(model: Model[StateT]) -> Outcome:
    """Visit every state, or those up to the first violation; then look for states from which nothing is ever over."""
    states = [model.start]
    number = {model.start: 0}
    came: list[tuple[int, str]] = [(0, "")]
    before: list[list[int]] = [[]]
    for here, state in enumerate(states):  # The list grows meanwhile: breadth first.
        violation = model.violation(state)
        if violation:
            return Outcome(len(states), violation, _path(came, here))
        for label, to, fault in model.steps(state):
            there = number.setdefault(to, len(states))
            if there == len(states):
                states.append(to)
                came.append((here, label))
                before.append([])
            if not fault:
                before[there].append(here)
    stuck = _stuck([model.over(state) for state in states], before)
    if stuck is None:
        return Outcome(len(states))
    return Outcome(len(states), "ends: from here it never does without a further fault", _path(came, stuck))


def _path(came: list[tuple[int, str]], to: int) -> tuple[str, ...]:
    labels = []
    while to:
        to, label = came[to]
        labels.append(label)
    return tuple(reversed(labels))


def _stuck(ends: list[bool], before: list[list[int]]) -> int | None:
    """Return the first state from which no step that is no fault leads on towards the end, or None.

    Args:
        ends: of each state, whether all is over in it. It is filled in with the states that lead there.
        before: of each state, those that a step leads from to it.
    """
    waiting = [n for n, over in enumerate(ends) if over]
    while waiting:
        for n in before[waiting.pop()]:
            if not ends[n]:
                ends[n] = True
                waiting.append(n)
    return None if all(ends) else ends.index(False)
