"""Every method that is served has a rule, and every rule names fields that its request has."""

from __future__ import annotations

import pytest
from google.longrunning import operations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from snapshotd.access.roles import RULES, Concern, Role
from snapshotd.api.v1 import (
    admin_pb2,
    audit_pb2,
    executor_pb2,
    host_pb2,
    operation_pb2,
    snapshot_pb2,
    virtual_machine_pb2,
)

SERVED = (
    admin_pb2,
    audit_pb2,
    executor_pb2,
    health_pb2,
    host_pb2,
    operation_pb2,
    operations_pb2,
    reflection_pb2,
    snapshot_pb2,
    virtual_machine_pb2,
)
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in SERVED
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
PEOPLE = frozenset({Role.VIEWER, Role.OPERATOR, Role.AUDITOR, Role.ADMIN})


def field_of(message: Descriptor | None, path: str) -> None:
    """Look a field up. Raises KeyError if there is none."""
    for name in path.split("."):
        assert message is not None, path
        message = message.fields_by_name[name].message_type


def test_each_method_that_is_served_has_a_rule_and_no_other_has() -> None:
    assert set(RULES) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_the_fields_of_a_rule_are_fields_of_the_request(method: str) -> None:
    rule = RULES[method]
    assert bool(rule.field) == (rule.concern in (Concern.HOST, Concern.VM)) or rule.concern is Concern.LISTED
    for field in (*filter(None, [rule.field]), *rule.weighty, *rule.beyond):
        field_of(METHODS[method].input_type, field)


@pytest.mark.parametrize("method", [m for m in METHODS if RULES[m].concern is not Concern.NOTHING])
def test_an_admin_may_call_whatever_people_call_and_an_executor_may_only_attach(method: str) -> None:
    roles = RULES[method].roles
    assert (Role.ADMIN in roles) == bool(roles & PEOPLE)
    assert (Role.EXECUTOR in roles) == (method.endswith(("/Attach", "/ServerReflectionInfo")))


@pytest.mark.parametrize("method", METHODS)
def test_whoever_changes_something_also_sees_it_and_a_viewer_changes_nothing(method: str) -> None:
    name, roles = method.rpartition("/")[2], RULES[method].roles
    reads = name.startswith(("Get", "List", "Wait", "Watch", "Check", "ServerReflection", "Verify"))
    assert reads or Role.VIEWER not in roles
    assert reads or Role.AUDITOR not in roles
