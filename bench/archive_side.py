"""PyPI's aiecs 2.2.0 as a side of `archive_insert.py`, in an environment of its own.

    python archive_side.py PORT DATABASE

Each line of its input is a number of messages to append, one awaited call after the other; the
answer is a line of JSON with the seconds, the CPU seconds and how many calls said that they failed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time

from aiecs.infrastructure.persistence.clickhouse_permanent_backend import (  # type: ignore[import-not-found]
    ClickHousePermanentBackend,
)

TEXT = "The quick brown fox jumps over the lazy dog. " * 9


async def main(port: int, database: str) -> None:
    backend = ClickHousePermanentBackend("127.0.0.1", port, "default", "", database)
    if not await backend.initialize():
        raise SystemExit("aiecs 2.2.0 cannot use ClickHouse: is its extra installed?")
    _say({})
    while line := sys.stdin.readline().strip():
        cpu, start, failed = time.process_time(), time.perf_counter(), 0
        for number in range(int(line)):
            failed += not await backend.append_conversation_message(f"s{number}", "user", TEXT, {})
        seconds = time.perf_counter() - start
        _say({"seconds": seconds, "cpu": time.process_time() - cpu, "failed": failed})


def _say(answer: dict[str, float]) -> None:
    sys.stdout.write(f"@{json.dumps(answer)}\n")  # libraries may print too
    sys.stdout.flush()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
