"""Sizes as people type them: 512MB, 10GB, 2TiB. As in Hyper-V and its cmdlets, 1GB is 1024MB, however it is written."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from decimal import Decimal
from typing import Final

from snapshotd.client.render import quoted

_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?(?:([KMGT])I?B?|B)", re.IGNORECASE)
_POWERS: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_LARGEST: Final = 1 << 60
"""Bytes. The service has limits of its own, and tells them; this one only keeps the number in its field."""


def size(text: str) -> int:
    """Read a size with its unit; return it in bytes."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ArgumentTypeError(
            f"{quoted(text)}: must be a number with its unit, e.g. 512MB, 10GB or 2TB (1GB is 1024MB, as in Hyper-V)"
        )
    amount = Decimal(found[1]) * (1 << _POWERS[(found[2] or "").upper()])
    if amount != int(amount):
        raise ArgumentTypeError(f"{quoted(text)}: must be a whole number of bytes; write it in a smaller unit")
    if not 0 < amount <= _LARGEST:
        raise ArgumentTypeError(f"{quoted(text)}: must be above 0, and at most {_LARGEST >> 40}TB")
    return int(amount)
