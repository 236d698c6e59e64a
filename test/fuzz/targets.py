"""What is fuzzed: bytes of nobody's choosing go in, declared errors or right answers come out."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiecs.core.codec import decode, encode
from aiecs.core.errors import ContextEngineError, CorruptRecordError, InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.keys import bucket_of, escape, session_place, thread_place
from aiecs.domain.context.conversation_models import conversation_key, session_id_of
from aiecs.infrastructure.persistence.stores.redis import RedisStore
from aiecs.infrastructure.persistence.stores.redis.connection import Connection
from aiecs.infrastructure.persistence.stores.redis.layout import Layout, bucket_of_head
from aiecs.infrastructure.persistence.stores.redis.prepared import Prepared
from aiecs.infrastructure.persistence.stores.redis.reads import Exchange, ReadShape
from aiecs.infrastructure.persistence.stores.redis.replies import decoder_of, error_of
from aiecs.infrastructure.persistence.stores.redis.scripts import Scripts
from aiecs.infrastructure.persistence.stores.redis.store import _NONSENSE, _unwrap

_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)
_SERVER: Any = SimpleNamespace(address=None)
_LAYOUT = Layout("fuzz:")
_READS = (
    (port.Get(""), port.Read("m")),
    (port.Get("m", ("a", "b")), port.Clock(), port.RequireAtMost("", "n", port.NOW)),
    (port.Read("_l", start=1, limit=2, newest=False), port.RequireBefore(5)),
    (port.IndexRange("i", limit=3, cursor=("a", 1)), port.IndexCount("i")),
    (port.IndexRange("i", prefix="a", reverse=True), port.RequireFields("m", ("a",))),
    (port.RequireEquals("m", "a", b"1"), port.RequireExists("m"), port.Get("m")),
)
_SHAPES = tuple(ReadShape(ops, raw=raw) for ops in _READS for raw in (False, True))
_WRITES = (
    port.Put("m", {"a": b"1"}, "skip"),
    port.Incr("", {"n": 1}),
    port.Append("l", (b"x",), (port.NOW,)),
    port.Expire(5),
    port.Get("m"),
)
_PREPARED = Prepared(port.Plan("fuzz", *_WRITES), _LAYOUT, Scripts())
# What callers of a store are told, and what the store itself makes "no answer of Redis" of.
_TOLD = (ContextEngineError, port.GuardFailed, port.CorruptField, *_NONSENSE)


def codec(data: bytes) -> None:
    """A value comes out as it went in, or the record is called corrupt."""
    try:
        value = decode(data)
    except CorruptRecordError:
        return
    with contextlib.suppress(InvalidInputError):  # more than may be written, and so never was
        again = decode(encode(value))
        assert again == value or value != value, (again, value)  # noqa: PLR0124 - NaN inside


def replies(data: bytes) -> None:
    """Replies of a server that lost its mind end in answers or in declared errors."""
    found = _LOOP.run_until_complete(_received(data[1:]))
    for reply in found:
        _write_answered(reply)
    number = data[0] % len(_SHAPES) if data else 0
    exchange = Exchange(_LAYOUT, _SHAPES[number], 7, "s:one", _READS[number // 2])
    exchange.commands()
    with contextlib.suppress(*_TOLD):
        exchange.results(found)
    with contextlib.suppress(*_TOLD):
        exchange.results(_unwrap(found))


async def _received(data: bytes) -> list[Any]:
    owner = _Owner()
    Connection(_SERVER, owner, "fuzz").data_received(data)
    return owner.replies


class _Owner:
    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.received = self.replies.append

    def heard(self) -> None:
        """Bytes came."""

    def lost(self, _: Connection) -> None:
        """The connection is gone."""


def _write_answered(reply: Any) -> None:
    if isinstance(reply, Exception):
        assert isinstance(error_of(str(reply)), _TOLD)
    with contextlib.suppress(*_TOLD):
        if type(reply) is not list or reply[0] != 1:
            RedisStore._refused(reply)
            return
        _PREPARED.results(reply)
        [decode(value) for value, decode in zip(reply[1], map(decoder_of, _WRITES), strict=True)]


def keys(data: bytes) -> None:
    """Two names never meet in one key, and no name moves a key out of its bucket's slot."""
    halves = [half[:80].decode(errors="replace") for half in data.split(b"\xff", 1)]
    one, other = halves[0], halves[-1]  # at most 240 bytes: an id has 255
    assert (escape(one) == escape(other)) == (one == other)
    found = set()
    for name in {one, other}:
        for bucket, group in (session_place(name), thread_place(name)):
            for kind, key in (("map", ""), ("log", "m"), ("index", f"_u:{escape(name)}")):
                whole = _LAYOUT.key(bucket, group, kind, key)
                assert bucket_of_head(whole[: whole.index("}") + 1]) == bucket == bucket_of(name)
                found.add(whole)
    assert len(found) == 5 * len({one, other})
    if one:
        assert session_id_of(conversation_key(one, other or "x", [])) == one


TARGETS: dict[str, Callable[[bytes], None]] = {"codec": codec, "keys": keys, "replies": replies}
