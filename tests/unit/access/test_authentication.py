"""The one door: each way of signing in leads to names of its own, and none to another's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from snapshotd.access import bearers
from snapshotd.access.authentication import Authentication
from snapshotd.access.authority import Authority, create_authority
from snapshotd.access.bearers import Purpose
from snapshotd.access.certificates import ClientCertificates
from snapshotd.access.errors import TokenMalformed
from snapshotd.access.identity import ExecutorIdentity
from snapshotd.access.local_tokens import LocalTokens, TokenFile
from snapshotd.access.oidc import Oidc
from tests.unit.access.identity_provider import NOW, SETTINGS, Provider, Seconds, claims, signed


def authentication(directory: Path, *, provider: bool = True) -> Authentication:
    cas = [directory / purpose.value / "ca.pem" for purpose in (Purpose.USERS, Purpose.EXECUTORS)]
    users, executors = (ca if ca.exists() else None for ca in cas)
    return Authentication(
        LocalTokens(directory / "tokens.json", lambda: NOW),
        Oidc(SETTINGS, Provider(), lambda: NOW, Seconds()) if provider else None,
        ClientCertificates(users, executors, lambda: NOW),
    )


async def test_callers_of_one_name_are_told_apart_by_the_way_they_came(tmp_path: Path) -> None:
    for purpose, bearer in (
        (Purpose.USERS, bearers.user("ann")),
        (Purpose.EXECUTORS, bearers.executor("ann", ["hv01"])),
    ):
        create_authority(tmp_path / purpose.value, "Ops", purpose, 30, NOW)
        Authority(tmp_path / purpose.value, NOW).issue(bearer, tmp_path / f"{purpose.value}.pem", 1, replace=False)
    user, executor = ((tmp_path / f"{name}.pem").read_bytes() for name in ("users", "executors"))
    local, _ = TokenFile(tmp_path / "tokens.json").issue("ann", timedelta(days=1), "root", NOW)
    door = authentication(tmp_path)
    by_token, by_provider = await door.bearer(local), await door.bearer(signed(claims()))
    assert [by_token.subject, by_provider.subject] == ["token:ann", "oidc:ann"]
    assert door.certificate(user).subject == "certificate:ann"
    assert door.certificate(executor) == ExecutorIdentity("ann", frozenset({"hv01"}))
    assert door.certificate(executor).subject == "executor:ann"


async def test_without_an_identity_provider_only_local_tokens_are_tokens(tmp_path: Path) -> None:
    with pytest.raises(TokenMalformed, match="this server knows no identity provider"):
        await authentication(tmp_path, provider=False).bearer(signed(claims()))


@pytest.mark.parametrize("token", ["", " ", "snapshotd", "Bearer x", "x" * (64 * 1024 + 1), "a.b.c"])
async def test_what_is_no_token_signs_nobody_in(tmp_path: Path, token: str) -> None:
    with pytest.raises(TokenMalformed):
        await authentication(tmp_path).bearer(token)
