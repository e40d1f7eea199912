"""What happens at the gate: calls that were refused because of who made them."""

from __future__ import annotations

from snapshotd.domain.state import State


class CallRefused(State, frozen=True, kw_only=True):
    """Calls were refused: their caller had not signed in, or might not do what it asked."""

    method: str
    """`snapshotd.api.v1.HostService/RegisterHost`."""
    refusal: str
    """The reason, as the caller was told it."""
    detail: str
    """The message that the caller was told, the first time."""
    peer: str
    """Where the caller was, the first time, as gRPC has it."""
    times: int
    """How many such calls were refused since the last such event, this one included."""


AccessEvent = CallRefused
"""Everything that may stand in the stream of refusals."""
