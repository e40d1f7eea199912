"""The contexts: named servers, each with what it takes to sign in there, in a file of the user's.

    current = "prod"                         ~/.config/snapshotd/config.toml

    [context.prod]
    server = "snapshots.example.com:7443"
    ca = "/home/ann/servers-ca.pem"
    token_file = "/home/ann/token"

Holds paths of secrets, never a secret. Imports nothing that help would have to wait for.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from snapshotd.access.atomic_file import SECRET, write_file
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import quoted, shown
from snapshotd.small_file import read_small, toml_of

_NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_LARGEST: Final = 1024 * 1024
_FILES: Final = ("ca", "token_file", "certificate", "key")
"""The settings of a context that are paths."""


@dataclass(frozen=True, slots=True)
class Context:
    """One context. An empty text: it is not set."""

    server: str = ""
    ca: str = ""
    token_file: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""

    @property
    def settings(self) -> dict[str, str]:
        """What is set, by name."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name))}


SETTINGS: Final = tuple(one.name for one in fields(Context))
"""The settings of a context."""


@dataclass(frozen=True)
class Contexts:
    """The contexts of a user."""

    file: Path | None
    """Where they are kept; None: nowhere, since the user has no home directory."""
    current: str = ""
    known: Mapping[str, Context] = field(default_factory=dict)

    def get(self, name: str) -> Context:
        """Return a context. Raises Failed."""
        if name not in self.known:
            there = f"There are: {', '.join(self.known)}." if self.known else "There is none."
            raise Failed(
                f"Cannot find context {quoted(name)} in {self.file or 'any file'}. {there} "
                "Make it with `snapshotctl context set NAME --server HOST:PORT`.",
                ExitCode.NOT_FOUND,
            )
        return self.known[name]

    def save(self) -> None:
        """Write the file, within `changing`; a crash leaves the one that was there. Raises Failed."""
        if self.file is None:
            raise Failed("Cannot keep contexts: neither $HOME nor $XDG_CONFIG_HOME is set.", ExitCode.USAGE)
        with _told_of(self.file):
            write_file(self.file, self._text().encode(), SECRET)

    def _text(self) -> str:
        lines = [f"current = {_quoted(self.current)}"] if self.current else []
        for name, context in self.known.items():
            lines += ["", f"[context.{name}]", *(f"{key} = {_quoted(text)}" for key, text in context.settings.items())]
        return "\n".join([*lines, ""]).lstrip("\n")


def is_context_name(text: str) -> bool:
    """Return whether a context can have a name."""
    return _NAME.fullmatch(text) is not None


def load(environ: Mapping[str, str]) -> Contexts:
    """Return the contexts of a user; none if there is no file. Raises Failed for one that cannot be read."""
    file = _place(environ)
    if file is None:
        return Contexts(None)
    try:
        document = toml_of(read_small(file, _LARGEST).content)
    except FileNotFoundError:
        return Contexts(file)
    except OSError as error:
        raise Failed(f"Cannot read {file}: {(error.strerror or str(error)).lower()}.", ExitCode.USAGE) from None
    except ValueError as error:
        raise Failed(f"Cannot read {file}: it is not TOML: {error}.", ExitCode.USAGE) from None
    return _contexts(file, document, environ)


@contextmanager
def changing(environ: Mapping[str, str]) -> Iterator[Contexts]:
    """Give the contexts of a user to be changed and saved; one process at a time. Raises Failed as `load` does."""
    file = _place(environ)
    with ExitStack() as locked:
        if file is not None:
            with _told_of(file):
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                locked.callback(os.close, directory)
                fcntl.flock(directory, fcntl.LOCK_EX)
        yield load(environ)


@contextmanager
def _told_of(file: Path) -> Iterator[None]:
    """Raise Failed for an OSError about a file that is to be written."""
    try:
        yield
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise Failed(f"Cannot write {file}: {problem}.", ExitCode.OUTPUT_FAILED) from None


def _place(environ: Mapping[str, str]) -> Path | None:
    """Return where the file is (XDG Base Directory Specification: a relative $XDG_CONFIG_HOME does not count)."""
    if os.path.isabs(configured := environ.get("XDG_CONFIG_HOME", "")):  # noqa: PTH117  (of a text that may be empty)
        return Path(configured, "snapshotd", "config.toml")
    home = environ.get("HOME")
    return Path(home, ".config", "snapshotd", "config.toml") if home else None


def _contexts(file: Path, document: Mapping[str, object], environ: Mapping[str, str]) -> Contexts:
    current, tables = document.get("current", ""), document.get("context", {})
    if unknown := [*({*document} - {"current", "context"})]:
        raise _wrong(file, f"there is no setting {shown(unknown[0])}. There are: current, and tables [context.NAME]")
    if not isinstance(current, str) or not isinstance(tables, dict):
        raise _wrong(file, "current must be a name, and each context a table [context.NAME]")
    known: dict[str, Context] = {}
    for name, table in tables.items():
        if not is_context_name(name) or not isinstance(table, dict):
            raise _wrong(file, f"[context.{shown(name)}] must be a table, its name of letters, digits, - and _")
        for key, value in table.items():
            if key not in SETTINGS or not isinstance(value, str):
                raise _wrong(file, f"context {name} has {shown(key)}. There are, as text: {', '.join(SETTINGS)}")
        paths = {key: _path(file, value, environ) for key, value in table.items() if key in _FILES and value}
        known[name] = Context(**{**table, **paths})
    return Contexts(file, current, known)


def _path(file: Path, text: str, environ: Mapping[str, str]) -> str:
    """Return a path that may begin at home, or be relative to the file that names it."""
    home = environ.get("HOME")
    return str(Path(home, text[2:]) if home and text.startswith("~/") else file.parent / text)


def _wrong(file: Path, problem: str) -> Failed:
    return Failed(f"Cannot read {file}: {problem}.", ExitCode.USAGE)


def _quoted(text: str) -> str:
    """Return a text as TOML's basic string has it."""
    escaped = {"\\": "\\\\", '"': '\\"'}
    return '"' + "".join(escaped.get(c, c if c.isprintable() else f"\\U{ord(c):08X}") for c in text) + '"'
