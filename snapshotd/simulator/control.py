"""The control port: one HTTP POST for each act on the host, the network or a script (docs/simulated-host.md).

Never acts itself: each action is a function that is handed in. It has no authentication, so loopback only.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus

from snapshotd.domain.host_address import is_loopback
from snapshotd.simulator.http1 import HttpConnection, HttpRequest
from snapshotd.simulator.listener import open_listener

Action = Callable[..., Mapping[str, object] | None]
"""Takes the JSON object's members by name; returns the answer's. Raises ValueError for a wrong value."""


class ControlServer:
    """Answers on the control port as soon as it is started.

    Args:
        address: "host:port", on loopback.
        actions: what can be asked for, by name.

    Raises ValueError for an address that is not on loopback, PortInUse when it cannot be listened on.
    """

    def __init__(self, address: str, actions: Mapping[str, Action]) -> None:
        host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
        if not is_loopback(host):
            raise ValueError(f"cannot use {host!r} for the control port: it has no authentication. Use loopback")
        self.actions = actions
        handler = type("ControlConnection", (_Connection,), {"control": self})
        self._listener = open_listener(address, handler)

    @property
    def address(self) -> str:
        """Where it listens: "host:port"."""
        return self._listener.address

    def start(self) -> None:
        """Begin to answer."""
        self._listener.start("control")

    def close(self) -> None:
        """Stop answering."""
        self._listener.stop()

    def answer(self, path: str, body: bytes) -> tuple[HTTPStatus, Mapping[str, object]]:
        """Carry out one action; return the status and the answer."""
        name = path.strip("/")
        action = self.actions.get(name)
        if action is None:
            return HTTPStatus.NOT_FOUND, {"error": f"no action {name!r}; there are: {', '.join(sorted(self.actions))}"}
        try:
            # Bound first, so that a TypeError of the action's own is not taken for a wrong argument.
            bound = inspect.signature(action).bind(**_members(body))
        except (ValueError, TypeError) as error:
            return HTTPStatus.BAD_REQUEST, {"error": f"{name}: {error}"}
        try:
            return HTTPStatus.OK, action(*bound.args, **bound.kwargs) or {}
        except (ValueError, LookupError) as error:
            return HTTPStatus.BAD_REQUEST, {"error": f"{name}: {error}"}
        except OSError as error:
            return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"{name}: this machine failed: {error}"}


def _members(body: bytes) -> dict[str, object]:
    """Read a JSON object; nothing is an empty one. Raises ValueError, TypeError."""
    document = json.loads(body or b"{}")
    if not isinstance(document, dict):
        raise TypeError("the body must be a JSON object")
    return document


class _Connection(HttpConnection):
    largest_body = 64 * 1024 * 1024
    control: ControlServer

    def post(self, request: HttpRequest, body: bytes) -> None:
        code, answer = self.control.answer(request.path, body)
        self.reply(code, json.dumps(answer).encode() + b"\n", Content_Type="application/json")
