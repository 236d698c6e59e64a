"""What is on its way to the archive: ranges of outboxes, written down before the first insert.

A group has one open manifest at most, in its home bucket. Whoever holds the lease after a crash
finds it and delivers the same ranges under the same tokens, so that nothing arrives twice. `sent`:
everything is in the archive, and only the outboxes are still to be cut.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from aiecs.core.interface.store import Batch, Get, Op, Put, RequireEquals, Store
from aiecs.infrastructure.persistence.archive import backlog, letters
from aiecs.infrastructure.persistence.archive.delivery import Dead
from aiecs.infrastructure.persistence.archive.leases import Lease

_KEY = "_manifest"
_FIELD, _TOKEN = "open", "token"


class Range(msgspec.Struct, array_like=True, frozen=True):
    """Items of a bucket's outbox, from sequence `start` up to `stop`."""

    bucket: int
    start: int
    stop: int


class Manifest(msgspec.Struct, frozen=True):
    """Ranges under the token that they are delivered with.

    `size` is in bytes, `oldest` and `newest` the times of its events in microseconds.
    """

    token: str
    ranges: list[Range]
    sent: bool = False
    size: int = 0
    oldest: int = 0
    newest: int = 0

    @property
    def events(self) -> int:
        """How many there are."""
        return sum(one.stop - one.start for one in self.ranges)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Manifest).decode


def drawn_up(
    ranges: Sequence[Range], *, size: int = 0, oldest: int = 0, newest: int = 0
) -> Manifest:
    """A new manifest."""
    token = secrets.token_hex(8)
    return Manifest(token, list(ranges), size=size, oldest=oldest, newest=newest)


async def found(store: Store, home: int) -> Manifest | None:
    """The open manifest of a group, None when there is none."""
    results = await store.apply(Batch(home, "", (Get(_KEY, (_FIELD,)),)))
    ((data,),) = results or ((None,),)
    return _decode(data) if data else None


async def freeze(lease: Lease, manifest: Manifest) -> bool:
    """Write it down; False when the lease has changed hands."""
    fields = {_FIELD: _encode(manifest), _TOKEN: manifest.token.encode()}
    return await lease.apply(Put(_KEY, fields), backlog.since(manifest.oldest))


async def give_up(lease: Lease, manifest: Manifest) -> bool:
    """Count its events as dropped; what is left is to cut them."""
    lost = msgspec.structs.replace(manifest, sent=True)
    counts = (backlog.dropped(manifest.events), backlog.since(manifest.newest))
    return await lease.apply(Put(_KEY, {_FIELD: _encode(lost)}), *counts)


async def mark_sent(lease: Lease, manifest: Manifest, dead: Sequence[Dead]) -> bool:
    """Note that all of it arrived, but for what goes into the log of the dead, in one batch.

    False also when it is not written down any more: a store that has come back in an earlier state
    gives the same sequences to other events, which must not be cut.
    """
    sent = msgspec.structs.replace(manifest, sent=True)
    same = RequireEquals(_KEY, _TOKEN, manifest.token.encode())
    ops: list[Op] = [same, Put(_KEY, {_FIELD: _encode(sent)})]
    if dead:
        ops.append(letters.put(dead))
    return await lease.apply(*ops)


async def close(lease: Lease, manifest: Manifest) -> bool:
    """Forget it: the outboxes are cut."""
    done = backlog.done(manifest.events, manifest.size)
    return await lease.apply(Put(_KEY, {_FIELD: b""}), done)
