"""Which of a host's errors a retry may get past. One table for HRESULTs, and one for error ids.

An HRESULT decides where the host names one: it says what went wrong, while OperationFailed says only that something
did. Texts are localised; the number in them is not (docs/hyperv.md, section 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final


class Grade(Enum):
    """What a retry can do about an error."""

    PASSES = "PASSES"
    """It may be gone next time."""
    FINAL = "FINAL"
    """It stays until somebody does something about it."""


HRESULTS: Final[Mapping[int, Grade]] = {
    0x80070020: Grade.PASSES,  # ERROR_SHARING_VIOLATION: the file is in use
    0x80070021: Grade.PASSES,  # ERROR_LOCK_VIOLATION
    0x800700AA: Grade.PASSES,  # ERROR_BUSY
    0x80070079: Grade.PASSES,  # ERROR_SEM_TIMEOUT: a disk or a network did not answer in time
    0x80070102: Grade.PASSES,  # WAIT_TIMEOUT
    0x800705AA: Grade.PASSES,  # ERROR_NO_SYSTEM_RESOURCES
    0x800705B4: Grade.PASSES,  # ERROR_TIMEOUT
    0x80070035: Grade.PASSES,  # ERROR_BAD_NETPATH: a file server that is away
    0x80070040: Grade.PASSES,  # ERROR_NETNAME_DELETED: likewise
    0x800706BA: Grade.PASSES,  # RPC_S_SERVER_UNAVAILABLE: the management service is starting
    0x800706BE: Grade.PASSES,  # RPC_S_CALL_FAILED: likewise
    0x80042313: Grade.PASSES,  # VSS_E_FLUSH_WRITES_TIMEOUT
    0x80042314: Grade.PASSES,  # VSS_E_HOLD_WRITES_TIMEOUT
    0x80042316: Grade.PASSES,  # VSS_E_SNAPSHOT_SET_IN_PROGRESS: a backup is at it
    0x800423F2: Grade.PASSES,  # VSS_E_WRITERERROR_TIMEOUT
    0x800423F3: Grade.PASSES,  # VSS_E_WRITERERROR_RETRYABLE
    0x800423F4: Grade.FINAL,  # VSS_E_WRITERERROR_NONRETRYABLE
    0x8004231F: Grade.FINAL,  # VSS_E_INSUFFICIENT_STORAGE
    0x80070070: Grade.FINAL,  # ERROR_DISK_FULL
    0x80070027: Grade.FINAL,  # ERROR_HANDLE_DISK_FULL
    0x8007000E: Grade.FINAL,  # E_OUTOFMEMORY: not enough memory for the VM
    0x80070002: Grade.FINAL,  # ERROR_FILE_NOT_FOUND
    0x80070003: Grade.FINAL,  # ERROR_PATH_NOT_FOUND
    0x80070005: Grade.FINAL,  # E_ACCESSDENIED
    0x80070013: Grade.FINAL,  # ERROR_WRITE_PROTECT
    0x80070017: Grade.FINAL,  # ERROR_CRC
    0x8007045D: Grade.FINAL,  # ERROR_IO_DEVICE
    0x80070570: Grade.FINAL,  # ERROR_FILE_CORRUPT
    0xC03A000E: Grade.FINAL,  # ERROR_VHD_CHILD_PARENT_ID_MISMATCH: the chain of disks is broken
}
"""What Windows' numbers mean is documented; that they come with the errors of Hyper-V is observed for few of them."""

_IDS_THAT_PASS: Final = frozenset({"ObjectInUse", "InvalidState"})
"""Refusals that a retry may get past. Any other refusal is final."""
_IDS_OF_FAILURE: Final = frozenset({"OperationFailed"})
"""After an observation has found no effect: the host has said that it cannot (no VSS). Any other error passes."""
_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z])0x([0-9A-Fa-f]{8})(?![0-9A-Za-z])")


def may_pass(error_id: str, message: str, *, refused: bool) -> bool:
    """Return whether a retry may get past a host's error.

    Args:
        error_id: its FullyQualifiedErrorId; empty: the host has told of no error.
        message: its text. Of several numbers in it one that is final decides.
        refused: the host has refused to begin; else an observation has found that there was no effect.
    """
    numbers = (int(number, 16) for number in _NUMBER.findall(message)) if error_id else ()
    grades = {HRESULTS[number] for number in numbers if number in HRESULTS}
    if grades:
        return Grade.FINAL not in grades
    name = error_id.partition(",")[0]
    return name in _IDS_THAT_PASS if refused else name not in _IDS_OF_FAILURE
