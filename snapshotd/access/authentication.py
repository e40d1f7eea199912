"""Which way a caller proves who it is, by what it sends: the one door for those who serve calls."""

from __future__ import annotations

from typing import Final

from snapshotd.access.certificates import ClientCertificates
from snapshotd.access.errors import TokenMalformed
from snapshotd.access.identity import ExecutorIdentity, Identity
from snapshotd.access.local_tokens import PREFIX, LocalTokens
from snapshotd.access.oidc import Oidc

_LONGEST_TOKEN: Final = 64 * 1024
"""Characters. Of a token that names hundreds of groups."""


class Authentication:
    """Finds out who callers are.

    Args:
        tokens: the local ones.
        oidc: the identity provider; None: there is none.
        certificates: the CAs of clients.
    """

    def __init__(self, tokens: LocalTokens, oidc: Oidc | None, certificates: ClientCertificates) -> None:
        self._tokens = tokens
        self._oidc = oidc
        self._certificates = certificates

    async def bearer(self, token: str) -> Identity:
        """Return whom a bearer token stands for.

        Args:
            token: without the word Bearer.

        Raises SignInRefused or SignInUnavailable.
        """
        if len(token) > _LONGEST_TOKEN:
            raise TokenMalformed(f"it has more than {_LONGEST_TOKEN} characters")
        if token.startswith(PREFIX):
            return self._tokens.verify(token)
        if self._oidc is None:
            raise TokenMalformed("it is no local token, and this server knows no identity provider")
        return await self._oidc.verify(token)

    def certificate(self, pem: bytes) -> Identity | ExecutorIdentity:
        """Return the user or the executor of a client certificate (PEM, the leaf). Raises SignInRefused."""
        return self._certificates.caller_of(pem)
