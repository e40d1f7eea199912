"""What people say of a snapshot or a VM: names, words, labels, an expiry. Nothing on a host depends on it but a name.

Labels are as in Kubernetes, so that one set of them fits both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.recorded import Time

Labels: TypeAlias = Mapping[str, str]
"""Values by key."""

_MOST_LABELS: Final = 64
_PREFIX_LIMIT: Final = 253
_PART: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_PART_RULE: Final = "1 to 63 letters, digits, - _ or ., the first and the last a letter or a digit"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDetails:
    """What people say of a snapshot."""

    name: str = ""
    description: str = ""
    labels: Labels = field(default_factory=dict)
    expire_at: Time | None = None
    """When it is no longer needed; None: not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDetails:
    """What people say of a VM."""

    owner: str
    labels: Labels = field(default_factory=dict)
    export_policy: ExportPolicy = ExportPolicy.AS_SERVER


def check_labels(labels: Labels, called: str) -> None:
    """Raise InvalidArgument for labels that are not allowed. `called`: the field of the request that holds them."""
    if len(labels) > _MOST_LABELS:
        raise InvalidArgument(called, f"{len(labels)} labels", f"there may be at most {_MOST_LABELS}.")
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        shown = f"{key[:80]}={value[:80]}"
        if not _PART.fullmatch(name):
            raise InvalidArgument(called, shown, f"the name in a key must be {_PART_RULE}.")
        if slash and (len(prefix) > _PREFIX_LIMIT or not _PREFIX.fullmatch(prefix)):
            text = (
                f"before the / of a key there must be a DNS name in lower case, of at most {_PREFIX_LIMIT} characters."
            )
            raise InvalidArgument(called, shown, text)
        if value and not _PART.fullmatch(value):
            raise InvalidArgument(called, shown, f"a value must be empty, or {_PART_RULE}.")
