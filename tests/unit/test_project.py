"""What holds the project's files together: the lock covers pyproject.toml, and tells nothing about any machine."""

import re
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = tuple(PROJECT["project"]["dependencies"])
DEVELOPMENT = tuple(PROJECT["dependency-groups"]["dev"])
EXTRAS = tuple(PROJECT["project"]["optional-dependencies"]["traces"])


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Return a lock's version and number of hashes for each package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^([a-z0-9-]+)==(\S+)(.*)$", text, flags=re.MULTILINE)
    return {package: (exact, rest.count("--hash=sha256:")) for package, exact, rest in found}


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        *(("runtime", text) for text in RUNTIME),
        *(("extras", text) for text in (*RUNTIME, *EXTRAS)),
        *(("dev", text) for text in (*RUNTIME, *DEVELOPMENT)),
    ],
)
def test_a_dependency_is_locked_at_a_version_that_pyproject_allows(lock: str, wanted: str) -> None:
    requirement = Requirement(wanted)
    exact, _ = locked(lock)[requirement.name]
    assert requirement.specifier.contains(Version(exact)), "run 'make lock'"


@pytest.mark.parametrize("lock", ["runtime", "extras", "dev"])
def test_every_line_of_a_lock_is_a_version_or_a_hash(lock: str) -> None:
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()
    form = re.compile(r"[a-z0-9-]+==[\w.+]+( ; [^:]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|( {4})?#[^/]*")
    assert [line for line in lines if not form.fullmatch(line)] == []
    assert all(hashes > 0 for _, hashes in locked(lock).values())


@pytest.mark.parametrize("lock", ["runtime", "extras"])
def test_what_runs_is_tested_at_the_same_version(lock: str) -> None:
    tested = locked("dev")
    assert {name: exact for name, exact in locked(lock).items() if tested.get(name) != exact} == {}


def test_the_installed_project_is_this_one() -> None:
    assert version("snapshotd") == PROJECT["project"]["version"]
    commands = {found.name: found.value for found in entry_points(group="console_scripts")}
    assert PROJECT["project"]["scripts"].items() <= commands.items()
