"""Tab completion: the scripts for shells, and what can come next on a command line.

The scripts hold no command: they hand the line up to the cursor to `snapshotctl __complete SHELL LINE`, which prints
what can stand there, one a line. Commands and options come from the declarations; only names are asked of the server.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from snapshotd.client.failure import ExitCode

COMPLETE: Final = "__complete"
"""The word that makes this program answer a completion script."""
SHELLS: Final = ("bash", "zsh", "fish")
_SCRIPTS: Final = {
    "bash": """\
# Tab completion of snapshotctl in bash: put  source <(snapshotctl completion bash)  into ~/.bashrc
_snapshotctl() {
    mapfile -t COMPREPLY < <("$1" __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -F _snapshotctl snapshotctl
""",
    "zsh": """\
#compdef snapshotctl
# Tab completion of snapshotctl in zsh: put  source <(snapshotctl completion zsh)  into ~/.zshrc, below compinit
_snapshotctl() {
    local -a found
    found=("${(@f)$($words[1] __complete zsh "${LBUFFER}" 2>/dev/null)}")
    [[ -n $found[1] ]] && compadd -U -- "${found[@]}"
}
compdef _snapshotctl snapshotctl
""",
    "fish": """\
# Tab completion of snapshotctl in fish: put  snapshotctl completion fish | source  into ~/.config/fish/config.fish
complete -c snapshotctl -f -a '(snapshotctl __complete fish (commandline -cp | string collect) 2>/dev/null)'
""",
}
_NAMED: Final = frozenset({"vm", "host", "snapshot", "operation", "place", "volume_snapshot", "context"})
"""What has names that are known, on the server or in a file, as arguments that take one are called."""
_NEW: Final = {("vm_commands.register", "vm"), ("host_commands.add", "host")}
"""Arguments that name what the server does not know yet."""
_BARE: Final = re.compile(r"[^\w@%+=:,./-]")
"""What a shell does not take as it is."""


@dataclass
class Typed:
    """A command line up to the cursor, as the declarations read it."""

    parser: argparse.ArgumentParser
    """That of the command so far."""
    given: dict[str, str] = field(default_factory=dict)
    """Values by the names of their arguments."""
    option: argparse.Action | None = None
    """The option whose value comes next."""
    positions: int = 0
    """How many positional arguments there are."""

    def take(self, word: str) -> None:
        """Read the next word."""
        if self.option is not None:
            self.given[self.option.dest] = word
            self.option = None
        elif word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            option = next((a for a in self.parser._actions if name in a.option_strings), None)  # noqa: SLF001
            if option is not None and option.nargs != 0:
                self.option = option
                if equals:
                    self.take(value)
        elif (below := _below(self.parser)) is not None:
            self.parser = below.get(word, self.parser)
        else:
            here = self.positional()
            if here is not None:
                self.given[here.dest] = word
            self.positions += 1

    def positional(self) -> argparse.Action | None:
        """Return the positional argument that comes next."""
        all_of_them = [a for a in self.parser._actions if not a.option_strings]  # noqa: SLF001
        return all_of_them[self.positions] if self.positions < len(all_of_them) else None

    def next(self, word: str, names: Callable[[str, Typed, str], Iterable[str]]) -> Iterator[str]:
        """Yield what can stand here, of which a part may be typed.

        Args:
            word: the part that is typed.
            names: returns names of a kind that the server knows.
        """
        below = _below(self.parser)
        if self.option is None and word.startswith("-"):
            shown = [a for a in self.parser._actions if a.help != argparse.SUPPRESS]  # noqa: SLF001
            yield from (option for action in shown for option in action.option_strings if option.startswith("--"))
        elif self.option is None and below is not None:
            yield from below
        elif (action := self.option or self.positional()) is not None:
            if action.choices is not None:
                yield from map(str, action.choices)
            elif action.dest in _NAMED and (self.parser.get_default("run"), action.dest) not in _NEW:
                yield from names(action.dest, self, word)


def _below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser] | None:
    """Return the commands below a parser by their names; None if it is a command itself."""
    found = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)  # noqa: SLF001
    return None if found is None else found.choices


def script(server: None, arguments: argparse.Namespace) -> ExitCode:
    """Print the script for a shell."""
    del server
    sys.stdout.write(_SCRIPTS[arguments.shell])
    return ExitCode.OK


def answer(
    parser: argparse.ArgumentParser, request: Sequence[str], names: Callable[[str, Typed, str], Iterable[str]]
) -> str:
    """Return what can stand at the end of a line, one a line, each as its shell takes it.

    Args:
        parser: the declarations.
        request: the shell, and the line up to the cursor, with the program's name.
        names: returns names of a kind that the server knows; it is called only where one can stand.
    """
    if len(request) != 2:
        return ""
    shell, line = request
    words, quote = _words(line)
    *before, word = words[1:] or [""]
    typed = Typed(parser)
    for one in before:
        typed.take(one)
    head = ""
    if typed.option is None and word.startswith("--") and "=" in word:
        head, _, word = word.partition("=")
        typed.take(head)
        head += "="
    found = [one for one in typed.next(word, names) if one.startswith(word)]
    return "".join(f"{_as_typed(one, head, word, shell, quote)}\n" for one in dict.fromkeys(found))


def _words(line: str) -> tuple[list[str], str]:
    """Return the words of a line, the last one as far as it is typed, and the quote that is open in it."""
    for quote in ("", '"', "'"):
        try:
            words = shlex.split(line + quote)
        except ValueError:
            continue
        ended = not quote and (not line or line[-1].isspace()) and not line.endswith("\\ ")
        return [*words, *([""] if ended else [])], quote
    return [*line.removesuffix("\\").split(), ""], ""


def _as_typed(one: str, head: str, word: str, shell: str, quote: str) -> str:
    """Return a word as a shell's completion takes it."""
    if shell != "bash":  # the others quote by themselves
        return head + one
    # bash breaks words at = and : and replaces only what comes after.
    rest = one[word.rfind(":") + 1 :] if ":" in word else one
    return rest if quote else _BARE.sub(lambda found: f"\\{found[0]}", rest)
