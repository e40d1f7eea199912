"""Workflows of three durable steps per second with DBOS Transact, async, on SQLite. Runs in an environment of its own.

Its steps do nothing, as the instant host does. Imports nothing of ours, and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import uuid
from pathlib import Path

from dbos import DBOS, DBOSConfig


@DBOS.step()
async def prepare(name: str) -> str:
    """Be the first step."""
    return name


@DBOS.step()
async def take(name: str) -> str:
    """Be the second step: what an effect would be."""
    return f"{name}-{uuid.uuid4()}"


@DBOS.step()
async def confirm(checkpoint: str) -> str:
    """Be the third step."""
    return checkpoint


@DBOS.workflow()
async def create(name: str) -> str:
    """Run the three steps."""
    return await confirm(await take(await prepare(name)))


async def per_second(callers: int, workflows: int) -> float:
    """Return whole workflows per second, with that many callers at the same time."""

    async def call(count: int) -> None:
        for number in range(count):
            handle = await DBOS.start_workflow_async(create, f"s{number}")
            await handle.get_result()

    await call(3)
    began = time.perf_counter()
    await asyncio.gather(*(call(workflows // callers) for _ in range(callers)))
    return workflows // callers * callers / (time.perf_counter() - began)


def main() -> None:
    """Measure at each number of callers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("callers", nargs="+", type=int)
    arguments = parser.parse_args()
    config: DBOSConfig = {
        "name": "peer",
        "system_database_url": f"sqlite:///{arguments.directory}/dbos.sqlite",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
    DBOS(config=config)
    DBOS.launch()
    rates = {callers: asyncio.run(per_second(callers, 50 if callers == 1 else 200)) for callers in arguments.callers}
    DBOS.destroy()
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
