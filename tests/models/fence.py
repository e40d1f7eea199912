"""An exhaustive model of how one VM's commands stay exactly-once: docs/host-protocol.md, ADR 0002 and ADR 0013.

Create operations run one after the other on one VM. Commands and answers are lost, late and doubled. The host's script
is killed between any two of its actions, while the hypervisor's own job goes on. The journal is lost. Somebody else
takes a checkpoint by hand. The host cannot look at the VM. The log is restored from a backup. A second installation
takes the host over while the first one goes on, and the first one takes it back. An answer claims what is not so. The
daemon's crash needs no action of its own: it is a lost message followed by a time-out.

    fence_daemon.py --commands--> fence_network.py --commands--> fence_host.py
          ^------------------------answers----------------------------'
    fence_take_over.py: what people decide

Every reachable state is visited (exploration.py). Each must keep these promises:

once      No operation has made two checkpoints.
true      An operation that SUCCEEDED owns exactly one checkpoint, and it is the one adopted. One that FAILED owns none,
          neither now nor in any later state.
restored  Only a log that was restored, or lied to, or whose host changed hands, is told to be older than the host.
taken     What was taken over does not show once more that the log is older than the host.
ends      From every state all operations of the host's owner can end without a further fault. States that have used up
          the model's tokens are not judged by this.

python -m tests.models.fence                The design: expects no violation.
python -m tests.models.fence --without R    Rule R is left out: prints the shortest way to the violation.
python -m tests.models.fence --all          The design, then each rule left out in turn. Exit code 1 if a rule proves
                                            needless. With restored=1, those that hold when a log is restored;
                                            with handed=2, those that hold when a host changes hands;
                                            with unseen=1, those that hold when it cannot look at a VM.
python -m tests.models.fence foreign=1 wiped=0 adopt=0      Other bounds than the defaults.

What each rule and bound means is told in fence_state.py. With foreign=1 and adopt=1 the model finds the one case that
no rule closes: our script dies before it acts, and somebody takes a checkpoint in that moment. Hence the product adopts
an unmarked one only if all other evidence fits too, and says OUTCOME_UNDETERMINED otherwise.

Some rules, or parts of them, are there for what the promises do not say. `act_on_before`: somebody may have changed
what the operation was decided on (a revert would throw away what nobody agreed to lose), and 'no effect' may be said
only after the state was compared once more. `rolled_back`, the operation in the journal: a restored log may have
grown past the journal's tokens by other events; what the lost log did is not on record, so it is for a person to
judge, even if nothing happens twice. `owner`: tokens alone keep two installations from doing things twice, but not
from working on one VM in turns. `look_first`: what a lost log has sent, and is still on its way, cannot act once the
first look has come. `same_journal`: a journal that was made anew is no evidence of what the lost one knew.

Visited without a violation, some 25,000 states a second on one core:

defaults                                                                    966,985
foreign=1 wiped=0 adopt=0                                                 1,633,757
restored=1 wiped=0 doubled=0 killed=0                                       171,157
restored=1 wiped=0 doubled=0                                                390,926
handed=2 wiped=0 doubled=0 killed=0 operations=1 tokens=4                    95,237
handed=2 wiped=0 doubled=0 operations=1 tokens=4 earlier=1 stride=3         259,008
restored=1 lies=1 doubled=0 killed=0 operations=1 tokens=4                  113,238
unseen=2 operations=1 tokens=4                                              114,178

The rule `rolled_back` needs tokens=6 to show what it is for: without it an observation stays stale for ever.
CI explores smaller bounds (test_fence_model.py).
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

from snapshotd.domain.state import replace
from tests.models.exploration import Step, explore
from tests.models.fence_daemon import daemon_steps
from tests.models.fence_host import host_steps
from tests.models.fence_network import network_steps, restore_steps
from tests.models.fence_state import Bounds, Log, Rules, State, truth
from tests.models.fence_take_over import person_steps, second_installation_steps

NEEDED: Final = ("token", "acts-once", "observe-fences", "newest-only", "job-wait", "journal-id")
"""Rules that a promise breaks without."""
NEEDED_IF_UNSEEN: Final = ("refusal-fences",)
"""Those that it breaks without once the host cannot look at the VM."""
NEEDED_IF_RESTORED: Final = ("unique-names", "rolled-back", "token-base", "operation-known")
"""Those that it breaks without once a log is restored."""
NEEDED_IF_HANDED: Final = ("blocked-first",)
"""Those that it breaks without once a host has changed hands twice."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The model, for `explore`."""

    rules: Rules
    bounds: Bounds

    @property
    def start(self) -> State:
        """Return the first state: nothing is on record, and nothing was done on the host."""
        return State(log=Log(number=1 + self.bounds.earlier))

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield all that can happen in a state."""
        for seen in (state, state.turned()) if state.other is not None else (state,):
            for label, to, fault in self._own_steps(seen):
                whole = to if seen is state else to.turned()
                yield Step(label if seen is state else f"the second installation's {label}", whole, fault)
        yield from second_installation_steps(state, self.rules, self.bounds)
        yield from network_steps(state, self.bounds)
        yield from restore_steps(state, self.bounds)
        yield from host_steps(state, self.rules, self.bounds)

    def _own_steps(self, seen: State) -> Iterator[Step[State]]:
        """Yield what one installation, and the people who look after it, can do."""
        yield from daemon_steps(seen, self.rules, self.bounds)
        yield from person_steps(seen, self.rules, self.bounds)

    def violation(self, state: State) -> str:
        """Return which promise a state breaks, or nothing."""
        logs = (state.log,) if state.other is None else (state.log, state.other)
        for log in logs:
            if log.rolled_back and not (state.restored or state.handed or log.lied_to):
                return "restored: the log is told to be older than the host, and it is not"
            if log.again:
                return "taken: what was taken over shows again that the log is older than the host"
        made: dict[int, list[int]] = {}
        for checkpoint in state.checkpoints:
            if checkpoint.owner:
                made.setdefault(checkpoint.owner, []).append(checkpoint.checkpoint_id)
        for operation, checkpoint_ids in made.items():
            if len(checkpoint_ids) > 1:
                return f"once: op{operation} made the checkpoints {checkpoint_ids}"
        for operation, (outcome, adopted) in [
            (truth(log, number), ended)
            for log in logs
            for number, ended in enumerate(log.ended, log.number - len(log.ended))
        ]:
            mine = made.get(operation, [])
            if outcome == "ok" and mine != [adopted]:
                return f"true: op{operation} SUCCEEDED with checkpoint {adopted}, and on the host its own are {mine}"
            if outcome == "failed" and mine:
                return f"true: op{operation} FAILED, and on the host its own are {mine}"
        return ""

    def over(self, state: State) -> bool:
        """Return whether all operations of the host's owner have ended, or no token is left to end them with."""
        owner = state.log if state.log.installation == state.owner else state.other
        ended = owner is not None and owner.number > self.bounds.last(owner)
        return ended or state.spent >= self.bounds.tokens


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
    needed = NEEDED_IF_RESTORED if bounds.restored else NEEDED_IF_HANDED if bounds.handed else NEEDED
    needed = NEEDED_IF_UNSEEN if bounds.unseen else needed
    left_out = ["", *needed] if asked.all else [asked.without or ""]
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
