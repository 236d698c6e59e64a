"""What is on its way to the archive: ranges of outboxes, written down before the first insert.

A group has one open manifest at most, in its home bucket. Whoever holds the lease after a crash
finds it and delivers the same ranges under the same tokens, so that nothing arrives twice. `sent`:
everything is in the archive, and only the outboxes are still to be cut.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from aiecs.core.interface.store import Append, Batch, Get, Op, Put, Store
from aiecs.infrastructure.persistence.archive.delivery import Dead
from aiecs.infrastructure.persistence.archive.leases import Lease

DEAD = "_dead"

_KEY = "_manifest"
_FIELD = "open"


class Range(msgspec.Struct, array_like=True, frozen=True):
    """Items of a bucket's outbox, from sequence `start` up to `stop`."""

    bucket: int
    start: int
    stop: int


class Manifest(msgspec.Struct, frozen=True):
    """Ranges under the token that they are delivered with."""

    token: str
    ranges: list[Range]
    sent: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Manifest).decode


def drawn_up(ranges: Sequence[Range]) -> Manifest:
    """A new manifest."""
    return Manifest(secrets.token_hex(8), list(ranges))


async def found(store: Store, home: int) -> Manifest | None:
    """The open manifest of a group, None when there is none."""
    results = await store.apply(Batch(home, "", (Get(_KEY, (_FIELD,)),)))
    ((data,),) = results or ((None,),)
    return _decode(data) if data else None


async def freeze(lease: Lease, manifest: Manifest) -> bool:
    """Write it down; False when the lease has changed hands."""
    return await lease.apply(Put(_KEY, {_FIELD: _encode(manifest)}))


async def mark_sent(lease: Lease, manifest: Manifest, dead: Sequence[Dead]) -> bool:
    """Note that all of it arrived, but for what goes into the log of the dead, in one batch."""
    sent = msgspec.structs.replace(manifest, sent=True)
    ops: list[Op] = [Put(_KEY, {_FIELD: _encode(sent)})]
    if dead:
        ops.append(Append(DEAD, tuple(map(_letter, dead))))
    return await lease.apply(*ops)


async def close(lease: Lease) -> bool:
    """Forget it: the outboxes are cut."""
    return await lease.apply(Put(_KEY, {_FIELD: b""}))


def _letter(dead: Dead) -> bytes:
    bucket, number, item = dead.shipped
    head = {"bucket": bucket, "number": number, "table": dead.table, "reason": dead.reason}
    return _encode(head) + b"\n" + item
