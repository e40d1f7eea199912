"""Commands and answers as lines of the kept process: base64 of JSON, one line each (docs/host-protocol.md).

This module only reads and writes documents. It touches no connection.
"""

from __future__ import annotations

import base64
import binascii
import json

from google.protobuf import json_format

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.domain.host_report import PROTOCOL
from snapshotd.hyperv.no_answer import MalformedAnswer

_EXCERPT = 200
"""How many characters of a malformed answer an error shows."""


def encode_command(command: HostCommand) -> bytes:
    """Return a command as a line for stdin, with its CRLF."""
    document = json_format.MessageToJson(command, preserving_proto_field_name=True, indent=None)
    return base64.b64encode(document.encode()) + b"\r\n"


def decode_answer(line: bytes) -> HostAnswer:
    """Return the answer in a line of stdout.

    Unknown fields and enum values are ignored, as the protocol requires. An unknown verdict is therefore unspecified,
    and is refused like a missing one. Raises MalformedAnswer with a bounded excerpt.
    """
    answer = HostAnswer()
    try:
        document = json.loads(base64.b64decode(line.strip(), validate=True))
        if not isinstance(document, dict):
            raise MalformedAnswer(f"the answer is not a JSON object: {_excerpt(line)}")
        json_format.ParseDict(document, answer, ignore_unknown_fields=True)
    except (binascii.Error, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise MalformedAnswer(f"the answer is not JSON in base64 ({type(error).__name__}): {_excerpt(line)}") from error
    except json_format.Error as error:
        raise MalformedAnswer(f"the answer does not follow the protocol: {str(error)[:_EXCERPT]}") from error
    if answer.protocol != PROTOCOL:
        raise MalformedAnswer(f"the answer is in protocol {answer.protocol}; this executor speaks {PROTOCOL}.")
    if answer.verdict == HostAnswer.VERDICT_UNSPECIFIED:
        raise MalformedAnswer("the answer has no verdict that this executor knows.")
    return answer


def _excerpt(line: bytes) -> str:
    return ascii(line[:_EXCERPT].decode("ascii", "replace"))
