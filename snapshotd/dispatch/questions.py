"""Orders that belong to no operation, such as reports, while they wait for a slot."""

from __future__ import annotations

import math

from snapshotd.dispatch.alarms import Alarms
from snapshotd.dispatch.flights import Flights
from snapshotd.dispatch.orders import Order
from snapshotd.dispatch.outputs import Moment
from snapshotd.dispatch.slots import Share


class Questions:
    """The questions that wait for a slot, by the keys of those who ask.

    Args:
        flights: has the slots.
    """

    def __init__(self, flights: Flights) -> None:
        self._flights = flights
        self._orders: dict[str, Order] = {}
        self._late: Alarms[str] = Alarms()
        """When nobody waits for them any more."""

    def add(self, key: str, order: Order, moment: Moment) -> None:
        """Let a question wait for a slot, until its deadline has passed."""
        self._orders[key] = order
        left_s = (order.deadline - moment.utc).total_seconds()
        self._late.by(key, math.nextafter(moment.monotonic_s + left_s, math.inf))
        self._flights.wait(order.host_id, Share.QUESTION, key)

    def take(self, key: str) -> Order:
        """Return a question that has got its slot."""
        self._late.clear(key)
        return self._orders.pop(key)

    def withdraw(self, key: str) -> None:
        """Let a question wait no longer, if it does."""
        if (order := self._orders.pop(key, None)) is not None:
            self._late.clear(key)
            self._flights.leave(order.host_id, key)

    def late(self, now_s: float) -> list[str]:
        """Return the questions that got no slot in time, which then wait no longer."""
        late = self._late.due(now_s, len(self._orders))
        for key in late:
            self.withdraw(key)
        return late
