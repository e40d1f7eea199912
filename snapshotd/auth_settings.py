"""The settings about who callers are: how each is read, and which do not go together. A part of settings.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from snapshotd.domain.host_address import is_loopback

MODES: Final = ("trust", "required")
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by a key pair. None by a shared secret: whoever could check a token could make one."""


def auth_mode(value: object) -> str:
    """Return whether callers must prove who they are. Raises ValueError."""
    if value not in MODES:
        raise ValueError('must be "trust" (loopback only: callers give any name) or "required"')
    return str(value)


def oidc_issuer(value: object) -> str:
    """Return the identity provider's address; empty: there is none. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004  (the settings' own kind of error)
    if value and (problem := url_problem(value)):
        raise ValueError(problem)
    return value


def oidc_text(value: object) -> str:
    """Return an audience, or the name of a claim. Raises ValueError."""
    if not isinstance(value, str) or value.strip() != value:
        raise ValueError("must be text without blanks at its ends")
    return value


def oidc_claim(value: object) -> str:
    """Return the name of a claim. Raises ValueError."""
    if not oidc_text(value):
        raise ValueError("must be the name of a claim, e.g. sub, email, groups")
    return str(value)


def oidc_algorithms(value: object) -> tuple[str, ...]:
    """Return the ways in which a token may be signed. Raises ValueError."""
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(name in ALGORITHMS for name in names):
        raise ValueError(f"must be a list of {', '.join(ALGORITHMS)}")
    return tuple(str(name) for name in names)


def url_problem(url: str) -> str:
    """Return why nothing must be fetched from an address; empty: it may be. Over http anybody could be who answers."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        return f"must be a URL ({error})"
    if not url.isascii() or not url.isprintable() or " " in url or not host:
        return "must be a URL: https://HOST/PATH"
    if parts.username is not None or parts.password is not None:
        return "must be a URL without user and password"
    if parts.query or parts.fragment:
        return "must be a URL without ? and #"
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        return "must begin with https:// (http:// on loopback only)"
    return ""


def contradiction(values: Mapping[str, object], sources: Mapping[str, str]) -> str:
    """Return why settings of an identity provider do not go together; empty: they do.

    Args:
        values: all settings by name.
        sources: where each is from.
    """
    for name, other in (("auth.oidc_issuer", "auth.oidc_audience"), ("auth.oidc_audience", "auth.oidc_issuer")):
        if values[name] and not values[other]:
            return f"Cannot use {name} = {values[name]} from {sources[name]} without {other}. Set both, or neither."
    return ""
