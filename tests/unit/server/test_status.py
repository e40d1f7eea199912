"""Every error has a code and exactly one ErrorInfo, whose values are the error's own."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from importlib import import_module
from pkgutil import walk_packages

import grpc
import pytest
from google.longrunning import operations_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure

import snapshotd
from snapshotd.api.v1 import admin_pb2, audit_pb2, executor_pb2, host_pb2, snapshot_pb2, virtual_machine_pb2
from snapshotd.client.__main__ import _parser
from snapshotd.dispatch.watch import Wait
from snapshotd.domain.errors import InvalidArgument, NotFound, OperationActive, SnapshotdError, WrongPower
from snapshotd.domain.operation import Failure
from snapshotd.server.operation_messages import failure_message, wait_message
from snapshotd.server.status import failure_status, to_status, wire_size


def every_error() -> list[SnapshotdError]:
    """Make one of each error of snapshotd, wherever it stands."""
    for module in walk_packages(snapshotd.__path__, "snapshotd."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    return [cls(*("7" if f.type == "str" else 7 for f in fields(cls))) for cls in descendants(SnapshotdError)]  # type: ignore[arg-type]  # leaves are dataclasses


def descendants(cls: type[SnapshotdError]) -> Iterator[type[SnapshotdError]]:
    """Find the leaves below a class in snapshotd: what is raised. A root that several share is none."""
    for below in cls.__subclasses__():
        if below.__module__.startswith("snapshotd."):
            yield from descendants(below) if below.__subclasses__() else (below,)


@pytest.mark.parametrize("error", every_error(), ids=lambda e: type(e).__name__)
def test_each_error_has_a_code_and_one_error_info(error: SnapshotdError) -> None:
    status = to_status(error)
    assert status.code not in (grpc.StatusCode.OK.value[0], grpc.StatusCode.INTERNAL.value[0])
    infos = [d for d in status.details if d.TypeName() == ErrorInfo.DESCRIPTOR.full_name]
    assert len(infos) == 1
    info = ErrorInfo()
    infos[0].Unpack(info)
    assert (info.domain, info.reason) == ("snapshotd", error.reason)
    assert dict(info.metadata) == error.metadata()
    assert status.message == error.message() != ""


def test_bad_arguments_carry_a_bad_request_that_names_the_field() -> None:
    status = to_status(InvalidArgument("page_size", "-1", "must not be negative."))
    detail = BadRequest()
    assert status.details[1].Unpack(detail)
    assert detail.field_violations[0].field == "page_size"


def test_a_state_that_forbids_it_carries_a_precondition_failure() -> None:
    status = to_status(WrongPower(vm="web01", power="RUNNING", needed="STOPPED", action="Start", host="hv01"))
    detail = PreconditionFailure()
    assert status.details[1].Unpack(detail)
    assert (detail.violations[0].type, detail.violations[0].subject) == ("WRONG_POWER_STATE", "web01")


def test_a_busy_vm_is_aborted_and_names_the_operation() -> None:
    status = to_status(OperationActive("web01", "operations/a.1", "CREATE_SNAPSHOT", "1 CREATE ISSUED", 5, "ann"))
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert status.code == grpc.StatusCode.ABORTED.value[0]
    assert info.metadata["operation"] == "operations/a.1"


def test_what_is_not_found_is_named_in_the_reason() -> None:
    assert NotFound("virtual machine", "x").reason == "VIRTUAL_MACHINE_NOT_FOUND"


def test_a_failed_operation_keeps_the_hosts_error_id() -> None:
    status = failure_status(Failure(reason="HOST_ERROR", message="No.", error_id="InvalidState,CheckpointVM"))
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.metadata["error_id"] == "InvalidState,CheckpointVM"


METHODS = {
    method.name
    for module in (host_pb2, virtual_machine_pb2, snapshot_pb2, audit_pb2, admin_pb2, executor_pb2, operations_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@pytest.mark.parametrize("error", every_error(), ids=lambda e: type(e).__name__)
def test_no_error_sends_people_to_a_method_of_the_api(error: SnapshotdError) -> None:
    assert not METHODS & set(re.findall(r"\w+", error.message()))


@pytest.mark.parametrize("error", every_error(), ids=lambda e: type(e).__name__)
def test_a_command_that_an_error_names_is_one(error: SnapshotdError) -> None:
    for command in re.findall(r"`snapshotctl ([^`]*)`", error.message()):
        words = [{"HOST": "h", "VM": "v"}.get(word, word) for word in command.split()]
        assert _parser({}).parse_args(words).run


@pytest.mark.parametrize("error", every_error(), ids=lambda e: type(e).__name__)
def test_a_command_that_an_error_names_can_be_copied_whatever_the_vm_is_called(error: SnapshotdError) -> None:
    named = type(error)(**{f.name: "Db 02" if f.name == "vm" else "7" if f.type == "str" else 7 for f in fields(error)})  # type: ignore[arg-type]  # leaves are dataclasses
    for command in re.findall(r"`snapshotctl ([^`]*)`", named.message()):
        words = shlex.split(command)
        assert "HOST" not in words
        assert [word for word in words if "Db" in word or "02" in word] in ([], ["Db 02"])


def ascii_name(text: str) -> str:
    """Name a long value in a test's id."""
    return ascii(text[:2])


