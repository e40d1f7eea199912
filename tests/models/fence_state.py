"""What the fence model consists of: rules that can be left out, bounds, and one state of everything. See fence.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeVar

from snapshotd.domain.state import replace

T = TypeVar("T", bound=tuple[object, ...])

EPOCH: Final = 10
"""Operation 1 of the second log is 11: who made a checkpoint, in truth."""


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
    refusal_fences: bool = True
    """An effect that is refused since the VM cannot be looked at raises the fence before it is told as not begun."""
    unique_names: bool = True
    """An operation's name never comes again. So the host's journal cannot take a new operation for one that a lost log
    knew."""
    rolled_back: bool = True
    """A journal with a higher token than the log's, or with an operation that the log does not know, shows that it was
    written for another log. Nothing is concluded or issued until a person has taken the VM over, which ends what was
    under way as undetermined."""
    token_base: bool = True
    """After a take-over, tokens lie above all that the journal knew."""
    operation_known: bool = True
    """A take-over puts the journal's operation on record."""
    blocked_first: bool = True
    """Before a host changes hands, the VM is blocked for the log that gets it, until it is taken over."""
    owner: bool = True
    """The host refuses the commands of all installations but the one that owns it."""
    same_journal: bool = True
    """That a log is older than its host is disproved only by the journal that was known."""
    look_first: bool = True
    """After a take-over, the first step begins with a look, which raises the fence."""
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
    handed: int = 0
    """Times that the host changes hands: to a second installation, which has a log of its own, and back again."""
    unseen: int = 0
    """Effects that are refused since the VM cannot be looked at."""
    lies: int = 0
    """Answers that claim a higher token than the journal has."""
    earlier: int = 0
    """Operations of the first installation that have ended before, and that its log has forgotten. Of a number that low
    nobody can tell whose operation it is."""
    stride: int = 1
    """By how much a token of the first installation is higher than the last: its log grows by other events too."""

    def last(self, log: Log) -> int:
        """Return the number of a log's last operation."""
        return self.operations + first_number(log, self) - 1

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

    kind: Literal["done", "stale", "no effect", "not begun", "seen"]
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
    """0: it has checked nothing; 1: the owner is the right one; 2: begun is written; 3: the hypervisor is asked; 4: the
    checkpoint is marked. It holds the mutex from 1 on. Where the host never changes hands, 1 is left out."""


class Ended(NamedTuple):
    """How an operation has ended, by the log."""

    outcome: Literal["ok", "failed", "undetermined"]
    adopted: int = 0
    """The checkpoint."""


class Log(NamedTuple):
    """The log of one installation, with what its daemon does. It survives a crash."""

    installation: int = 1
    epoch: int = 0
    """Tells its operations apart from those that another log gave the same numbers."""
    number: int = 1
    """Of the operation under way; above the bound when all have ended."""
    phase: Literal["due", "looking", "issued", "unknown", "observing"] = "due"
    token: int = 0
    """The newest one issued, or taken over."""
    rolled_back: Literal["", "noticed", "blocked"] = ""
    """It is known to be older than the host: by an answer, or since the host is about to change hands."""
    read: Journal | None = None
    """The journal as it was read for the take-over that comes next."""
    look_due: bool = False
    """The VM was taken over, or its host could not look at it, and it was not looked at since."""
    before: tuple[int, ...] = ()
    """The checkpoints that were there when the operation was first issued."""
    first: bool = False
    """The operation has been issued, and was not observed absent since."""
    journal_id: int = 1
    """The journal's, as last reported; 0: not known."""
    taken_over: Journal = Journal(journal_id=0)
    """The journal of the last take-over, as it was read."""
    again: bool = False
    """It was told to be older than the host by nothing but what had been taken over."""
    lied_to: bool = False
    ended: tuple[Ended, ...] = ()


class State(NamedTuple):
    """One state of everything: the logs, the network, the host, and the faults spent."""

    log: Log = Log()
    """That of the installation which acts next."""
    other: Log | None = None
    """That of the other one."""
    spent: int = 0
    """Tokens issued in all, by lost logs too."""
    logs: int = 1
    """So many have there been."""
    # The network, each a bag: sorted, since two orders would be two states.
    commands: tuple[Command, ...] = ()
    answers: tuple[Answer, ...] = ()
    # The host.
    owner: int = 1
    """The installation that its journals belong to."""
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
    handed: int = 0
    lies: int = 0
    unseen: int = 0

    def turned(self) -> State:
        """Return the state seen from the other installation."""
        assert self.other is not None, self
        return self._replace(log=self.other, other=self.log)


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


def first_number(log: Log, bounds: Bounds) -> int:
    """Return the number of a log's first operation in the model."""
    return 1 + (bounds.earlier if log.installation == 1 else 0)


def truth(log: Log, number: int) -> int:
    """Return an operation of a log, told apart from one that another log gave the same number."""
    return number + EPOCH * log.epoch


SECOND: Final = 5
"""The first epoch of the second installation."""


def installation_of(operation: int) -> int:
    """Return the installation that an operation is one of."""
    return 2 if operation >= SECOND * EPOCH else 1


def name(operation: int, rules: Rules) -> int:
    """Return what the host knows an operation by."""
    return operation if rules.unique_names else operation % EPOCH
