"""Root's doctor finds what the unit's user may not read, and tells the command that mends it."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from snapshotd.__main__ import main
from snapshotd.domain.state import replace
from snapshotd.settings import KEYS, Settings, load
from snapshotd.upkeep import rights_checks
from snapshotd.upkeep.doctor import CHECKS
from snapshotd.upkeep.findings import Finding, Ground, Level
from tests.unit.test_deployment import UNITS, lines
from tests.unit.upkeep.authorities import NOW

ERROR = Level.ERROR
NAMES = {"server.certificate": "server.pem", "server.key": "server.key", "auth.roles": "roles.toml"}


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a directory of settings whose files others may read, all but the key."""
    monkeypatch.setattr(rights_checks, "program", lambda: iter(()))
    monkeypatch.setattr(rights_checks, "_HIDDEN", (tmp_path / "home",))
    umask = os.umask(0o022)
    path = tmp_path / "etc"
    path.mkdir()
    for name in ("snapshotd.toml", *NAMES.values()):
        (path / name).touch()
        (path / name).chmod(0o600 if name.endswith(".key") else 0o644)
    yield path
    os.umask(umask)


def ground(etc: Path, values: Mapping[str, Path] | None = None, *, serves: bool = True) -> Ground:
    """Return what root looks at."""
    plain = load(None, {}, {"storage.directory": str(etc.parent / "storage")})
    files = values if values is not None else {name: etc / file for name, file in NAMES.items()}
    settings = Settings({**plain.values, **files}, {**plain.sources, **dict.fromkeys(files, "snapshotd.toml")})
    config = etc / "snapshotd.toml"
    return Ground(settings=settings, environ={}, now=NOW, serves=serves, config=config, for_unit=True)


def told(looked_at: Ground, below: Path) -> list[str]:
    """Return what is told of paths below a directory: what is above it, the tests' machine has."""
    found = [one for one in rights_checks.rights(looked_at) if str(below) in one.text]
    assert {one.level for one in found} <= {ERROR}
    return [one.text for one in found]


def test_files_that_others_may_read_are_well_and_keys_need_not_be(etc: Path) -> None:
    assert told(ground(etc), etc) == []
    etc.joinpath("snapshotd.toml").chmod(0o600)
    assert list(rights_checks.rights(replace(ground(etc), for_unit=False))) == []


@pytest.mark.parametrize(
    ("file", "name"),
    [("snapshotd.toml", "the settings"), ("roles.toml", "auth.roles"), ("server.pem", "server.certificate")],
)
def test_a_file_that_only_root_may_read_is_told_with_the_command_that_mends_it(etc: Path, file: str, name: str) -> None:
    path = etc / file
    path.chmod(0o600)
    os.chown(path, -1, 0) if os.geteuid() == 0 else None
    assert told(ground(etc), etc) == [
        f"{path} ({name}) is closed to the unit's user, so the unit fails. Run chmod o+r {path}."
    ]
    path.chmod(0o604)
    assert told(ground(etc), etc) == []


def test_each_setting_of_a_file_is_looked_at_but_what_the_units_hand_over_or_have_themselves(etc: Path) -> None:
    (etc / "x").touch(mode=0o600)
    paths = [key.name for key in KEYS if key.form == "PATH"]
    looked_at = set()
    for serves in (True, False):
        (text,) = told(ground(etc, dict.fromkeys(paths, etc / "x"), serves=serves), etc / "x ")[:1]
        looked_at |= set(text.partition("(")[2].partition(")")[0].split(", "))
    left_out = {"server.key", "executor.key", "executor.credentials", "auth.tokens", "storage.directory"}
    assert looked_at == set(paths) - left_out
    handed = {line.partition("=")[2].partition(":")[0] for unit in UNITS for line in lines(unit) if "LoadC" in line}
    assert {"server.key", "executor.key"} <= handed


def test_a_directory_on_the_way_is_told_once_also_that_of_a_link(etc: Path, tmp_path: Path) -> None:
    etc.chmod(0o700)
    names = "the settings, server.certificate, auth.roles"
    assert told(ground(etc), etc) == [
        f"{etc} (on the way to {names}) is closed to the unit's user, so the unit fails. Run chmod o+x {etc}."
    ]
    etc.chmod(0o711)
    assert told(ground(etc), etc) == []
    there = tmp_path / "else where"
    there.mkdir(mode=0o700)
    (there / "roles.toml").touch(mode=0o644)
    (etc / "roles.toml").unlink()
    (etc / "roles.toml").symlink_to(there / "roles.toml")
    assert told(ground(etc), there) == [
        f"{there} (on the way to auth.roles) is closed to the unit's user, so the unit fails. Run chmod o+x '{there}'."
    ]


