"""Every error has a code and exactly one ErrorInfo, whose values are the error's own."""

from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pkgutil import walk_packages

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure

import snapshotd
from snapshotd.domain.errors import InvalidArgument, NotFound, OperationActive, SnapshotError, WrongPower
from snapshotd.domain.operation import Failure
from snapshotd.server.status import failure_status, to_status


def every_error() -> list[SnapshotError]:
    """Make one of each error of snapshotd, wherever it stands."""
    for module in walk_packages(snapshotd.__path__, "snapshotd."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    return [cls(*("7" if f.type == "str" else 7 for f in fields(cls))) for cls in descendants(SnapshotError)]  # type: ignore[arg-type]  # leaves are dataclasses


def descendants(cls: type[SnapshotError]) -> Iterator[type[SnapshotError]]:
    """Find the subclasses of a class in snapshotd, and theirs."""
    for below in cls.__subclasses__():
        if below.__module__.startswith("snapshotd."):
            yield below
            yield from descendants(below)


@pytest.mark.parametrize("error", every_error(), ids=lambda e: type(e).__name__)
def test_each_error_has_a_code_and_one_error_info(error: SnapshotError) -> None:
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
    status = to_status(WrongPower(vm="web01", power="RUNNING", needed="STOPPED", action="Start"))
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
