"""What the fence model consists of: rules that can be left out, bounds, and one state of everything. See fence.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeVar

T = TypeVar("T", bound=tuple[object, ...])

EPOCH: Final = 10
"""Operation 1 of the log that was restored once is 11: who made a checkpoint, in truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Each is kept, or left out to see what it is for."""

    token: bool = True
    """A command with a token lower than the highest in the journal is refused."""
    acts_once: bool = True
    """An effect with the highest token is refused too, but for its stored result."""
    observe_fences: bool = True
    """An observation raises the fence."""
    newest_only: bool = True
    """'No effect' counts only from the newest token."""
    job_wait: bool = True
    """Nothing is concluded while the hypervisor works on the VM."""
    journal_id: bool = True
    """Only an observation makes a journal, with a fresh random id. A command acts only on the journal that it was told
    of, so a lost one is never 'not begun'."""
    unique_names: bool = True
    """An operation's name never comes again. So the host's journal cannot take a new operation for one that a lost log
    knew."""
    rolled_back: bool = True
    """A journal with a higher token than the log's, or with an operation that the log does not know, shows that the log
    is older than the host. Nothing is concluded or issued until a person has taken the VM over. The take-over observes,
    fences above all that the journal knows, ends what was under way as undetermined, and puts the journal's operation
    on record."""
    act_on_before: bool = True
    """The script acts only on the state that it was told."""

    def without(self, rule: str) -> Rules:
        """Return the rules without one, named with hyphens or underscores."""
        return replace(self, **{rule.replace("-", "_"): False})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How often each fault may happen, and how far the model goes."""

    doubled: int = 1
    """Commands that the network delivers twice."""
    killed: int = 1
    """Scripts that are killed."""
    wiped: int = 1
    """Journals that are lost."""
    foreign: int = 0
    """Checkpoints that somebody else takes by hand."""
    restored: int = 0
    """Times that the log is replaced by a backup from before its first operation."""
    adopt: int = 1
    """What becomes of one unmarked newcomer found after the script had begun: 1, it is taken for ours; 0, it is
    undetermined."""
    tokens: int = 5
    """Issued in all."""
    operations: int = 2
    """One after the other."""


class Checkpoint(NamedTuple):
    """One checkpoint on the host."""

    checkpoint_id: int
    owner: int
    """The operation that made it, in truth; 0: somebody else."""
    marked: int = 0
    """The operation whose marker it bears; 0: none."""


class Journal(NamedTuple):
    """The VM's journal on the host. It is there from the start, and known to the log."""

    journal_id: int = 1
    """0: there is no journal."""
    highest: int = 0
    """The highest token that it has seen."""
    operation: int = 0
    """The name of the last one begun; 0: none."""
    phase: Literal["", "begun", "done"] = ""


NO_JOURNAL: Final = Journal(journal_id=0)


class Command(NamedTuple):
    """What the daemon sends to the host."""

    kind: Literal["do", "observe"]
    operation: int
    token: int
    before: tuple[int, ...] = ()
    journal_id: int = 0

    def __str__(self) -> str:
        return f"{self.kind} op{self.operation} token {self.token}"


class Answer(NamedTuple):
    """What the host sends to the daemon."""

    kind: Literal["done", "stale", "no effect", "seen"]
    operation: int
    token: int
    journal: Journal
    """What counts of the journal: of 'seen' all of it, of 'stale' the highest token, else that and the operation."""
    checkpoint_id: int = 0
    """Of 'done': the one that was made."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """Of 'seen'."""

    def __str__(self) -> str:
        return f"{self.kind} op{self.operation} token {self.token}"


class Script(NamedTuple):
    """A command that the host carries out, one action at a time."""

    command: Command
    at: int = 0
    """0: it has checked nothing; 1: begun is written; 2: the hypervisor is asked; 3: the checkpoint is marked. It holds
    the mutex from 1 on."""


class Ended(NamedTuple):
    """How an operation has ended, by the log."""

    outcome: Literal["ok", "failed", "undetermined"]
    adopted: int = 0
    """The checkpoint."""


class State(NamedTuple):
    """One state of everything: the log, the network, the host, and the faults spent."""

    # The daemon's log: it survives a crash.
    number: int = 1
    """Of the operation under way; above the bound when all have ended."""
    phase: Literal["due", "issued", "unknown", "observing"] = "due"
    token: int = 0
    """The newest one issued: the version of the VM's stream, above its base."""
    spent: int = 0
    """Tokens issued in all, by lost logs too."""
    rolled_back: bool = False
    """The log is known to be older than the host."""
    before: tuple[int, ...] = ()
    """The checkpoints that were there when the operation was first issued."""
    first: bool = False
    """The operation has been issued, and was not observed absent since."""
    journal_id: int = 1
    """The journal's, as last reported."""
    taken_over: int = 0
    """The operation that the journal knew when a person took the VM over: on record since."""
    ended: tuple[Ended, ...] = ()
    # The network, each a bag: sorted, since two orders would be two states.
    commands: tuple[Command, ...] = ()
    answers: tuple[Answer, ...] = ()
    # The host.
    checkpoints: tuple[Checkpoint, ...] = ()
    """Sorted by id."""
    job: int = 0
    """The operation whose checkpoint the hypervisor is making; 0: it does nothing."""
    journal: Journal = Journal()
    journals: int = 1
    """Made so far: stands for random ids."""
    scripts: tuple[Script, ...] = ()
    """A bag."""
    # Faults spent.
    doubled: int = 0
    killed: int = 0
    wiped: int = 0
    foreign: int = 0
    restored: int = 0


def add(bag: tuple[T, ...], item: T) -> tuple[T, ...]:
    """Return a bag with one item more."""
    return tuple(sorted((*bag, item)))


def drop(bag: tuple[T, ...], item: T) -> tuple[T, ...]:
    """Return a bag without one of an item."""
    at = bag.index(item)
    return bag[:at] + bag[at + 1 :]


def checkpoint_ids(s: State) -> tuple[int, ...]:
    """Return the ids of all checkpoints on the host."""
    return tuple([c.checkpoint_id for c in s.checkpoints])


def truth(s: State, number: int) -> int:
    """Return an operation of this log, told apart from one that a lost log gave the same number."""
    return number + EPOCH * s.restored


def name(operation: int, rules: Rules) -> int:
    """Return what the host knows an operation by."""
    return operation if rules.unique_names else operation % EPOCH
