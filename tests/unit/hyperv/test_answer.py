"""Commands and answers as lines."""

from __future__ import annotations

import base64
import json

import pytest

from snapshotd.api.v1.executor_pb2 import HostAnswer, HostCommand
from snapshotd.hyperv.answer import decode_answer, encode_command
from snapshotd.hyperv.no_answer import MalformedAnswer


def line(document: object) -> bytes:
    return base64.b64encode(json.dumps(document).encode()) + b"\r\n"


def test_a_command_is_one_line_of_base64_with_the_protos_own_field_names() -> None:
    command = HostCommand(protocol=1, kind=HostCommand.EFFECT, vm_id="vm", token=2**40)
    command.checkpoint_create.checkpoint_name = 'it\'s "quoted" `$(x)` \u2018so\u2019\n\0 #1'
    encoded = encode_command(command)
    assert encoded.endswith(b"\r\n")
    assert encoded.count(b"\n") == 1
    document = json.loads(base64.b64decode(encoded))
    assert document["kind"] == "EFFECT"
    assert document["checkpoint_create"]["checkpoint_name"] == command.checkpoint_create.checkpoint_name


def test_unknown_fields_are_ignored_and_numbers_may_be_strings_or_numbers() -> None:
    answer = decode_answer(
        line(
            {"protocol": 1, "verdict": "STALE", "highest_token": "17", "news": 1, "vms": [{"memory_bytes": 4, "x": {}}]}
        )
    )
    assert (answer.verdict, answer.highest_token, answer.vms[0].memory_bytes) == (HostAnswer.STALE, 17, 4)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\r\n",
        b"not base64!\r\n",
        base64.b64encode(b"\xff\xfe"),
        base64.b64encode(b"{"),
        base64.b64encode(b"[" * 100_000),
        line([]),
        line(None),
        line({}),
        line({"protocol": 1}),
        line({"protocol": 1, "verdict": "SOMETHING_NEW"}),
        line({"protocol": 2, "verdict": "DONE"}),
        line({"protocol": 1, "verdict": "DONE", "vms": "none"}),
        line({"protocol": 1, "verdict": "DONE", "host_time": "yesterday"}),
        line({"protocol": 1, "verdict": "DONE", "highest_token": 1.5}),
    ],
)
def test_what_does_not_follow_the_protocol_is_malformed_and_shown_in_bounds(text: bytes) -> None:
    with pytest.raises(MalformedAnswer) as caught:
        decode_answer(text)
    assert len(str(caught.value)) < 600
