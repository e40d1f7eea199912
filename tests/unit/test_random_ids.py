"""Ids are random UUIDs, and none comes twice, whichever thread asks."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor

from snapshotd.system import RandomIds


def test_an_id_is_a_random_uuid_in_lower_case() -> None:
    ids = RandomIds()
    for _ in range(600):
        text = ids.fresh()
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text)
        assert (uuid.UUID(text).version, uuid.UUID(text).variant) == (4, uuid.RFC_4122)


def test_no_id_comes_twice_in_several_threads() -> None:
    ids = RandomIds()
    with ThreadPoolExecutor(4) as pool:
        drawn = [text for some in pool.map(lambda _: [ids.fresh() for _ in range(2000)], range(8)) for text in some]
    assert len(set(drawn)) == 16_000
