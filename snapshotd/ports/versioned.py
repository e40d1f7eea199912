"""The dataclasses of kinds and actions as they stand on record, each with a version of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from snapshotd.domain.recorded import JsonObject, Recorded
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.ports import plain

_KEPT = 256
"""Values that are kept beside what they were read from, of each class."""

T_co = TypeVar("T_co", covariant=True)
Upcast = Callable[[JsonObject], JsonObject]
_NO_UPCASTS: Mapping[int, Upcast] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Nothing:
    """The dataclass of a kind or an action without values."""


class Versioned(Generic[T_co]):
    """Writes and reads one dataclass.

    A decision reads the same recorded objects many times, and so do the next ones: all folds of an operation share
    them. What was read last is kept, by the identity of the object that it was read from, which nothing changes.

    Args:
        cls: the dataclass.
        version: of its fields as they are now; what is written bears it.
        upcasts: by older version, what turns its values into those of the next.
    """

    def __init__(self, cls: type[T_co], version: int = 1, upcasts: Mapping[int, Upcast] = _NO_UPCASTS) -> None:
        self.cls = cls
        self.version = version
        self._upcasts = upcasts
        self._read: dict[int, tuple[Recorded, T_co]] = {}
        """By the id of the object, which is this one's as long as it is kept here."""

    def write(self, value: object) -> Recorded:
        """Return a value of the dataclass as it is recorded."""
        assert type(value) is self.cls, (value, self.cls)
        return Recorded(self.version, plain.encode(value))

    def read(self, recorded: Recorded) -> T_co:
        """Return what was recorded, older versions upcast.

        Raises RecordNotReadable for a version of a newer release, and for values that do not fit.
        """
        kept = self._read.get(id(recorded))
        if kept is not None:
            return kept[1]
        value = self._decode(recorded)
        if len(self._read) >= _KEPT:
            self._read.clear()
        self._read[id(recorded)] = (recorded, value)
        return value

    def _decode(self, recorded: Recorded) -> T_co:
        name, values = f"{self.cls.__module__}.{self.cls.__name__}", recorded.values
        if recorded.version > self.version:
            raise RecordNotReadable(name, f"it has version {recorded.version}, and this release knows {self.version}")
        try:
            for version in range(recorded.version, self.version):
                values = self._upcasts[version](values)
            return plain.decode(self.cls, values)
        except (KeyError, TypeError, ValueError) as error:
            raise RecordNotReadable(name, f"version {recorded.version}, {type(error).__name__}: {error}") from error

    def now(self, values: JsonObject) -> T_co:
        """Return the dataclass of values in the present version, such as a host's answer. Raises RecordNotReadable."""
        return self.read(Recorded(self.version, values))
