"""Protos that break callers of the last release are found, and a clone that cannot tell says so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.breaking import NothingToCompare, base_of, main
from tools.protos import ROOT

SNAPSHOT = Path("protos/snapshotd/api/v1/snapshot.proto")
FIELD = "  bool allow_fallback = "


def git(root: Path, *arguments: str) -> None:
    """Run git as nobody in particular."""
    who = ("-c", "user.name=ann", "-c", "user.email=ann@example.com", "-c", "init.defaultBranch=main")
    signing = ("-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false")
    subprocess.run(["git", *who, *signing, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    """Commit everything."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", f"change in {root}")


def head(root: Path) -> str:
    """Return the id of the last commit."""
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
    return told.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "clone"
    shutil.copytree(ROOT / "protos", root / "protos")
    git(root, "init", "-q")
    commit(root)
    return root


def change(root: Path, old: str, new: str) -> None:
    """Change the proto of snapshots."""
    text = (root / SNAPSHOT).read_text(encoding="utf-8")
    assert old in text
    (root / SNAPSHOT).write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.slow
def test_a_field_that_goes_is_found_and_one_that_comes_is_not(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit_id = head(clone)
    assert base_of(clone) == commit_id
    change(clone, FIELD, f"  bool one_more = 99;\n{FIELD}")
    assert (main(clone), capsys.readouterr().err) == (0, "")
    change(clone, FIELD, "  bool renamed = ")
    assert main(clone) == 1
    said = capsys.readouterr().err
    assert f"the protos break callers of {commit_id}" in said
    assert "allow_fallback" in said


@pytest.mark.slow
def test_what_was_released_counts_and_not_what_has_come_to_main_since(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "tag", "v0.9.0")
    git(clone, "tag", "-a", "-m", "release", "v1.0.0")
    git(clone, "tag", "venue")
    change(clone, FIELD, f"  bool one_more = 99;\n{FIELD}")
    commit(clone)
    assert base_of(clone) == "v1.0.0"
    change(clone, "  bool one_more = 99;\n", "")
    commit(clone)
    assert main(clone) == 0, "what no release has can go again"
    change(clone, FIELD, "  bool renamed = ")
    commit(clone)
    assert main(clone) == 1, "though main has it already"
    assert "callers of v1.0.0" in capsys.readouterr().err


def test_main_is_that_of_the_remote_where_the_branch_left_it(clone: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(clone), "other")
    left = head(clone)
    commit(tmp_path / "other")
    assert base_of(tmp_path / "other") == left
    commit(clone)
    git(tmp_path / "other", "fetch", "-q")
    assert base_of(tmp_path / "other") == left, "this branch has not removed what others have added to main since"


def test_a_clone_without_its_history_says_what_to_do(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(clone)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{clone}", "shallow")
    assert main(tmp_path / "shallow") == 0, "what was exported can be checked and built too"
    said = capsys.readouterr().err
    assert "NOT CHECKED" in said
    assert "this clone is shallow" in said
    git(clone, "branch", "-m", "feature")
    with pytest.raises(NothingToCompare, match="neither a release tag nor main"):
        base_of(clone)
    (tmp_path / "no clone").mkdir()
    with pytest.raises(NothingToCompare, match="git rev-parse"):
        base_of(tmp_path / "no clone")
