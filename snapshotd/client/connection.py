"""Which server a command calls, and how it signs in there: from options, the environment and the contexts.

An option counts before the environment, and that before a context. A context counts only if it is named as plainly as
the server: its token goes to no server that it was not made for.
"""

from __future__ import annotations

import argparse
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from snapshotd.client import arguments as read
from snapshotd.client.contexts import Context, Contexts, load
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.setting_values import is_local
from snapshotd.small_file import read_small, text_of

DEFAULT: Final = "127.0.0.1:7443"
_LARGEST_TOKEN: Final = 64 * 1024
_UNIX: Final = "unix:"
_USAGE: Final = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Security:
    """How a connection is protected, and what the caller signs in with. An empty text: there is none."""

    ca: str = ""
    """The file of the authority that issued the server's certificate; empty: no TLS."""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    token: str = field(default="", repr=False)
    token_from: str = ""
    """Where the token is from, for people."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's address, and how to connect to it."""

    address: str
    security: Security


def connection_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Connection:
    """Return what a command connects to. Raises Failed."""
    context = _context(arguments, environ)
    try:
        address = read.server(arguments.server or context.server or environ.get("SNAPSHOTD_SERVER", DEFAULT))
    except argparse.ArgumentTypeError as error:  # in the environment, or in a context
        raise Failed(f"Cannot use the server's address {error}.", _USAGE) from None
    ca = "" if address.startswith(_UNIX) else arguments.ca or context.ca
    certificate, key = context.certificate, context.key
    if arguments.certificate or arguments.key:
        certificate, key = arguments.certificate or "", arguments.key or ""
    if bool(certificate) != bool(key):
        raise Failed("Cannot sign in by a certificate without its key: give both, --certificate and --key.", _USAGE)
    if certificate and not ca:
        why = (
            "a unix socket speaks no TLS" if address.startswith(_UNIX) else "that takes TLS. Name the server's CA: --ca"
        )
        raise Failed(f"Cannot sign in to {address} by a certificate: {why}.", _USAGE)
    token, token_from = _token(arguments, environ, context)
    if token and not ca and not is_local(address):
        raise Failed(
            f"Cannot send the token ({token_from}) to {address}: the connection would not be encrypted. "
            "Name the file of the authority that issued the server's certificate: --ca FILE.",
            _USAGE,
        )
    name = arguments.server_name or context.server_name
    return Connection(address, Security(ca, certificate, key, name, token, token_from))


def _context(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Context:
    """Return the context that counts; an empty one if there is none."""
    if named := arguments.context or ("" if arguments.server else environ.get("SNAPSHOTD_CONTEXT")):
        return load(environ).get(named)
    if arguments.server or "SNAPSHOTD_SERVER" in environ:
        return Context()
    contexts: Contexts = load(environ)
    return contexts.get(contexts.current) if contexts.current else Context()


def _token(arguments: argparse.Namespace, environ: Mapping[str, str], context: Context) -> tuple[str, str]:
    """Return the token, and where it is from; two empty texts if there is none."""
    if arguments.token_file:
        return _token_in(arguments.token_file), arguments.token_file
    if given := environ.get("SNAPSHOTD_TOKEN"):
        return _checked(given, "$SNAPSHOTD_TOKEN"), "$SNAPSHOTD_TOKEN"
    if context.token_file:
        return _token_in(context.token_file), context.token_file
    return "", ""


def _token_in(file: str) -> str:
    try:
        found = read_small(Path(file), _LARGEST_TOKEN)
        text = text_of(found.content)
    except OSError as error:
        raise Failed(f"Cannot read the token in {file}: {(error.strerror or str(error)).lower()}.", _USAGE) from None
    except UnicodeDecodeError:
        # Not chained: the text of the error would show the bytes.
        raise Failed(f"Cannot read the token in {file}: it is not text.", _USAGE) from None
    if found.mode & stat.S_IRWXO:
        text = f"Cannot use the token in {file}: the file is open to everybody on this machine. Set its mode to 600."
        raise Failed(text, _USAGE)
    return _checked(text, file)


def _checked(text: str, place: str) -> str:
    """Return a token as it goes into a header. Raises Failed, without it."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Failed(f"Cannot use the token in {place}: it must be one word in ASCII, and nothing else.", _USAGE)
    return token
