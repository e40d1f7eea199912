"""Structs are those that the protobuf library makes of the same JSON."""

from __future__ import annotations

import random

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from snapshotd.server.struct_values import struct_of

LEAVES = (
    None,
    True,
    False,
    0,
    -1,
    7,
    1 << 53,
    0.5,
    -1e300,
    "",
    "a",
    "ä\n\U0001f680\0",
    "x" * 127,
    "x" * 128,
    "y" * 70_000,
)


def some(chance: random.Random, depth: int) -> object:
    """Return a JSON value."""
    kind = chance.randrange(4) if depth else 3
    if kind == 0:
        return {chance.choice("abcdé"): some(chance, depth - 1) for _ in range(chance.randrange(4))}
    if kind == 1:
        return [some(chance, depth - 1) for _ in range(chance.randrange(4))]
    return chance.choice(LEAVES)


@pytest.mark.parametrize("seed", range(50))
def test_a_struct_is_the_one_that_the_library_makes(seed: int) -> None:
    chance = random.Random(seed)
    data = {key: some(chance, 5) for key in "abc"}
    assert struct_of(data) == ParseDict(data, Struct())


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, (1, 2)])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        struct_of({"a": value})
