"""The host's journal files, as docs/host-protocol.md defines them: two slots a VM.

Reads and writes them, whichever engine wrote them before. Never decides what a journal means for a command.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from snapshotd.domain.state import replace

if TYPE_CHECKING:
    from pathlib import Path

SLOT_BYTES = 4096
"""A slot; a file has two."""

_DIGEST_CHARS = 64
_PAYLOAD_BYTES = SLOT_BYTES - _DIGEST_CHARS - len(" \n")

_INT32 = (1 << 31) - 1
_INT64 = (1 << 63) - 1
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:\d\d)", re.ASCII)

Phase = Literal["", "BEGUN", "DONE"]
Output = Mapping[str, object]
"""What an action has made, as a JSON object; empty: nothing."""


class JournalUnreadable(Exception):
    """The file is there but cannot be relied on. Never the same as 'not begun'."""


class JournalChanged(Exception):
    """Another script has written it since it was read: on another node of a cluster, say, which has its own mutex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """The payload of one slot."""

    vm: str
    """The VM's id, as the command wrote it."""
    id: str
    """Random id of the journal, made with it."""
    seq: int = 0
    """Writes so far; write_journal counts it."""
    token: int = 0
    """The highest token seen."""
    operation: str = ""
    """The last step begun: "operations/….1-0a0b0c0d"; empty: none."""
    step: int = 0
    phase: Phase = ""
    deadline: datetime | None = None
    """Of the last step begun."""
    begun_at: datetime | None = None
    begun_token: int = 0
    """Of the command that began the step."""
    pid: int = 0
    """The process that began it; 0: none."""
    pid_started: str = ""
    """When that process started, as its engine writes it; compared letter by letter."""
    owed_checkpoint_type: str = ""
    """The VM's own CheckpointType while a command has set another; empty: none is owed."""
    temporary_checkpoint_type: str = ""
    """The one that the command has set; empty: not known, as with a restore."""
    output: Output = field(default_factory=dict)
    """Of the action of a step that is DONE."""


def journal_path(directory: Path, vm_id: str) -> Path:
    """Return where the journal of a VM is."""
    return directory / f"{vm_id.lower()}.journal"


def read_journal(directory: Path, vm_id: str) -> JournalEntry | None:
    """Return the newest valid entry of a VM's journal.

    Returns:
        None when there is no such file.

    Raises:
        JournalUnreadable: no slot is valid, or the newest one names another VM or is of an unknown layout.

    """
    path = journal_path(directory, vm_id)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    newest = _newest(content, path)
    if newest is None:
        raise JournalUnreadable(f"{path}: neither slot is valid")
    entry, _slot = newest
    if entry.vm.lower() != vm_id.lower():
        raise JournalUnreadable(f"{path}: is the journal of VM {entry.vm}")
    return entry


def write_journal(directory: Path, entry: JournalEntry, *, durable: bool = True) -> JournalEntry:
    """Write an entry to the slot that does not hold the newest one, or a new file over an unreadable or missing one.

    Args:
        directory: Made if it is missing.
        entry: Its seq is that of the entry that was read, or 0; it is counted here.
        durable: Write through to the disk. Without, it outlives the process but not the machine.

    Returns:
        The entry as written.

    Raises:
        JournalChanged: the newest one is not the one that was read. Nothing is written.

    """
    path = journal_path(directory, entry.vm)
    directory.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        # What FileShare.None of the other engine is here, too: nobody writes between the comparison and the write.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        newest: tuple[JournalEntry, int] | None = None
        with suppress(JournalUnreadable):
            newest = _newest(file.read(), path)
        if newest is not None and newest[0].vm.lower() != entry.vm.lower():
            newest = None
        known, slot = newest or (None, 1)
        if entry.seq != (known.seq if known else 0):
            raise JournalChanged(f"{path} was written by another script meanwhile.")
        written = replace(entry, seq=entry.seq + 1)
        # The other slot of a new journal is blanked: it may hold a higher seq of the VM that the file belonged to.
        blank = b"" if known else b" " * (SLOT_BYTES - 1) + b"\n"
        write_through(path, (1 - slot) * SLOT_BYTES, _slot_of(written) + blank, durable=durable)
    return written


