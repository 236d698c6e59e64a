"""Takes sessions and threads out of the archive's tables, and leaves tombstones there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from uuid import UUID

from aiecs.core.cold import Life
from aiecs.core.erasure import Erasure
from aiecs.core.errors import ArchiveUnavailableError
from aiecs.core.interface.archive import Archive
from aiecs.infrastructure.persistence.archive.reading import SESSIONS_OF

_SECONDS = 120.0
_AT_ONCE = 500

_LIVES = """
SELECT id, incarnation, max(user_id) FROM (
    SELECT session_id AS id, incarnation, user_id FROM context_sessions
    WHERE session_id IN {ids:Array(String)}
    UNION ALL
    SELECT session_id, incarnation, user_id FROM context_conversations
    PREWHERE session_id IN {ids:Array(String)} WHERE parent_session_id = ''
    UNION ALL
    SELECT parent_session_id, incarnation, user_id FROM context_conversations
    WHERE parent_session_id IN {ids:Array(String)}
    UNION ALL
    SELECT session_id, incarnation, user_id FROM context_task_contexts
    WHERE session_id IN {ids:Array(String)}
    UNION ALL
    SELECT session_id, incarnation, '' FROM context_conversation_sessions
    WHERE session_id IN {ids:Array(String)}
    UNION ALL
    SELECT session_id, incarnation, user_id FROM context_compactions
    WHERE session_id IN {ids:Array(String)}
) GROUP BY id, incarnation"""
_THREADS = """
SELECT DISTINCT session_id, thread_id, incarnation FROM context_checkpoints
WHERE thread_id IN {ids:Array(String)} OR session_id IN {ids:Array(String)}
UNION DISTINCT
SELECT DISTINCT session_id, thread_id, incarnation FROM context_checkpoint_writes
WHERE thread_id IN {ids:Array(String)} OR session_id IN {ids:Array(String)}
UNION DISTINCT
SELECT DISTINCT session_id, thread_id, incarnation FROM context_checkpoint_elements
WHERE thread_id IN {ids:Array(String)} OR session_id IN {ids:Array(String)}"""

_PAIRS = "IN arrayZip({ids:Array(String)}, {lives:Array(String)})"
_OF_SESSIONS: Final = (
    ("context_sessions", "session_id", "event_type != 'deleted'"),
    ("context_conversations", "session_id", "parent_session_id = ''"),
    ("context_conversations", "parent_session_id", "1"),
    ("context_task_contexts", "session_id", "1"),
    ("context_conversation_sessions", "session_id", "1"),
    ("context_compactions", "session_id", "1"),
)
_OF_THREADS: Final = (
    ("context_checkpoints", "thread_id", "type != 'deleted'"),
    ("context_checkpoint_writes", "thread_id", "1"),
    ("context_checkpoint_elements", "thread_id", "1"),
)


class _Life(NamedTuple):
    id: str
    incarnation: str


class _Lives(NamedTuple):
    """What is to go, and because of what."""

    sessions: dict[_Life, Erasure]
    threads: dict[_Life, Erasure]


def erase(archive: Archive, store_id: str, erasures: Sequence[Erasure]) -> dict[str, int]:
    """Delete what these cover; how many rows, by name. Blocks; may be repeated.

    `ArchiveUnavailableError` when rows are left, which another try takes. What happened to a
    session stays as the one row that says "deleted".
    """
    lives = _lives(archive, erasures)
    rows: Counter[str] = Counter()
    for found, places in ((lives.sessions, _OF_SESSIONS), (lives.threads, _OF_THREADS)):
        for table, column, condition in places:
            _delete(archive, (table, column, condition), found, rows)
    _bury(archive, store_id, lives)
    return {one.name: rows[one.name] for one in erasures}


def _lives(archive: Archive, erasures: Sequence[Erasure]) -> _Lives:
    wanted = [(one, one) for one in erasures if one.subject != "user"]
    for user in (one for one in erasures if one.subject == "user"):
        for (session_id,) in _ask(archive, SESSIONS_OF, {"user": user.id}):
            wanted.append((Erasure("session", session_id, user.until, user.id), user))
    found = _Lives({}, {})
    for start in range(0, len(wanted), _AT_ONCE):
        _find(archive, wanted[start : start + _AT_ONCE], found)
    return found


def _find(archive: Archive, wanted: Sequence[tuple[Erasure, Erasure]], found: _Lives) -> None:
    """Each life that one of these covers, with the erasure that was asked for."""
    ids = {"ids": [one.id for one, _ in wanted]}
    by_id: defaultdict[str, list[Life]] = defaultdict(list)
    for id_, incarnation, user in _ask(archive, _LIVES, ids):
        by_id[id_].append(Life(incarnation, user))
    threads = _ask(archive, _THREADS, ids)
    for one, asked in wanted:
        if one.subject == "session":
            covered = one.covered(by_id[one.id])
            found.sessions.update({_Life(one.id, life): asked for life in covered})
        for session_id, thread_id, incarnation in threads:
            if _belongs(one, session_id, thread_id) and _goes(one, incarnation, by_id[one.id]):
                found.threads[_Life(thread_id, incarnation)] = asked


def _belongs(one: Erasure, session_id: str, thread_id: str) -> bool:
    """Whether a thread is the one, or of the session: linked to it, or its namesake."""
    if one.subject == "thread":
        return thread_id == one.id
    return (session_id or thread_id) == one.id


def _goes(one: Erasure, incarnation: str, lives: Sequence[Life]) -> bool:
    """Whether a thread was born early enough, and into a life of the session that goes."""
    if not one.covers(incarnation):
        return False
    if not one.owner:
        return True
    before = [life for life in sorted(lives) if life.incarnation <= incarnation] or sorted(lives)[
        :1
    ]
    return bool(before) and before[-1].incarnation in one.covered(lives)


def _delete(
    archive: Archive,
    place: tuple[str, str, str],
    found: dict[_Life, Erasure],
    rows: Counter[str],
) -> None:
    table, column, condition = place
    where = f"FROM {table} WHERE ({column}, incarnation) {_PAIRS} AND {condition}"
    parameters = {
        "ids": [life.id for life in found],
        "lives": [life.incarnation for life in found],
    }
    if not found:
        return
    counts = _ask(
        archive, f"SELECT {column}, incarnation, count() {where} GROUP BY ALL", parameters
    )
    for id_, incarnation, count in counts:
        rows[found[_Life(id_, incarnation)].name] += count
    if not counts:
        return
    archive.execute(f"DELETE {where}", parameters, timeout=_SECONDS)
    if _ask(archive, f"SELECT 1 {where} LIMIT 1", parameters):
        raise ArchiveUnavailableError(f"{table} still holds rows that are to be erased")


def _bury(archive: Archive, store_id: str, found: _Lives) -> None:
    """Say which lives are gone, for whatever arrives late."""
    graves = [("session", life, one) for life, one in found.sessions.items()]
    graves += [("thread", life, one) for life, one in found.threads.items()]
    if not graves:
        return
    names = [f"{store_id}/{subject}/{life.id}/{life.incarnation}" for subject, life, _ in graves]
    digests = [blake2b(name.encode(), digest_size=16).digest() for name in names]
    token = blake2b(b"".join(sorted(digests)), digest_size=16).hexdigest()
    columns: dict[str, list[Any]] = {
        "subject": [subject for subject, _, _ in graves],
        "subject_id": [life.id for _, life, _ in graves],
        "reason": ["deleted"] * len(graves),
        "store_id": [store_id] * len(graves),
        "event_id": [UUID(bytes=digest) for digest in digests],
        "incarnation": [life.incarnation for _, life, _ in graves],
        "seq": [0] * len(graves),
        "created_at": [one.until for _, _, one in graves],
        "version": [one.until for _, _, one in graves],
    }
    archive.insert("context_tombstones", columns, token=f"tombstones:{token}")


def _ask(archive: Archive, query: str, parameters: dict[str, Any]) -> list[Any]:
    return archive.select(query, parameters, timeout=_SECONDS)
