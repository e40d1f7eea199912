"""Labels and expiries of requests and answers: as they were typed, and as people read them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.render import quoted
from snapshotd.client.resolve import quoted_value


def changed_labels(arguments: argparse.Namespace, labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels with the changes that were typed. Raises Failed for one that is both set and removed.

    Args:
        arguments: of a command that changes labels.
        labels: as they are.
    """
    set_ones = dict(arguments.label)
    for key in arguments.remove_label:
        if key in set_ones:
            raise Failed(f"Cannot both set and remove label {quoted(key)}.", ExitCode.USAGE)
    return {key: value for key, value in labels.items() if key not in arguments.remove_label} | set_ones


def expiry_of(arguments: argparse.Namespace) -> Timestamp | None:
    """Return the expiry that was typed; None for none, and for never."""
    if not isinstance(arguments.expires, datetime):
        return None
    time = Timestamp()
    time.FromDatetime(arguments.expires)
    return time


def filter_of(arguments: argparse.Namespace, *conditions: str) -> str:
    """Return the filter of a list by what was typed, and conditions."""
    labels = [
        f"labels:{quoted_value(key)}" if value is None else f"labels.{quoted_value(key)} = {quoted_value(value)}"
        for key, value in arguments.label
    ]
    return " AND ".join(filter(None, [*conditions, *labels, arguments.filter.strip()]))


def labels_text(labels: Mapping[str, str]) -> str:
    """Return labels for people."""
    return ", ".join(f"{key}={labels[key]}" for key in sorted(labels))
