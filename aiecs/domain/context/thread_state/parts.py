"""Lists and maps in msgpack, cut into their parts and put together again.

The parts of a list are its items, those of a map its keys each with its value, as they stand in the
encoded whole; so the whole is a header and the parts one behind the other, and decoding it costs no
more than if it had never been cut.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgspec

from aiecs.domain.context.thread_state.cache import Sequence
from aiecs.domain.context.thread_state.manifests import Builder, Manifest, Node
from aiecs.domain.context.thread_state.names import name_of

LIST: Final = "l"
MAP: Final = "m"
_LEAST_PART = 64
_LEAST_MAP = 4096
_FIX, _SHORT, _LONG = 1, 3, 5
_FIRST: Final = {LIST: (0x90, b"\xdc", b"\xdd"), MAP: (0x80, b"\xde", b"\xdf")}
_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Cut(NamedTuple):
    """A value by its parts, the nodes that are new in its manifest, and what was the same before.

    `same` are so many first parts that the sequence before has too.
    """

    sequence: Sequence
    nodes: list[Node]
    same: int


def form_of(value: Any, plain: bytes) -> str:
    """How a value is cut; "" for one that is better kept whole."""
    kind = type(value)
    if kind is list and value and len(plain) >= _LEAST_PART * (len(value) + 1):
        return LIST
    if kind is dict and len(plain) >= max(_LEAST_MAP, _LEAST_PART * len(value)):
        return MAP
    return ""


def header_of(form: str, length: int) -> bytes:
    """What stands before the parts."""
    fix, short, long = _FIRST[form]
    if length < 16:  # noqa: PLR2004 - as msgpack has it
        return (fix + length).to_bytes()
    if length < 65536:  # noqa: PLR2004 - as msgpack has it
        return short + length.to_bytes(2)
    return long + length.to_bytes(4)


def cut(form: str, length: int, plain: bytes, key: bytes, before: Sequence | None) -> Cut:
    """Cut an encoded value; what it has in common with `before` at its beginning is not looked at.

    Equality is that of bytes: an object that was changed in its place is another one.
    """
    body = plain[len(header_of(form, length)) :]
    same = 0
    if before is not None and before.form == form and before.key == key:
        same = _common(body, before)
    ends = [] if before is None else before.ends[:same]
    names = [] if before is None else before.names[:same]
    start = ends[-1] if ends else 0
    manifest = None if before is None else before.manifest.without(len(before.names) - same)
    builder = Builder(lambda content: name_of(content, key), manifest)
    if manifest is None:
        for name in names:
            builder.add(name)
    for part in _split(form, length - same, body[start:] if start else body):
        start += len(part)
        name = name_of(part, key)
        ends.append(start)
        names.append(name)
        builder.add(name)
    sequence = Sequence(form, key, body, ends, names, builder.manifest())
    return Cut(sequence, builder.new, same)


def _common(body: bytes, before: Sequence) -> int:
    """How many parts both begin with."""
    if body.startswith(before.body):
        return len(before.names)
    low, high = 0, bisect_right(before.ends, len(body))
    while low < high:
        middle = (low + high + 1) // 2
        if body.startswith(before.body[: before.ends[middle - 1]]):
            low = middle
        else:
            high = middle - 1
    return low


def _split(form: str, count: int, rest: bytes) -> list[bytes]:
    if not count:
        return []
    if form == LIST:
        return list(map(bytes, _raws(header_of(LIST, count) + rest)))
    both = list(map(bytes, _raws(header_of(LIST, 2 * count) + rest)))
    return [key + value for key, value in zip(both[::2], both[1::2], strict=True)]


def part(sequence: Sequence, at: int) -> bytes:
    """One part of a sequence."""
    return sequence.body[sequence.ends[at - 1] if at else 0 : sequence.ends[at]]


def beginning(sequence: Sequence, count: int) -> Sequence:
    """The first parts of a sequence, by themselves; their manifest is not worked out."""
    ends = sequence.ends[:count]
    body = sequence.body[: ends[-1] if ends else 0]
    return Sequence(sequence.form, sequence.key, body, ends, sequence.names[:count], Manifest())


def extended(
    front: Sequence | None,
    rest: list[bytes],
    *,
    form: str,
    key: bytes,
    names: list[str],
    manifest: Manifest | None,
) -> Sequence:
    """The sequence of all `names`: those of `front`, and the `rest`, which was read."""
    if front is not None and not rest:
        return front if manifest is None else replace(front, manifest=manifest)
    start, body = (0, b"") if front is None else (front.ends[-1], front.body)
    ends = list(accumulate(map(len, rest), initial=start))[1:]
    if front is not None:
        ends = front.ends + ends
    return Sequence(form, key, b"".join((body, *rest)), ends, names, manifest or Manifest())
