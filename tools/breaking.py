"""Fails if the protos break callers of the last release, or, before there is one, of main. Needs no network.

the commit of the last release tag (v*), or else of main ──git archive──► descriptor set ──┐
protos/ as they are here ───────────────────────────────────────────────► descriptor set ──┴─► buf breaking

python -m tools.breaking
"""

import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from tools.protos import ROOT, SCRIPTS, GenerationError, describe


class NothingToCompare(GenerationError):
    """There is no commit to compare the protos with."""


RELEASES = "v[0-9]*"
"""What the tags of releases look like."""
MAINS = ("refs/remotes/origin/main", "refs/heads/main")
"""Where main may be: as the remote has it, or here."""


def main(root: Path = ROOT) -> int:
    """Compare; return 0, 1 if callers would break, or 2 if that could not be found out.

    Where there is nothing to compare with, as in a shallow clone or an exported tree, that is said, and is no failure.
    """
    try:
        base = base_of(root)
        with tempfile.TemporaryDirectory(prefix="snapshotd-breaking-") as folder:
            before, now = Path(folder) / "before.binpb", Path(folder) / "now.binpb"
            describe(before, _protos_of(root, base, Path(folder) / "before"))
            describe(now, root / "protos")
            command = [str(SCRIPTS / "buf"), "breaking", str(now), "--against", str(before), "--exclude-imports"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except NothingToCompare as error:
        print(f"breaking: NOT CHECKED. {error}", file=sys.stderr)
        return 0
    except GenerationError as error:
        print(f"breaking: {error}", file=sys.stderr)
        return 2
    if done.returncode:
        print(f"breaking: the protos break callers of {base}:\n{done.stdout}{done.stderr}".rstrip(), file=sys.stderr)
        return 1
    return 0


def base_of(root: Path) -> str:
    """Return what the protos are compared with: the tag of the last release before, or else the commit of main.

    Raises NothingToCompare if this is no clone with its history.
    """
    if _git(root, "rev-parse", "--is-shallow-repository") != b"false\n":
        message = (
            "Cannot compare the protos with those of the last release: this clone is shallow, and does not hold them. "
            "Run `git fetch --unshallow --tags`."
        )
        raise NothingToCompare(message)
    if _git(root, "tag", "--list", "--merged", "HEAD", RELEASES):
        return _git(root, "describe", "--tags", "--abbrev=0", f"--match={RELEASES}", "HEAD").decode().strip()
    known = _git(root, "for-each-ref", "--format=%(refname)", *MAINS).decode().split()
    for name in MAINS:
        if name in known:  # where this branch left it: what others have added since is not there, but not taken away
            return _git(root, "merge-base", "HEAD", name).decode().strip()
    message = (
        "Cannot compare the protos: there is neither a release tag nor main. Run `git fetch --tags origin main:main`."
    )
    raise NothingToCompare(message)


def _protos_of(root: Path, commit: str, target: Path) -> Path:
    """Extract the protos of a commit; return their folder."""
    with tarfile.open(fileobj=BytesIO(_git(root, "archive", commit, "protos"))) as archive:
        # One by one: Python 3.11.2 knows no filters of extractall, and later ones warn if it has none.
        for member in archive:
            if (content := archive.extractfile(member)) is not None:
                (target / member.name).parent.mkdir(parents=True, exist_ok=True)
                (target / member.name).write_bytes(content.read())
    return target / "protos"


def _git(root: Path, *arguments: str) -> bytes:
    """Run git; return what it prints. Raises NothingToCompare with what it says otherwise."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except OSError as error:
        message = f"Cannot compare the protos with those of the last release: git is needed for that ({error})."
        raise NothingToCompare(message) from error
    if done.returncode:
        message = f"Cannot compare the protos: git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}"
        raise NothingToCompare(message)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
