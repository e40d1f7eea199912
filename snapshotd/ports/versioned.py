"""The dataclasses of kinds and actions as they stand on record, each with a version of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from snapshotd.domain.recorded import JsonObject, Recorded
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.ports import plain

T_co = TypeVar("T_co", covariant=True)
Upcast = Callable[[JsonObject], JsonObject]
_NO_UPCASTS: Mapping[int, Upcast] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Nothing:
    """The dataclass of a kind or an action without values."""


class Versioned(Generic[T_co]):
    """Writes and reads one dataclass.

    Args:
        cls: the dataclass.
        version: of its fields as they are now; what is written bears it.
        upcasts: by older version, what turns its values into those of the next.
    """

    def __init__(self, cls: type[T_co], version: int = 1, upcasts: Mapping[int, Upcast] = _NO_UPCASTS) -> None:
        self.cls = cls
        self.version = version
        self._upcasts = upcasts

    def write(self, value: object) -> Recorded:
        """Return a value of the dataclass as it is recorded."""
        assert type(value) is self.cls, (value, self.cls)
        return Recorded(self.version, plain.encode(value))

    def read(self, recorded: Recorded) -> T_co:
        """Return what was recorded, older versions upcast.

        Raises RecordNotReadable for a version of a newer release, and for values that do not fit.
        """
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