def test_tokens_of_another_place_need_a_way_only(etc: Path) -> None:
    tokens = etc / "tokens" / "tokens.json"
    tokens.parent.mkdir(mode=0o711)
    tokens.touch(mode=0o600)
    assert told(ground(etc, {"auth.tokens": tokens}), etc) == []
    tokens.parent.chmod(0o700)
    assert told(ground(etc, {"auth.tokens": tokens}), etc)[0].endswith(f"Run chmod o+x {tokens.parent}.")


def test_a_file_that_a_group_may_read_is_a_warning(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "roles.toml").chmod(0o640)
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: of_group(stat(path, **how), 4242))
    (found,) = [one for one in rights_checks.rights(ground(etc)) if "roles.toml" in one.text]
    assert found.level is Level.WARNING
    assert "The unit needs SupplementaryGroups=4242; without it, run chmod o+r" in found.text


def test_roots_group_is_no_group_of_the_units(etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "roles.toml").chmod(0o640)
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: of_group(stat(path, **how), 0))
    assert [one.level for one in rights_checks.rights(ground(etc)) if "roles.toml" in one.text] == [ERROR]


def of_group(found: os.stat_result, gid: int) -> os.stat_result:
    """Return what is known of a file, as if it were of another group."""
    return os.stat_result([*found[:5], gid, *found[6:]])


def test_what_the_unit_hides_is_told_whatever_its_mode(etc: Path, tmp_path: Path) -> None:
    roles = tmp_path / "home" / "roles.toml"
    assert told(ground(etc, {"auth.roles": roles}), roles) == [
        f"{roles} (auth.roles) is in {tmp_path / 'home'}, which the unit hides. Put it elsewhere."
    ]


def test_a_directory_of_credentials_is_for_the_command_only(etc: Path) -> None:
    credentials = etc / "credentials"
    credentials.mkdir(mode=0o700)
    looked_at = ground(etc, {"executor.credentials": credentials}, serves=False)
    (text,) = told(looked_at, credentials)
    assert "Take the setting out: the unit gives credentials by LoadCredential=." in text
    flag = {**looked_at.settings.sources, "executor.credentials": "--executor-credentials"}
    assert told(replace(looked_at, settings=Settings(looked_at.settings.values, flag)), credentials) == []


def test_a_program_that_was_installed_for_root_alone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts, packages = tmp_path / "bin", tmp_path / "lib" / "site-packages"
    for path in (scripts, packages / "snapshotd" / "__pycache__"):
        path.mkdir(parents=True)
    files = (scripts / "snapshotd", packages / "snapshotd" / "__main__.py", tmp_path / "pyvenv.cfg")
    for path in (*files, packages / "snapshotd" / "__pycache__" / "x.pyc"):
        path.touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(scripts if name == "scripts" else packages))

    def found() -> list[str]:
        return [one.text for one in rights_checks.program() if re.search(rf"{tmp_path}/(bin|lib|pyvenv)", one.text)]

    for path in (tmp_path / "bin", *tmp_path.rglob("*")):
        path.chmod(0o755)
    (packages / "snapshotd" / "__pycache__").chmod(0o700)
    assert found() == []
    for path in files:
        path.chmod(0o700)
        os.chown(path, -1, 0) if os.geteuid() == 0 else None
    program = "(the program) is closed to the unit's user, so the unit fails. Run chmod"
    mend = f"Run chmod -R o+rX {packages}, and install with umask 022"
    assert found() == [
        f"{scripts}/snapshotd {program} o+rx {scripts}/snapshotd.",
        f"{tmp_path}/pyvenv.cfg {program} o+r {tmp_path}/pyvenv.cfg.",
        f"The unit's user may not read 1 file below {packages}, e.g. {files[1]}, so the unit fails. {mend}.",
    ]


def test_the_command_tells_the_doctor_who_looks_and_at_which_settings_file(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rights_checks.rights in CHECKS
    grounds: list[Ground] = []

    def seen(looked_at: Ground) -> list[Finding]:
        grounds.append(looked_at)
        return []

    monkeypatch.setattr("snapshotd.upkeep.doctor.CHECKS", (seen,))
    monkeypatch.setattr("snapshotd.upkeep.commands._UNIT_PLACES", (etc,))
    for uid, unit in (
        (0, ""),
        (0, "snapshotd-executor.service"),
        (0, "snapshotd.service"),
        (1000, "snapshotd.service"),
    ):
        (etc / (unit or "none")).touch()
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert main(["doctor", "--config", str(etc / "snapshotd.toml")]) == 0
    assert [one.for_unit for one in grounds] == [False, False, True, False]
    assert {one.config for one in grounds} == {etc / "snapshotd.toml"}