def try_to_write(directory: Path) -> None:
    """Try whether journals can be written, and leave nothing behind but the directory. Raises OSError if not."""
    directory.mkdir(parents=True, exist_ok=True)
    probe = directory / f"probe.{uuid.uuid4().hex}"
    try:
        probe.write_bytes(bytes(2 * SLOT_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def _newest(content: bytes, path: Path) -> tuple[JournalEntry, int] | None:
    """Return the valid entry with the highest seq, and its slot's number; None: no slot is valid."""
    found = [
        (_parsed(payload, path), slot)
        for slot in (0, 1)
        if (payload := _payload_of(content[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES])) is not None
    ]
    return max(found, key=lambda each: each[0].seq, default=None)


def _payload_of(slot: bytes) -> bytes | None:
    """Return the payload of a slot whose digest is right."""
    if len(slot) != SLOT_BYTES or slot[_DIGEST_CHARS : _DIGEST_CHARS + 1] != b" ":
        return None
    payload = slot[_DIGEST_CHARS + 1 :].rstrip(b" \n")
    digest = hashlib.sha256(payload).hexdigest().encode()
    return payload if slot[:_DIGEST_CHARS].lower() == digest else None


def _parsed(payload: bytes, path: Path) -> JournalEntry:
    """Return the entry in a payload whose digest is right.

    Raises JournalUnreadable for what this release does not understand: to fall back on the older slot would forget
    the highest token.
    """
    try:
        fields = json.loads(payload)
        if _whole(fields["v"], 1) != 1:
            raise JournalUnreadable(f"{path}: layout {fields['v']}")
        phase = _string(fields["phase"])
        if phase not in ("", "BEGUN", "DONE"):
            raise JournalUnreadable(f"{path}: phase {phase!r}")
        return JournalEntry(
            seq=_whole(fields["seq"], _INT64),
            vm=_string(fields["vm"]),
            id=_string(fields["id"]),
            token=_whole(fields["token"], _INT64),
            operation=_string(fields["operation"]),
            step=_whole(fields["step"], _INT32),
            phase=phase,  # type: ignore[arg-type]  # checked above
            begun_token=_whole(fields["begun_token"], _INT64),
            deadline=_time(fields["deadline"]),
            begun_at=_time(fields["begun_at"]),
            pid=_whole(fields["pid"], _INT32),
            pid_started=_string(fields["pid_started"]),
            owed_checkpoint_type=_string(fields["owed_checkpoint_type"]),
            temporary_checkpoint_type=_string(fields["temporary_checkpoint_type"]),
            output=_object(fields["output"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JournalUnreadable(f"{path}: {error!r}") from error


def _slot_of(entry: JournalEntry) -> bytes:
    fields = {
        "v": 1,
        "seq": entry.seq,
        "vm": entry.vm,
        "id": entry.id,
        "token": entry.token,
        "operation": entry.operation,
        "step": entry.step,
        "phase": entry.phase,
        "begun_token": entry.begun_token,
        "deadline": _text(entry.deadline),
        "begun_at": _text(entry.begun_at),
        "pid": entry.pid,
        "pid_started": entry.pid_started,
        "owed_checkpoint_type": entry.owed_checkpoint_type,
        "temporary_checkpoint_type": entry.temporary_checkpoint_type,
        "output": entry.output,
    }
    payload = json.dumps(fields, separators=(",", ":")).encode("ascii")
    if len(payload) > _PAYLOAD_BYTES:
        raise OSError(f"a journal entry of {len(payload)} bytes does not fit a slot")
    return hashlib.sha256(payload).hexdigest().encode() + b" " + payload.ljust(_PAYLOAD_BYTES) + b"\n"


def _whole(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"no whole number: {value!r}")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"no text: {value!r}")  # noqa: TRY004  (the file's fault, not ours)
    return value


def _object(value: object) -> Output:
    if not isinstance(value, dict):
        raise ValueError(f"no object: {value!r}")  # noqa: TRY004  (the file's fault, not ours)
    return value


def _time(value: object) -> datetime | None:
    text = _string(value)
    if text and not _TIME.fullmatch(text):
        raise ValueError(f"no time: {text!r}")
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _text(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def write_through(path: Path, offset: int, content: bytes, *, durable: bool) -> None:
    """Write to a place in a file, which is made if it is missing; `durable`: through to the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        written = os.pwrite(handle, content, offset)
        assert written == len(content), f"{path}: {written} of {len(content)} bytes written"
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)
