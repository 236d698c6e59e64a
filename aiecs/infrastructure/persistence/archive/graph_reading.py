"""The questions that bring checkpoints of graphs back from the archive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from aiecs.core.cold import ColdCheckpoint, ThreadLife, WantedCheckpoints
from aiecs.core.interface.archive import Archive

_PARTS_AT_ONCE = 2_000

_LIVES = """
SELECT incarnation, max(session), max(gone) FROM (
    SELECT incarnation, session_id AS session, type = 'deleted' AS gone
    FROM context_checkpoints WHERE thread_id = {thread:String}
    UNION ALL
    SELECT incarnation, '' AS session, 1 AS gone
    FROM context_tombstones WHERE subject = 'thread' AND subject_id = {thread:String}
) GROUP BY incarnation ORDER BY incarnation
SETTINGS max_threads = 1"""
# The last that was told of a checkpoint counts: it may have been replaced, or removed.
_CHECKPOINTS = """
SELECT checkpoint_ns, checkpoint_id, %s FROM (
    SELECT checkpoint_ns, checkpoint_id, type, data
    FROM context_checkpoints
    WHERE thread_id = {thread:String} AND type IN ('graph', 'removed')
        AND incarnation IN {lives:Array(String)}
        AND ({everywhere:Bool} OR checkpoint_ns = {namespace:String})
        AND ({before:String} = '' OR checkpoint_id < {before:String})
        AND ({any:Bool} OR (checkpoint_ns, checkpoint_id)
            IN arrayZip({spaces:Array(String)}, {ids:Array(String)}))
    ORDER BY version DESC
    LIMIT 1 BY checkpoint_ns, checkpoint_id
) WHERE type = 'graph'
ORDER BY checkpoint_id DESC, checkpoint_ns DESC
LIMIT {limit:UInt32}
SETTINGS max_threads = 1"""
_WRITES = """
SELECT checkpoint_ns, checkpoint_id, writes_data FROM context_checkpoint_writes
WHERE thread_id = {thread:String} AND type = 'graph' AND incarnation IN {lives:Array(String)}
    AND (checkpoint_ns, checkpoint_id) IN arrayZip({spaces:Array(String)}, {ids:Array(String)})
ORDER BY version
LIMIT 1 BY version, event_id
SETTINGS max_threads = 1"""
_PARTS = """
SELECT digest, data FROM context_checkpoint_elements
WHERE thread_id = {thread:String} AND incarnation IN {lives:Array(String)}
    AND digest IN {names:Array(String)}
LIMIT 1 BY digest
SETTINGS max_threads = 1"""
_BARE, _FULL = _CHECKPOINTS % "'' AS data", _CHECKPOINTS % "data"


def thread_lives(archive: Archive, thread_id: str, timeout: float) -> list[ThreadLife]:
    """Every incarnation of a thread, the oldest first."""
    rows = archive.select(_LIVES, {"thread": thread_id}, timeout=timeout)
    return [ThreadLife(life, session, bool(gone)) for life, session, gone in rows]


def checkpoints(
    archive: Archive, wanted: WantedCheckpoints, timeout: float
) -> list[ColdCheckpoint]:
    """The checkpoints, and the writes for each in the order in which they were stored."""
    asked = {
        "thread": wanted.thread_id,
        "lives": list(wanted.lives),
        "everywhere": wanted.namespace is None,
        "namespace": wanted.namespace or "",
        "before": wanted.before,
        "any": not wanted.names,
        "limit": wanted.limit,
        **_pairs(wanted.names),
    }
    query = _BARE if wanted.bare else _FULL
    rows = archive.select(query, asked, timeout=timeout, exact=("data",))
    if wanted.bare:
        return [ColdCheckpoint(space, name, b"", b"") for space, name, _ in rows]
    writes = _writes(archive, wanted, [row[:2] for row in rows], timeout) if rows else {}
    return [
        ColdCheckpoint(space, name, record, writes.get((space, name), b""))
        for space, name, record in rows
    ]


def _writes(
    archive: Archive, wanted: WantedCheckpoints, names: Sequence[Any], timeout: float
) -> dict[tuple[str, str], bytes]:
    asked = {"thread": wanted.thread_id, "lives": list(wanted.lives), **_pairs(names)}
    found: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    for space, name, data in archive.select(
        _WRITES, asked, timeout=timeout, exact=("writes_data",)
    ):
        found[space, name].append(data)
    return {name: b"".join(calls) for name, calls in found.items()}


def parts(
    archive: Archive, thread_id: str, lives: Sequence[str], names: Sequence[str], timeout: float
) -> dict[str, bytes]:
    """What records refer to, by name."""
    found: dict[str, bytes] = {}
    for at in range(0, len(names), _PARTS_AT_ONCE):
        some = list(names[at : at + _PARTS_AT_ONCE])
        asked = {"thread": thread_id, "lives": list(lives), "names": some}
        found |= dict(archive.select(_PARTS, asked, timeout=timeout, exact=("data",)))
    return found


def _pairs(names: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    return {"spaces": [space for space, _ in names], "ids": [name for _, name in names]}
