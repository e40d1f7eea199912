"""What comes from outside is cut, or refused, by one table; a field that the table does not name has a limit too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.domain.host_report import Verdict
from snapshotd.server.host_wire import from_outcome
from snapshotd.server.wire_limits import TooLong, bound

VM = "11111111-1111-4111-8111-111111111111"
LARGE = 5_000_000


def strings(descriptor: Descriptor, path: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yield the way to every text in a message."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*path, field)
        elif field.message_type is not None and field.message_type.file is descriptor.file:
            yield from strings(field.message_type, (*path, field))


def put(message: Message, path: tuple[FieldDescriptor, ...], text: str) -> None:
    """Set the text at the end of a path."""
    *through, last = path
    for field in through:
        message = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
        message.SetInParent()
    if last.is_repeated:
        getattr(message, last.name).append(text)
    else:
        setattr(message, last.name, text)


def refused(message: Message) -> bool:
    """Bound a message; return whether it is refused as too long."""
    try:
        bound(message)
    except TooLong:
        return True
    return False


def named(path: tuple[FieldDescriptor, ...]) -> str:
    """Name a path."""
    return ".".join(field.name for field in path)


@pytest.mark.parametrize("path", tuple(strings(pb.CommandOutcome.DESCRIPTOR)), ids=named)
def test_no_text_of_an_outcome_is_taken_in_at_any_length(path: tuple[FieldDescriptor, ...]) -> None:
    outcome = pb.CommandOutcome()
    put(outcome, path, "x" * LARGE)
    assert refused(outcome) or outcome.ByteSize() < 10_000


@pytest.mark.parametrize("path", tuple(strings(pb.Hello.DESCRIPTOR)), ids=named)
def test_no_text_of_a_hello_is_taken_in_at_any_length(path: tuple[FieldDescriptor, ...]) -> None:
    hello = pb.Hello()
    put(hello, path, "x" * LARGE)
    assert refused(hello) or hello.ByteSize() < 10_000


def test_a_hosts_error_text_is_cut_and_says_so() -> None:
    answer = pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.FAILED)
    answer.error.message, answer.error.id = "x" * 7_000_000, "y" * 7_000_000
    taken = from_outcome(pb.CommandOutcome(answer=answer))
    assert taken.verdict is Verdict.FAILED
    assert (len(taken.error_message), len(taken.error_id)) == (2_000, 300)
    assert taken.error_message.endswith("x…")


def test_why_no_answer_came_is_cut() -> None:
    outcome = pb.CommandOutcome(no_answer=pb.NoAnswer(reason=pb.NoAnswer.CONNECTION_LOST, detail="x" * LARGE))
    assert len(from_outcome(outcome).error_message) == 2_000


def reported(**fields: object) -> pb.CommandOutcome:
    """Return a report of one VM."""
    answer = pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.REPORTED)
    vm = answer.vms.add(vm_id=VM, present=True, power=pb.RUNNING)
    vm.journal.state = pb.JournalReport.MISSING
    for name, value in fields.items():
        getattr(vm, name).extend(value)
    return pb.CommandOutcome(answer=answer)


@pytest.mark.parametrize(
    "outcome",
    [
        reported(activities=["MERGE"] * 101),
        reported(existing_files=["x"] * 10_001),
        reported(existing_files=["x" * 32_768]),
        reported(checkpoints=[pb.CheckpointReport(checkpoint_id=VM)] * 1_001),
        reported(checkpoints=[pb.CheckpointReport(checkpoint_id=VM, name="x" * 1_001)]),
        reported(checkpoints=[pb.CheckpointReport(checkpoint_id="no id")]),
        reported(disks=[pb.DiskReport()] * 1_001),
        reported(disks=[pb.DiskReport(path="x" * 32_768)]),
        reported(files=[pb.FileReport(parent_path="x" * 32_768)]),
        reported(files=[pb.FileReport(path="x", file_bytes=2**53 + 1)]),
        reported(files=[pb.FileReport(path="x", file_bytes=-1)]),
        reported(checkpoints=[pb.CheckpointReport(checkpoint_id=VM, system_files_bytes=2**63 - 1)]),
        pb.CommandOutcome(answer=pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.STALE, highest_token=2**62)),
        pb.CommandOutcome(
            answer=pb.HostAnswer(
                protocol=1, verdict=pb.HostAnswer.REPORTED, vms=[pb.VmReport(vm_id=VM, present=True, cpu_count=2**31)]
            )
        ),
        pb.CommandOutcome(
            answer=pb.HostAnswer(protocol=1, verdict=pb.HostAnswer.REPORTED, host_time={"seconds": 10**18})  # type: ignore[arg-type]
        ),
    ],
)
def test_what_would_mean_something_else_when_cut_breaks_the_protocol(outcome: pb.CommandOutcome) -> None:
    answer = from_outcome(outcome)
    assert (answer.verdict, answer.error_id) == (Verdict.NO_ANSWER, "MALFORMED_ANSWER")
    assert len(answer.error_message) < 500


def test_what_a_large_vm_reports_is_taken_in_whole() -> None:
    disks = [pb.DiskReport(location="SCSI:0:1", path="c" * 250)] * 64
    checkpoints = [pb.CheckpointReport(checkpoint_id=VM, name="n" * 100, disks=disks)] * 50
    files = [pb.FileReport(path="f" * 250, parent_path="g" * 250)] * 4_000
    outcome = reported(checkpoints=checkpoints, files=files, existing_files=["f" * 260] * 4_000)
    assert from_outcome(outcome).verdict is Verdict.REPORTED
