"""A file that people name is read if it is a regular one of bounded size; nobody waits for anything else."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshotd.hyperv.credentials import Credentials
from snapshotd.hyperv.no_answer import CredentialMissing
from snapshotd.settings import SettingsInvalid, load
from snapshotd.simulator.model.inventory import read_inventory
from snapshotd.simulator.model.truth import Truth
from snapshotd.small_file import read_small


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


def larger_at(path: Path) -> None:
    """Make a file of 1 TB, which takes no room."""
    with path.open("wb") as file:
        file.truncate(1 << 40)
    path.chmod(0o600)


MADE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a named pipe": (os.mkfifo, "it is a named pipe, and must be a regular file"),
    "a directory": (Path.mkdir, "it is a directory, and must be a regular file"),
    "a socket": (socket_at, "it is a socket, and must be a regular file"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, and must be a regular file"),
    "a terabyte": (larger_at, "it is larger than"),
}
"""What may be there, and the words for it."""


@pytest.fixture(params=MADE)
def there(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    make, words = MADE[request.param]
    path = tmp_path / "named"
    make(path)
    return path, words


def test_a_regular_file_is_read_up_to_its_last_byte_with_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    file.chmod(0o640)
    found = read_small(file, 100)
    assert (found.content, found.mode & 0o777) == (b"x" * 100, 0o640)
    with pytest.raises(OSError, match="larger than 99 bytes"):
        read_small(file, 99)


def test_a_file_that_is_not_there_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_small(tmp_path / "nosuch", 100)


def test_a_credential_is_read_from_nothing_else(there: tuple[Path, str]) -> None:
    path, words = there
    with pytest.raises(CredentialMissing, match=words):
        Credentials(path.parent, {}).find(path.name)


def test_nor_are_the_settings(there: tuple[Path, str]) -> None:
    path, words = there
    with pytest.raises(SettingsInvalid, match=words):
        load(path, {}, {})


def test_nor_is_a_simulated_hosts_inventory(there: tuple[Path, str]) -> None:
    path, words = there
    with pytest.raises(OSError, match=words):
        read_inventory(path)


def test_the_truth_of_a_simulated_host_is_written_to_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "truth")
    with pytest.raises(OSError, match="no regular file"):
        Truth(tmp_path / "truth")