LONG = ("_" * 20_000, "é%" * 10_000, "\U0001f4a5" * 20_000, "\x1b" * 20_000)


def with_values(error: SnapshotdError, value: str) -> SnapshotdError:
    """Return an error of the same kind, with this in each of its texts that is not a word of our own."""
    own = ("kind", "field")
    values = {f.name: value if f.type == "str" and f.name not in own else 7 for f in fields(error)}  # type: ignore[arg-type]
    values |= {name: "kind" for name in own if name in values}
    return type(error)(**values)


@pytest.mark.parametrize("value", LONG, ids=ascii_name)
@pytest.mark.parametrize("error", every_error(), ids=lambda e: type(e).__name__)
def test_no_value_is_too_long_for_grpcs_metadata(error: SnapshotdError, value: str) -> None:
    long, short = to_status(with_values(error, value)), to_status(error)
    assert wire_size(long) < 7_500
    assert long.code == short.code
    assert len(long.details) == len(short.details)


@pytest.mark.parametrize("error", every_error(), ids=lambda e: type(e).__name__)
def test_half_a_surrogate_pair_which_json_may_hold_and_utf_8_cannot_is_escaped(error: SnapshotdError) -> None:
    assert to_status(with_values(error, "\ud800")).ByteSize()


def test_a_long_value_is_cut_and_what_to_do_is_said_all_the_same() -> None:
    status = to_status(InvalidArgument("host.address", "_" * 20_000, "must be a DNS name or an IP address."))
    assert status.message.startswith("Cannot accept host.address '____")
    assert status.message.endswith("_…': must be a DNS name or an IP address.")
    detail = BadRequest()
    assert status.details[1].Unpack(detail)
    assert detail.field_violations[0].field == "host.address"
    assert NotFound("virtual machine", "x" * 20_000).reason in str(to_status(NotFound("virtual machine", "x" * 20_000)))


@pytest.mark.parametrize("value", LONG, ids=ascii_name)
def test_a_failure_of_a_host_that_says_much_is_cut(value: str) -> None:
    assert wire_size(failure_status(Failure(reason="HOST_ERROR", message=value, error_id=value))) < 7_500


def test_the_hosts_error_id_is_in_the_words_of_a_wait_and_of_a_failure_once() -> None:
    for message in ("Access is denied.", "Access is denied. (JournalFailed,snapshotd)"):
        failure = Failure(reason="HOST_SCRIPT_FAILED", message=message, error_id="JournalFailed,snapshotd")
        wait = wait_message(Wait(failure, datetime(2026, 1, 1, tzinfo=UTC)))
        told = failure_message(failure, None)
        assert wait is not None
        assert told is not None
        texts = {wait.message, told.message, failure_status(failure).message}
        assert texts == {"Access is denied. (JournalFailed,snapshotd)"}
