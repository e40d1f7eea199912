"""The client's side of TLS: channels, and why one does not come about.

Imported only where it is needed: that takes 50 ms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import grpc

from snapshotd.client.connection import Security
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.tls import ClientFiles, Pair, TlsFile, TlsFileInvalid
from snapshotd.tls_problems import Words, explain, may_be_tls

_WORDS: Final = Words("--ca", "--certificate", "--server-name")

Options = tuple[tuple[str, int | str], ...]


def secure_channel(address: str, security: Security, options: Options) -> grpc.Channel:
    """Open a channel over TLS, with the files as they are now. Raises Failed for one that cannot be used."""
    files = _files(security)
    assert files is not None, "without an authority there is no TLS"
    if security.server_name:
        options += (("grpc.ssl_target_name_override", security.server_name),)
    try:
        return grpc.secure_channel(address, files.read().credentials(), options)
    except TlsFileInvalid as error:
        raise Failed(str(error), ExitCode.USAGE) from None


def handshake_failed(address: str, security: Security, details: str) -> Failed | None:
    """Return the error for people, if it is TLS that has failed.

    Args:
        address: of the server.
        security: the caller's.
        details: what gRPC says of its UNAVAILABLE.
    """
    if not may_be_tls(details) or address.startswith("unix:"):
        return None
    told = explain(address, _files(security), _WORDS, security.server_name)
    return Failed(f"Cannot connect to {address}. {told}", ExitCode.UNAVAILABLE, lasts=True) if told else None


def _files(security: Security) -> ClientFiles | None:
    """Return the files of TLS; None without TLS."""
    if not security.ca:
        return None
    pair = Pair(TlsFile("--certificate", Path(security.certificate)), TlsFile("--key", Path(security.key)))
    return ClientFiles(TlsFile("--ca", Path(security.ca)), pair if security.certificate else None)
