"""Fetches a document of the identity provider: one small answer of the address that was asked, and of no other."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import requests
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from snapshotd.access.errors import AccessUnusable
from snapshotd.domain.host_address import is_loopback

Fetch: TypeAlias = Callable[[str], bytes]
"""Returns what is at a URL. Blocks, and raises NotFetched."""

_LARGEST: Final = 1024 * 1024
"""Bytes of an answer."""
_LIMIT_S: Final = 10.0


class NotFetched(Exception):
    """A document that could not be got, or that is not what it should be. The text says why, without a full stop."""


class Fetcher:
    """A Fetch over https, or http on loopback.

    Args:
        ca: PEM file of the CAs that the address's certificate may be from; None: those that requests brings along.
        limit_s: seconds that an answer may take. Each wait for the network has that limit too.

    Raises AccessUnusable if the file of CAs cannot be used.
    """

    def __init__(self, ca: Path | None, limit_s: float = _LIMIT_S) -> None:
        if ca is not None:
            try:
                ssl.create_default_context(cafile=ca)
            except OSError as error:
                raise AccessUnusable(
                    f"Cannot use auth.oidc_ca = {ca}: no CAs in PEM can be read there ({error})."
                ) from None
        self._ca = ca
        self._limit_s = limit_s

    def __call__(self, url: str) -> bytes:
        """Return the answer's body. Raises NotFetched."""
        try:
            return self._get(url)
        except (requests.RequestException, HTTPError, OSError) as error:
            # What the error itself says is for the log: it may tell of proxies, and callers are not known yet.
            raise NotFetched(f"{url} {self._words(error)}") from error

    def _get(self, url: str) -> bytes:
        deadline_s = time.monotonic() + self._limit_s
        with requests.Session() as session:
            # Nothing of the environment but proxies: no CAs, and no password of a .netrc.
            session.trust_env = False
            with session.get(
                url,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                timeout=self._limit_s,
                allow_redirects=False,
                stream=True,
                verify=True if self._ca is None else str(self._ca),
                proxies={} if is_loopback(urlsplit(url).hostname or "") else get_environ_proxies(url),
            ) as response:
                if response.status_code != requests.codes.ok:
                    also = ", which is not followed" if response.is_redirect else ""
                    raise NotFetched(f"{url} answered {response.status_code}{also}")
                content = b""
                while piece := response.raw.read1(_LARGEST, decode_content=False):
                    content += piece
                    if len(content) > _LARGEST:
                        raise NotFetched(f"{url} has more than {_LARGEST} bytes")
                    if time.monotonic() > deadline_s:
                        raise NotFetched(f"{url} took longer than {self._limit_s:g} s")
                return content

    def _words(self, error: Exception) -> str:
        match error:
            case requests.Timeout():
                return f"did not answer within {self._limit_s:g} s"
            case requests.exceptions.SSLError():
                return "has a certificate that is not trusted; auth.oidc_ca says which CAs are"
            case requests.exceptions.ProxyError():
                return "cannot be reached through the proxy"
            case requests.ConnectionError():
                return "cannot be reached"
            case _:
                return f"could not be read ({type(error).__name__})"
