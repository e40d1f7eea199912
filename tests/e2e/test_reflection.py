"""A client that knows nothing but the reflection service lists the services and takes a snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e.system import System

SERVICES = {
    *(
        f"snapshotd.api.v1.{name}Service"
        for name in ("Host", "VirtualMachine", "Snapshot", "Operation", "Audit", "Admin", "Executor")
    ),
    "google.longrunning.Operations",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}


class Reflected:
    """A client made from what a server tells of itself, in a descriptor pool of its own.

    Args:
        channel: to the server.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        self._pool = descriptor_pool.DescriptorPool()
        self._known: set[str] = set()

    def services(self) -> set[str]:
        """List the services."""
        answer = self._ask(list_services="*")
        return {service.name for service in answer.list_services_response.service}

    def call(self, service: str, method: str, request_fields: dict[str, object]) -> dict[str, Any]:
        """Call a method with a request written as JSON; return the response as such."""
        self._learn(file_containing_symbol=service)
        described = self._pool.FindServiceByName(service).methods_by_name[method]
        request = message_factory.GetMessageClass(described.input_type)()
        json_format.ParseDict(request_fields, request)
        answer_class = message_factory.GetMessageClass(described.output_type)
        call: Any = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer_class.FromString,
        )
        return json_format.MessageToDict(call(request, timeout=60), descriptor_pool=self._pool)

    def _learn(self, **asked: str) -> None:
        """Take in a file and everything that it imports."""
        for content in self._ask(**asked).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(content)
            if file.name not in self._known:
                self._known.add(file.name)
                for needed in file.dependency:
                    if needed not in self._known:
                        self._learn(file_by_filename=needed)
                self._pool.Add(file)

    def _ask(self, **asked: str) -> Any:  # noqa: ANN401  (the stubs do not know the message)
        request = reflection_pb2.ServerReflectionRequest(**asked)  # type: ignore[arg-type]  # one of its texts
        return next(iter(self._stub.ServerReflectionInfo(iter([request]))))


@pytest.mark.slow
def test_a_client_that_knows_only_reflection_takes_a_snapshot(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        client = Reflected(system.client.channel)
        assert client.services() == SERVICES
        vm_id = system.ids["web01"]
        operation = client.call(
            "snapshotd.api.v1.SnapshotService",
            "CreateSnapshot",
            {"parent": f"virtualMachines/{vm_id}", "snapshot": {"displayName": "by reflection", "kind": "DISK"}},
        )
        ended = client.call(
            "google.longrunning.Operations", "WaitOperation", {"name": operation["name"], "timeout": "30s"}
        )
        assert ended["done"]
        assert ended["metadata"]["state"] == "SUCCEEDED"
        assert ended["response"]["displayName"] == "by reflection"
        assert len(system.truth_of(vm_id)["checkpoints"]) == 1


@pytest.mark.slow
def test_health_is_served_for_the_whole_each_service_and_each_projection(tmp_path: Path) -> None:
    with System(tmp_path) as system:
        client = Reflected(system.client.channel)
        for service in ("", "snapshotd.api.v1.SnapshotService", "snapshotd.projection.tree"):
            assert client.call("grpc.health.v1.Health", "Check", {"service": service}) == {"status": "SERVING"}
