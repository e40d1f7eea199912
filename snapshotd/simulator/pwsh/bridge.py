"""The bridge between stub cmdlets and the model: a unix socket, a line of JSON for a line of JSON.

Each process has a token, so that a call is made on behalf of the script that makes it: when that script is killed
within its call, the connection just ends.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from snapshotd.simulator.hypervisor import Caller, HyperVError, ScriptKilled

Call = Callable[[Caller, Mapping[str, Any]], object]
"""Carries out one call; its result goes back as JSON."""


class Bridge:
    """Serves the calls of all processes of one engine.

    Args:
        path: of the socket.
        calls: what can be called, by name.
    """

    def __init__(self, path: Path, calls: Mapping[str, Call]) -> None:
        self._calls = calls
        self._callers: dict[str, Caller] = {}
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._accepting = threading.Thread(target=self._accept, name="bridge", daemon=True)
        self._accepting.start()

    def admit(self, token: str, caller: Caller) -> None:
        """Allow a process to call."""
        self._callers[token] = caller

    def dismiss(self, token: str) -> None:
        """Refuse further calls of a process."""
        self._callers.pop(token, None)

    def close(self) -> None:
        """Take no more connections."""
        # Shut down first, which ends the thread's accept: else that may go on with whatever gets the descriptor next,
        # and take the connections of another bridge.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # shut down
            threading.Thread(target=self._serve, args=(connection,), name="bridge call", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                request = json.loads(line)
                caller = self._callers.get(request["token"])
                if caller is None or caller.killed:
                    return
                try:
                    answer = {"ok": self._calls[request["call"]](caller, request["arguments"])}
                except HyperVError as error:
                    answer = {"error": {"id": error.fully_qualified, "message": str(error)}}
                except OSError as error:  # of the machine that simulates: the script must learn of it
                    answer = {"error": {"id": "OperationFailed", "message": f"The simulated host failed: {error}"}}
                except ScriptKilled:
                    return
                try:
                    lines.write(json.dumps(answer).encode() + b"\n")
                    lines.flush()
                except OSError:
                    return  # the process has ended
