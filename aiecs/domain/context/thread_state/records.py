"""The records of a thread as they are stored: checkpoints, and the writes that wait for the next.

What says how records hang together (parents, parts) can be read by everybody who keeps, copies or
prunes threads; what the application has put in is bytes that only its serializer understands.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, NamedTuple

import msgspec

from aiecs.core.errors import CorruptRecordError
from aiecs.domain.context.thread_state.manifests import Manifest
from aiecs.domain.context.thread_state.names import names_in

_LENGTH_BYTES = 4

Count = Annotated[int, msgspec.Meta(ge=0, le=2**32)]


class Inline(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """A small value, as the serializer gave it."""

    kind: str
    data: bytes


class Whole(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """A value that is kept under one name, of the serializer's kind `kind`."""

    kind: str
    name: str


class Parted(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """A list or a map kept by its parts: `counts` of names on each level, the names in a row.

    The names of a checkpoint's nodes are not here but in the links of its record.
    """

    form: str
    length: int
    counts: tuple[Count, ...]
    names: str


Ref = Inline | Whole | Parted


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """A checkpoint without the values that it refers to.

    `created` is in microseconds since 1970. `pending` are channels whose value is not here but
    follows from the nearest ancestor that has it, and from the writes since. `kind` and `data` are
    the rest of the checkpoint and its metadata, as the serializer gave them.
    """

    parent: str | None
    created: int
    run_id: str
    source: str
    step: int | None
    pending: tuple[str, ...]
    channels: dict[str, Ref]
    kind: str
    data: bytes


class Write(msgspec.Struct, array_like=True, frozen=True):
    """What a task has written to one channel."""

    index: int
    channel: str
    value: Ref


class Writes(msgspec.Struct, array_like=True, frozen=True):
    """What one call has written for a task."""

    task_id: str
    task_path: str
    writes: tuple[Write, ...]


class Content(NamedTuple):
    """A record and what it is made of, as far as that has to be sent.

    `origin`: of a checkpoint the id of its parent, of writes that of their task.
    """

    record: bytes
    parts: dict[str, bytes]
    origin: str | None = None


_encode = msgspec.msgpack.Encoder().encode
_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode
_writes = msgspec.msgpack.Decoder(Writes).decode


def parted(form: str, length: int, manifest: Manifest) -> Parted:
    """The reference to a value of these parts, in a checkpoint that links to the nodes."""
    counts = tuple(map(len, manifest.levels[:-1]))
    return Parted(form, length, counts, "".join(manifest.parts))


def pack(record: Checkpoint, nodes: list[str]) -> bytes:
    """A checkpoint as it is stored; `nodes` are those of its parted values, in their order."""
    links = f"&{' '.join(nodes)}\n".encode() if nodes else b""
    return links + b"\x00" + _encode(record)


def unpack(stored: bytes) -> tuple[Checkpoint, dict[str, Manifest]]:
    """A checkpoint, and the manifests of its parted values by channel.

    `CorruptRecordError` for bytes that are none.
    """
    links, _, body = stored.partition(b"\x00")
    try:
        record = _checkpoint(body)
        nodes = iter(links[1:-1].decode().split(" ") if links else ())
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptRecordError("stored value is no checkpoint") from error
    return record, {
        channel: _manifest(ref, nodes)
        for channel, ref in record.channels.items()
        if type(ref) is Parted
    }


def _manifest(ref: Parted, nodes: Iterator[str]) -> Manifest:
    inner = [tuple(islice(nodes, count)) for count in ref.counts]
    if tuple(map(len, inner)) != ref.counts:
        raise CorruptRecordError("stored checkpoint lacks some of its links")
    return Manifest((*inner, tuple(names_in(ref.names))))


def pack_writes(writes: Writes) -> bytes:
    """The writes of one call, to be put behind those of others."""
    body = _encode(writes)
    return len(body).to_bytes(_LENGTH_BYTES) + body


def unpack_writes(stored: bytes) -> list[Writes]:
    """The writes of all calls for a checkpoint, in the order in which they were stored."""
    found, at = [], 0
    try:
        while at < len(stored):
            start = at + _LENGTH_BYTES
            at = start + int.from_bytes(stored[at:start])
            found.append(_writes(stored[start:at]))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptRecordError("stored value is no list of writes") from error
    return found


def names_of(value: Ref, manifest: Manifest | None = None) -> list[str]:
    """The names that a reference holds itself: not those within nodes."""
    match value:
        case Whole(name=name):
            return [name]
        case Parted(names=names):
            return [*(manifest.nodes if manifest else ()), *names_in(names)]
    return []


def effective(writes: list[Writes]) -> list[tuple[str, str, int, Write]]:
    """What is left of the writes for a checkpoint: (task path, task, index, write), in order.

    Of two with one index the first counts, of two with a negative index (interrupts, errors,
    resumes) the last.
    """
    found: dict[tuple[str, int], tuple[str, str, int, Write]] = {}
    for call in writes:
        for write in call.writes:
            key = (call.task_id, write.index)
            if write.index < 0 or key not in found:
                found[key] = (call.task_path, call.task_id, write.index, write)
    return sorted(found.values(), key=lambda entry: entry[:3])
