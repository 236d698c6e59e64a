"""Checkpoints of graphs for callers who know no graphs: their state as plain data.

What a framework wrote of its own classes is shown as the values that these consist of; nothing is
imported and nothing is built. What was sealed stays so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from aiecs.core.clock import from_micros
from aiecs.core.errors import CorruptRecordError
from aiecs.core.interface.store import MAX_RECORD_BYTES, Gather
from aiecs.domain.context.thread_state import records
from aiecs.domain.context.thread_state.compression import expanded
from aiecs.domain.context.thread_state.manifests import parts_of
from aiecs.domain.context.thread_state.names import member_of, space_of
from aiecs.domain.context.thread_state.names import parts_of as ids_of
from aiecs.domain.context.thread_state.parts import header_of
from aiecs.domain.context.thread_state.thread_records import Found, ThreadRecords

_PAGE = 20
_ATTEMPTS = 3
_PLAIN, _COMPRESSED = b"0", b"1"
_CONSTRUCTED = range(6)
_NESTED = 7
_VALUE = 2

Listed = dict[str, Any]
T = TypeVar("T")


class GraphCheckpoints:
    """The checkpoints that graphs have stored, in the root namespace of their threads."""

    def __init__(self, threads: ThreadRecords) -> None:
        self._threads = threads

    async def get(self, thread_id: str, checkpoint_id: str | None) -> Listed | None:
        """One checkpoint, the latest without an id; None if there is none."""
        wanted = Gather("p", (), space_of(""), 1, reverse=True)
        if checkpoint_id is not None:
            wanted = wanted._replace(members=(member_of("", checkpoint_id),))
        found = await self._page(thread_id, wanted)
        return found[0] if found else None

    async def latest(self, thread_id: str, limit: int | None) -> list[Listed]:
        """The latest checkpoints, newest first; all of them for None."""
        found: list[Listed] = []
        wanted = Gather("p", (), space_of(""), _PAGE, reverse=True)
        while limit is None or len(found) < limit:
            members, page = await self._read(thread_id, wanted)
            found += page
            if len(members) < _PAGE:
                break
            wanted = wanted._replace(after=members[-1])
        return found if limit is None else found[:limit]

    async def writes(self, thread_id: str, checkpoint_id: str) -> list[tuple[str, Any]]:
        """The (channel, value) pairs that wait for a checkpoint, in the order of their tasks."""
        wanted = Gather("p", (), members=(member_of("", checkpoint_id),))

        async def read() -> list[tuple[str, Any]]:
            _, some, _ = await self._threads.gather(thread_id, wanted)
            stored = some.waiting[0] if some.waiting else None
            effective = records.effective(records.unpack_writes(stored)) if stored else []
            refs = [(write.channel, write.value) for _, _, _, write in effective]
            names = [name for _, ref in refs for name in records.names_of(ref)]
            contents = await self._threads.fetch(thread_id, names)
            return [(name, _value(ref, records.names_of(ref), contents)) for name, ref in refs]

        return await _settled(read)

    async def _page(self, thread_id: str, wanted: Gather) -> list[Listed]:
        return (await self._read(thread_id, wanted))[1]

    async def _read(self, thread_id: str, wanted: Gather) -> tuple[list[str], list[Listed]]:
        async def read() -> tuple[list[str], list[Listed]]:
            cache, some, _ = await self._threads.gather(thread_id, wanted)
            looked = [(found, dict(_refs(found, cache.nodes))) for found in some.found]
            names = {n: None for _, refs in looked for _, names in refs.values() for n in names}
            contents = await self._threads.fetch(thread_id, list(names))
            return some.members, [_listed(thread_id, *one, contents) for one in looked]

        return await _settled(read)


async def _settled(read: Callable[[], Awaitable[T]]) -> T:
    """What was read; anew when something of it went between the one round trip and the next."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(CorruptRecordError):
            return await read()
    return await read()


Refs = dict[str, tuple[records.Ref, list[str]]]


def _refs(
    found: Found, nodes: Mapping[str, bytes]
) -> Iterator[tuple[str, tuple[records.Ref, list[str]]]]:
    """What each channel refers to, and the names of its parts."""
    record, manifests = records.unpack(found.record)
    for channel, ref in record.channels.items():
        if type(ref) is records.Parted:
            yield channel, (ref, parts_of(manifests[channel], nodes, ref.length))
        else:
            yield channel, (ref, records.names_of(ref))


def _listed(thread_id: str, found: Found, refs: Refs, contents: Mapping[str, bytes]) -> Listed:
    record, _ = records.unpack(found.record)
    _, metadata = _decode(record.kind, _open(record.data))
    return {
        "checkpoint_id": ids_of(found.member)[1],
        "thread_id": thread_id,
        "data": {channel: _value(*ref, contents) for channel, ref in refs.items()},
        "metadata": metadata,
        "created_at": from_micros(record.created).isoformat(),
    }


def _value(ref: records.Ref, names: list[str], contents: Mapping[str, bytes]) -> Any:
    if isinstance(ref, records.Inline):
        return _decode(ref.kind, _open(ref.data))
    try:
        bodies = [_open(contents[name]) for name in names]
    except KeyError:
        raise CorruptRecordError("a checkpoint has lost a part of its state") from None
    if isinstance(ref, records.Parted):
        return _decode("msgpack", header_of(ref.form, ref.length) + b"".join(bodies))
    return _decode(ref.kind, bodies[0])


def _open(stored: bytes) -> bytes:
    if stored[:1] == _COMPRESSED:
        return expanded(stored[1:], MAX_RECORD_BYTES)
    if stored[:1] != _PLAIN:
        raise CorruptRecordError("this checkpoint is sealed: only its saver can read it")
    return stored[1:]


def _decode(kind: str, data: bytes) -> Any:
    if kind == "null":
        return None
    if kind in ("bytes", "bytearray"):
        return data
    if kind != "msgpack":
        raise CorruptRecordError("a stored value is of no kind that can be shown")
    try:
        return msgspec.msgpack.decode(data, ext_hook=_plain, strict=False)
    except (msgspec.MsgspecError, ValueError, TypeError):
        raise CorruptRecordError("a stored value cannot be decoded") from None


def _plain(code: int, data: memoryview) -> Any:
    """The values that an object of a class consists of."""
    inner: Any = msgspec.msgpack.decode(data, ext_hook=_plain)
    if code == _NESTED:
        return inner
    return inner[_VALUE] if code in _CONSTRUCTED else inner
