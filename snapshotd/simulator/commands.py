"""A line of the kept process as a command (docs/host-protocol.md, 'Messages'). Carries nothing out."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Final

from google.protobuf import json_format

from snapshotd.api.v1.executor_pb2 import HostCommand
from snapshotd.simulator.effects import NEEDED, action_of, is_complete

PROTOCOL: Final = 1

_LONGEST_OPERATION: Final = 500
"""Characters; a slot of the journal has to hold them, escaped."""
_TYPES: Final = {"kind": str, "mode": str, "power": str, "before": dict, "offering": dict} | dict.fromkeys(NEEDED, dict)
"""Of the fields for which json_format takes more than the protocol allows: numbers for enums, lists for objects."""
_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_JOB: Final = re.compile(r"[0-9A-Za-z:{}._-]{1,200}", re.ASCII)
"""A job's InstanceID: what stands in a query is nothing else."""
READS: Final = frozenset({HostCommand.REPORT, HostCommand.POLL})
_OF_THE_HOST: Final = frozenset({HostCommand.REPORT, HostCommand.TAKE_OVER})
"""Commands that may name no VM."""


class InvalidCommand(Exception):
    """The line does not hold a command that this script understands."""


def parse(line: bytes) -> HostCommand:
    """Return the command in a line; unknown fields are ignored. Raises InvalidCommand."""
    try:
        document = json.loads(base64.b64decode(line, validate=True), object_pairs_hook=_fields)
        if not isinstance(document, dict):
            raise InvalidCommand("not a JSON object")
        command = json_format.ParseDict(document, HostCommand(), ignore_unknown_fields=True)
    except (binascii.Error, ValueError, RecursionError, json_format.Error) as error:
        raise InvalidCommand(f"not base64 of a HostCommand: {error}") from error
    if command.protocol != PROTOCOL:
        raise InvalidCommand(f"protocol {command.protocol}; this script speaks {PROTOCOL}")
    if command.kind == HostCommand.KIND_UNSPECIFIED:
        raise InvalidCommand("no kind that this script knows")
    if not _GUID.fullmatch(command.vm_id) and (command.vm_id or command.kind not in _OF_THE_HOST):
        raise InvalidCommand(f"vm_id {command.vm_id!r} is no GUID")
    _check_names(command)
    if command.kind in READS:
        return command
    if command.kind == HostCommand.TAKE_OVER and command.installation_id:
        return command
    if not command.installation_id or not 0 < len(command.operation) <= _LONGEST_OPERATION:
        raise InvalidCommand("installation_id and operation must be named, and fit the journal")
    if command.kind == HostCommand.EFFECT and not is_complete(command):
        raise InvalidCommand(f"{action_of(command) or 'EFFECT'} without what it needs to act")
    return command


def _check_names(command: HostCommand) -> None:
    """Check the names of what is looked for. Raises InvalidCommand."""
    if "" in command.files_delete.paths:
        raise InvalidCommand("paths names no file")
    if "" in command.watched_files:
        raise InvalidCommand("watched_files names no file")
    if "" in command.before.absent_files:
        raise InvalidCommand("absent_files names no file")
    if not all(map(_JOB.fullmatch, command.watched_jobs)):
        raise InvalidCommand("watched_jobs names no job")


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the fields of a JSON object that can be the protocol's. Raises ValueError for one that cannot."""
    wrong = [n for n, value in pairs if value is not None and not isinstance(value, _TYPES.get(n, object))]
    if wrong or len({n.lower() for n, _ in pairs}) < len(dict(pairs)):
        raise ValueError(f"one field by two names, or of another type: {wrong}")
    return {n: v for n, v in pairs if n.islower() and (_TYPES.get(n) is not str or str(v).isidentifier())}
