"""grpc.health.v1: the health of services and projections. What it refuses carries an ErrorInfo, as with all methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthServicer

from snapshotd.domain.errors import NotFound
from snapshotd.server.interceptors import Context

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["Health"].full_name
"""The full name of this service."""

State = pb.HealthCheckResponse
"""Has the states as attributes: SERVING, NOT_SERVING, SERVICE_UNKNOWN."""
_pb: Final[Any] = pb
"""The types of this library do not know List."""


class Health(HealthServicer):
    """The servicer. Nothing is known of a service before `set`."""

    def __init__(self) -> None:
        self._states: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._stopping = False

    def set(self, service: str, state: int) -> None:
        """Tell the state of a service from now on, unless the server is stopping."""
        if not self._stopping and self._states.get(service) != state:
            self._states[service] = state
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def stop(self) -> None:
        """Tell that no service is serving, for good."""
        for service in self._states:
            self.set(service, State.NOT_SERVING)
        self._stopping = True

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        """Return the state of a service."""
        del context
        state = self._states.get(request.service)
        if state is None:
            raise NotFound("health service", request.service[:200], "Call List, which names all of them.")
        return pb.HealthCheckResponse(status=state)

    async def List(self, request: object, context: Context) -> Message:
        """Return the states of all services."""
        del request, context
        states = {service: _pb.HealthCheckResponse(status=state) for service, state in self._states.items()}
        answer: Message = _pb.HealthListResponse(statuses=states)
        return answer

    async def Watch(self, request: pb.HealthCheckRequest, context: Context) -> AsyncIterator[pb.HealthCheckResponse]:
        """Yield the state of a service, and then each other one that it gets."""
        del context
        told: int | None = None
        while True:
            changed = self._changed
            state = self._states.get(request.service, State.SERVICE_UNKNOWN)
            if state != told:
                told = state
                yield _pb.HealthCheckResponse(status=state)
            await changed.wait()
