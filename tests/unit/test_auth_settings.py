"""The settings about who callers are: what nobody could rely on is refused when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshotd.auth_settings import ALGORITHMS
from snapshotd.settings import SettingsInvalid, load

PROVIDER = {"auth.oidc_issuer": "https://login.example.com/realms/ops", "auth.oidc_audience": "snapshotd"}


def test_without_a_word_callers_are_trusted_and_there_is_no_identity_provider() -> None:
    settings = load(None, {}, {})
    assert settings.text("auth.mode") == "trust"
    assert settings.text("auth.oidc_issuer") == settings.text("auth.oidc_audience") == ""
    assert [settings.text(f"auth.oidc_{claim}_claim") for claim in ("name", "groups")] == ["sub", "groups"]
    assert settings.names("auth.oidc_algorithms") == ("RS256", "ES256")
    assert {settings.path(f"auth.{name}") for name in ("tokens", "roles", "oidc_ca")} == {None}


def test_an_identity_provider_is_named_by_its_address_and_an_audience(tmp_path: Path) -> None:
    file = tmp_path / "snapshotd.toml"
    file.write_text(
        '[auth]\nmode = "required"\noidc_algorithms = ["ES384"]\n'
        + "".join(f'{name.removeprefix("auth.")} = "{value}"\n' for name, value in PROVIDER.items()),
        encoding="utf-8",
    )
    settings = load(file, {}, {})
    assert settings.text("auth.oidc_issuer") == PROVIDER["auth.oidc_issuer"]
    assert settings.names("auth.oidc_algorithms") == ("ES384",)
    assert load(None, {}, {**PROVIDER, "auth.oidc_issuer": "http://127.0.0.1:8080/x"}).text("auth.oidc_audience")


@pytest.mark.parametrize("missing", PROVIDER)
def test_tokens_for_any_audience_or_of_any_issuer_are_not_accepted(missing: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"without {missing}. Set both, or neither"):
        load(None, {}, {name: value for name, value in PROVIDER.items() if name != missing})


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "https://",
        "login.example.com",
        "https://user:password@login.example.com",
        "https://login.example.com?tenant=1",
        "https://login.example.com#x",
        "https://login.example.com:port",
        "https://login .example.com",
        "file:///etc/passwd",
        "https://[::1",
        "https://lögin.example.com",
    ],
)
def test_an_issuer_whose_answers_anybody_could_give_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"auth\.oidc_issuer"):
        load(None, {}, {**PROVIDER, "auth.oidc_issuer": url})


@pytest.mark.parametrize("names", ["none", "HS256", "RS256,HS256", "", "rs256", "RS256,"])
def test_a_signature_that_a_checker_could_make_itself_is_no_algorithm(names: str) -> None:
    assert not {"none", "HS256", "HS384", "HS512"} & set(ALGORITHMS)
    with pytest.raises(SettingsInvalid, match="must be a list of RS256"):
        load(None, {}, {"auth.oidc_algorithms": names})


@pytest.mark.parametrize(
    ("name", "text"),
    [("auth.mode", "off"), ("auth.mode", ""), ("auth.oidc_audience", " x"), ("auth.oidc_name_claim", "")],
)
def test_other_values_that_mean_nothing_are_refused(name: str, text: str) -> None:
    with pytest.raises(SettingsInvalid, match=name):
        load(None, {}, {name: text})


@pytest.mark.parametrize("name", ["oidc_issuer", "oidc_audience", "oidc_name_claim", "oidc_algorithms"])
def test_a_number_is_no_text(tmp_path: Path, name: str) -> None:
    file = tmp_path / "snapshotd.toml"
    file.write_text(f"[auth]\n{name} = 1\n", encoding="utf-8")
    with pytest.raises(SettingsInvalid, match=name):
        load(file, {}, {})
