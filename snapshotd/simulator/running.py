"""One simulated host that answers: its WS-Management endpoint and its control port, over a model and an engine.

    control port ──► acts on the model   (by the model's own methods, named as the actions are)
                └──► acts on the wire    (network, drop, account, quotas, kill_scripts, restart_host, wire,
                                          certificate, offer)
    /wsman ──► shells ──► engine ──► model

Never acts on Hyper-V itself: that is the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from snapshotd.domain.state import replace
from snapshotd.simulator.control import Action, ControlServer
from snapshotd.simulator.needs import ControlledHost, Engine
from snapshotd.simulator.network import Network
from snapshotd.simulator.ntlm import Accounts
from snapshotd.simulator.shells import Quotas, Shells
from snapshotd.simulator.ways_in import WaysIn
from snapshotd.simulator.wsman import WsmanEndpoint

MODEL_ACTIONS: Final = (
    "write_disk",
    "read_disk",
    "state",
    "kill_script",
    "lose_journal",
    "admin",
    "fail",
    "durations",
    "storage",
    "set_guest",
    "hide",
    "critical",
    "set_checkpoint",
    "stray_file",
    "clock",
    "free_space",
    "move_out",
    "move_in",
    "share",
)
"""The control port's actions on the model. Each is a method of that name."""

_QUOTAS: Final = {
    "shells": "shells_per_user",
    "processes": "processes_per_shell",
    "operations": "operations_per_user",
}
"""The limits that can be changed, and their names in Quotas."""


class RunningHost:
    """A simulated host that listens as soon as it is made, and answers after start().

    Args:
        host: the model.
        engine: runs what is started in shells.
        credential: "username:password".
        listen: "host:port" for WS-Management.
        control: "host:port" for the control port.
        rtt_s: seconds that every request takes on its way.
        start_s: seconds that a process takes to start.
        ways: how to sign in, and where https is served.

    Raises PortInUse, ValueError.
    """

    def __init__(
        self,
        host: ControlledHost,
        engine: Engine,
        credential: str,
        *,
        listen: str = "127.0.0.1:0",
        control: str = "127.0.0.1:0",
        rtt_s: float = 0.0,
        start_s: float = 0.0,
        ways: WaysIn | None = None,
    ) -> None:
        self._ways = ways or WaysIn()
        self._host = host
        self._network = Network(rtt_s)
        self._shells = Shells(engine, self._network, Quotas(), start_s)
        self._accounts = Accounts(credential, host.name)
        try:
            self._control = ControlServer(control, self._actions())
            try:
                self._endpoint = WsmanEndpoint(
                    listen, self._accounts, self._shells, self._network, host.name, self._ways
                )
            except BaseException:
                self._control.close()
                raise
        except BaseException:
            self._accounts.close()
            raise

    @property
    def listening(self) -> str:
        """Where WS-Management is served: "host:port"."""
        return self._endpoint.address

    @property
    def https(self) -> str:
        """Where WS-Management is served over https: "host:port"; empty: nowhere."""
        return self._endpoint.https

    @property
    def control(self) -> str:
        """Where the control port is: "host:port"."""
        return self._control.address

    def start(self) -> None:
        """Begin to answer on both ports."""
        self._endpoint.start()
        self._control.start()

    def close(self) -> None:
        """Stop answering, and end every shell. The caller closes the model."""
        self._control.close()
        self._endpoint.close()
        self._accounts.close()

    def act(self, action: str, **arguments: object) -> Mapping[str, object]:
        """Carry out an action of the control port in this process. Raises ValueError, LookupError, TypeError."""
        return self._actions()[action](**arguments) or {}

    def _actions(self) -> dict[str, Action]:
        actions: dict[str, Action] = {name: _method(self._host, name) for name in MODEL_ACTIONS}
        actions |= {
            "network": self._set_network,
            "drop": self._drop,
            "kill_scripts": self._kill_scripts,
            "restart_host": self._restart,
            "wire": self._wire,
            "account": self._account,
            "quotas": self._set_quotas,
            "certificate": self._certificate,
            "offer": self._offer,
        }
        return actions

    def _set_network(self, up: object) -> None:
        if not isinstance(up, bool):
            raise ValueError(f"up must be true or false: {up!r}")  # noqa: TRY004  (the control port's word for nonsense)
        self._network.set_up(up=up)

    def _drop(self, when: str, kinds: Sequence[str] = (), count: int = 1) -> dict[str, object]:
        return {"left": self._network.plan_drop(when, kinds, count)}

    def _kill_scripts(self) -> dict[str, object]:
        return {"killed": self._shells.kill_processes()}

    def _restart(self) -> None:
        """Nobody reaches the host while it restarts, so no script sees half of it."""
        was_up = self._network.is_up
        self._network.set_up(up=False)
        try:
            self._shells.end_all()
            self._host.restart_host()
        finally:
            self._network.set_up(up=was_up)

    def _account(self, lock_after: object = None, locked: object = None) -> dict[str, object]:
        lockout = self._accounts.lockout
        if lock_after is not None and (type(lock_after) is not int or lock_after < 0):
            raise ValueError(f"lock_after must be a whole number, 0 for never: {lock_after!r}")
        if locked is not None and not isinstance(locked, bool):
            raise ValueError(f"locked must be true or false: {locked!r}")
        if type(lock_after) is int:
            lockout.set_limit(lock_after)
        if isinstance(locked, bool):
            lockout.set_locked(locked=locked)
        return {"refused": lockout.refused, "locked": lockout.locked}

    def _certificate(self, kind: str) -> dict[str, object]:
        if self._ways.certificates is None:
            raise ValueError("this host serves no https: start it with --https")
        return self._ways.certificates.issue(kind)

    def _offer(self, ways: Sequence[str]) -> None:
        self._ways.offer(frozenset(ways))

    def _set_quotas(self, **limits: object) -> dict[str, object]:
        if unknown := sorted(set(limits) - set(_QUOTAS)):
            raise ValueError(f"no quota {', '.join(unknown)}: use {', '.join(_QUOTAS)}")
        for name, limit in limits.items():
            if type(limit) is not int or limit < 0:
                raise ValueError(f"{name} must be a whole number: {limit!r}")
        changes: dict[str, Any] = {_QUOTAS[name]: limit for name, limit in limits.items()}
        self._shells.quotas = replace(self._shells.quotas, **changes)
        return {name: getattr(self._shells.quotas, kept) for name, kept in _QUOTAS.items()}

    def _wire(self) -> dict[str, object]:
        return {
            "requests": self._endpoint.requests,
            "connections": self._network.open_connections,
            "shells": self._shells.open_shells,
            "processes": self._shells.running_processes,
        }


def _method(host: object, name: str) -> Callable[..., Mapping[str, object] | None]:
    method = getattr(host, name)
    assert callable(method), f"the model has no action {name}"
    action: Callable[..., Mapping[str, object] | None] = method
    return action
