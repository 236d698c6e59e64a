"""Moves slots of a cluster: key by key, as its own tool does, or whole, as Valkey 9 can."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from support.clusters import node_id, text
from support.servers import Server
from support.waiting import until

_MOVER = Path(__file__).with_name("slot_mover.py")


async def move(slots: range, source: Server, target: Server) -> int:
    """Move slots with all their keys; how many keys there were.

    In a process of its own: a thread would wait for the load's turn at each answer.
    """
    ends = (source.port, node_id(source), target.port, node_id(target), slots.start, slots.stop)
    process = await asyncio.create_subprocess_exec(
        sys.executable, _MOVER, *map(str, ends), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return int(said)


async def move_whole(slots: range, source: Server, target: Server) -> None:
    """Move slots as Valkey 9 does it: all of them change their node in one moment."""
    last = str(slots.stop - 1)
    words = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", str(slots.start), last, "NODE")
    assert text(source, *words, node_id(target)) == "+OK\r\n"

    async def finished() -> bool:
        said = text(source, "CLUSTER", "GETSLOTMIGRATIONS")
        assert "failed" not in said, said
        return "success" in said

    await until(finished)
