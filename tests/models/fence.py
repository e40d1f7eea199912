"""An exhaustive model of how one VM's commands stay exactly-once: docs/host-protocol.md, ADR 0002 and ADR 0013.

Create operations run one after the other on one VM. Commands and answers are lost, late and doubled. The host's script
is killed between any two of its actions, while the hypervisor's own job goes on. The journal is lost. Somebody else
takes a checkpoint by hand. The log is restored from a backup. The daemon's crash needs no action of its own: it is a
lost message followed by a time-out.

    fence_daemon.py --commands--> fence_network.py --commands--> fence_host.py
          ^------------------------answers----------------------------'

Every reachable state is visited (exploration.py). Each must keep these promises:

once      No operation has made two checkpoints.
true      An operation that SUCCEEDED owns exactly one checkpoint, and it is the one adopted. One that FAILED owns none,
          neither now nor in any later state.
restored  Only a log that was restored is told to be older than the host.
ends      From every state all operations can end without a further fault. States that have used up the model's tokens
          are not judged by this.

python -m tests.models.fence                The design: expects no violation.
python -m tests.models.fence --without R    Rule R is left out: prints the shortest way to the violation.
python -m tests.models.fence --all          The design, then each rule left out in turn. Exit code 1 if a rule proves
                                            needless. With restored=1, those that hold when a log is restored.
python -m tests.models.fence foreign=1 wiped=0 adopt=0      Other bounds than the defaults.

What each rule and bound means is told in fence_state.py. With foreign=1 and adopt=1 the model finds the one case that
no rule closes: our script dies before it acts, and somebody takes a checkpoint in that moment. Hence the product adopts
an unmarked one only if all other evidence fits too, and says OUTCOME_UNDETERMINED otherwise.

Two rules have a part that the promises do not need. `act_on_before` is there because somebody may have changed what the
operation was decided on (a revert would throw away what nobody agreed to lose), and because 'no effect' may be said
only after the state was compared once more. Of `rolled_back`, the operation in the journal is there for a restored log
whose version has grown past the journal's tokens by other events: what the lost log did is not on record, so it is for
a person to judge, even if nothing happens twice.

Visited without a violation, some 25,000 states a second on one core:

defaults                                            966,985
foreign=1 wiped=0 adopt=0                         1,633,757
restored=1 wiped=0 doubled=0 killed=0               232,536
restored=1 wiped=0 doubled=0                        540,045
restored=1 wiped=0 doubled=0 killed=0 tokens=6    1,471,832

The rule `rolled_back` needs tokens=6 to show what it is for: without it an observation stays stale for ever.
CI explores smaller bounds (test_fence_model.py).
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from tests.models.exploration import Step, explore
from tests.models.fence_daemon import daemon_steps
from tests.models.fence_host import host_steps
from tests.models.fence_network import network_steps, restore_steps
from tests.models.fence_state import Bounds, Rules, State, truth

NEEDED: Final = ("token", "acts-once", "observe-fences", "newest-only", "job-wait", "journal-id")
"""Rules that a promise breaks without."""
NEEDED_IF_RESTORED: Final = ("unique-names", "rolled-back")
"""Those that it breaks without once a log is restored."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The model, for `explore`."""

    rules: Rules
    bounds: Bounds

    @property
    def start(self) -> State:
        """Return the first state: nothing is on record, and nothing was done on the host."""
        return State()

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield all that can happen in a state."""
        yield from daemon_steps(state, self.rules, self.bounds)
        yield from network_steps(state, self.bounds)
        yield from restore_steps(state, self.bounds)
        yield from host_steps(state, self.rules, self.bounds)

    def violation(self, state: State) -> str:
        """Return which promise a state breaks, or nothing."""
        if state.rolled_back and not state.restored:
            return "restored: the log is told to be older than the host, and it is not"
        made: dict[int, list[int]] = {}
        for checkpoint in state.checkpoints:
            if checkpoint.owner:
                made.setdefault(checkpoint.owner, []).append(checkpoint.checkpoint_id)
        for operation, checkpoint_ids in made.items():
            if len(checkpoint_ids) > 1:
                return f"once: op{operation} made the checkpoints {checkpoint_ids}"
        for number, (outcome, adopted) in enumerate(state.ended, 1):
            operation = truth(state, number)
            mine = made.get(operation, [])
            if outcome == "ok" and mine != [adopted]:
                return f"true: op{operation} SUCCEEDED with checkpoint {adopted}, and on the host its own are {mine}"
            if outcome == "failed" and mine:
                return f"true: op{operation} FAILED, and on the host its own are {mine}"
        return ""

    def over(self, state: State) -> bool:
        """Return whether all operations have ended, or no token is left to end them with."""
        return state.number > self.bounds.operations or state.spent >= self.bounds.tokens


def _bound(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    names = [field.name for field in fields(Bounds)]
    if name not in names or not value.isdecimal():
        raise ArgumentTypeError(f"Cannot read the bound {text!r}. Write NAME=N, with one of {', '.join(names)}.")
    return name, int(value)


def main(arguments: Sequence[str]) -> int:
    """Explore what the arguments say, and print what is found. Returns 1 if it is not what is expected."""
    parser = ArgumentParser("python -m tests.models.fence", description="Explore the model of the fence.")
    parser.add_argument("bounds", nargs="*", type=_bound, metavar="BOUND=N", help="as in fence_state.py")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="the design, then each rule left out")
    names = [field.name.replace("_", "-") for field in fields(Rules)]
    which.add_argument("--without", choices=names, metavar="RULE", help=f"leave one out: {', '.join(names)}")
    asked = parser.parse_intermixed_args(arguments)
    bounds = replace(Bounds(), **dict(asked.bounds))
    left_out = ["", *(NEEDED_IF_RESTORED if bounds.restored else NEEDED)] if asked.all else [asked.without or ""]
    unexpected = False
    for rule in left_out:
        outcome = explore(Fence(Rules().without(rule) if rule else Rules(), bounds))
        title = f"without {rule}" if rule else "the design"
        print(f"{title}: {outcome.states} states, {outcome.violation or 'no violation'}", flush=True)
        for n, label in enumerate(outcome.path, 1):
            print(f"  {n:2} {label}")
        unexpected |= bool(outcome.violation) is not bool(rule)
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
