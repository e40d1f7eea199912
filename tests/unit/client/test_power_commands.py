"""`snapshotctl vm start`, `stop` and `restart`: what each way to stop sends, and how its plan reads."""

from __future__ import annotations

import pytest
from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message

from snapshotd.api.v1.executor_pb2 import RUNNING
from snapshotd.api.v1.operation_pb2 import OperationMetadata, Plan, Step
from snapshotd.api.v1.virtual_machine_pb2 import RestartVirtualMachineRequest, StopVirtualMachineRequest
from tests.unit.client.fake_service import Ctl, FakeService

VM = "virtualMachines/11111111-2222-3333-4444-555555555501"
MODES = StopVirtualMachineRequest


def accepted(request: Message) -> Operation:
    """Accept a request."""
    return Operation(name="operations/11111111-2222-3333-4444-555555555501.1")


@pytest.mark.parametrize(
    ("options", "mode", "timeout_s"),
    [
        ((), MODES.SHUTDOWN, None),
        (("--turn-off",), MODES.TURN_OFF, None),
        (("--save",), MODES.SAVE, None),
        (("--pause",), MODES.PAUSE, None),
        (("--shutdown-timeout", "90"), MODES.SHUTDOWN, 90.0),
        (("--shutdown-timeout", "0.5"), MODES.SHUTDOWN, 0.5),
    ],
)
def test_a_stop_is_asked_for_in_each_way(
    ctl: Ctl, service: FakeService, options: tuple[str, ...], mode: MODES.Mode.ValueType, timeout_s: float | None
) -> None:
    service.answers["StopVirtualMachine"] = accepted
    assert ctl("vm", "stop", VM, *options).code == 0
    (request,) = service.of(StopVirtualMachineRequest)
    assert (request.name, request.mode, request.validate_only) == (VM, mode, False)
    assert request.HasField("shutdown_timeout") is (timeout_s is not None)
    assert request.shutdown_timeout.ToTimedelta().total_seconds() == (timeout_s or 0.0)


@pytest.mark.parametrize(
    "options",
    [
        ("stop", "--turn-off", "--save"),
        ("stop", "--turn-off", "--shutdown-timeout", "9"),
        ("stop", "--shutdown-timeout", "0"),
        ("restart", "--save"),
        ("restart", "--turn-off", "--shutdown-timeout", "9"),
    ],
)
def test_ways_that_do_not_go_together_are_refused_before_anything_is_sent(
    ctl: Ctl, service: FakeService, options: tuple[str, ...]
) -> None:
    assert ctl("vm", *options, VM).code == 2
    assert service.asked == []


def test_a_restart_is_planned_as_a_stop_and_a_start(ctl: Ctl, service: FakeService) -> None:
    stop, start = Step(number=1, name="stop", description="Ask the guest."), Step(number=2, name="start")
    plan = Plan(
        kind=OperationMetadata.RESTART_VIRTUAL_MACHINE,
        virtual_machine=VM,
        steps=[stop, start],
        power_before=RUNNING,
        power_after=RUNNING,
        warnings=["It may be turned off."],
    )

    def planned(request: RestartVirtualMachineRequest) -> Operation:
        assert request.validate_only
        operation = Operation(done=True)
        operation.response.Pack(plan)
        return operation

    service.answers["RestartVirtualMachine"] = planned
    said = ctl("vm", "restart", VM, "--dry-run")
    assert said.out.splitlines()[0] == f"Would restart virtual machine {VM}:"
    assert said.out.splitlines()[3:] == [
        "Power:   RUNNING -> RUNNING",
        "Note:    It may be turned off.",
        "Nothing was done.",
    ]
