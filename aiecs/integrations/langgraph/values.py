"""The values of a thread on their way into its records and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

from aiecs.core.errors import CorruptRecordError
from aiecs.domain.context.thread_state import parts
from aiecs.domain.context.thread_state.cache import Sequence, ThreadCache
from aiecs.domain.context.thread_state.manifests import Manifest, parts_of
from aiecs.domain.context.thread_state.names import name_of, names_in
from aiecs.domain.context.thread_state.records import Inline, Parted, Ref, Whole, parted
from aiecs.integrations.langgraph.codec import MSGPACK, Codec

_INLINE = 64
_NAMED_IN_WRITES, _WHOLE_IN_WRITES = 500, 1024 * 1024

Where = tuple[str, str]


class Kept(NamedTuple):
    """A value as a record refers to it."""

    ref: Ref
    manifest: Manifest | None = None


class Encoder:
    """Makes references to values, and gathers what has to be sent with them."""

    def __init__(self, codec: Codec, cache: ThreadCache) -> None:
        self._codec = codec
        #: What is remembered of the thread.
        self.cache = cache
        self._key = cache.known.key
        #: What is not known to be stored, as it is to be stored.
        self.parts: dict[str, bytes] = {}
        self._nodes: dict[str, bytes] = {}
        self._sequences: dict[Where, Sequence] = {}

    def keep(self, value: Any, where: Where | None = None) -> Kept:
        """A reference to a value; `where` it was before, so that only what is new is looked at."""
        kind, plain = self._codec.encode(value)
        if len(plain) <= _INLINE:
            return Kept(Inline(kind, self._codec.seal(plain)))
        form = parts.form_of(value, plain) if self._codec.parts and kind == MSGPACK else ""
        if form and (where is not None or _names_are_few(len(value), len(plain))):
            return self._cut(form, len(value), plain, where)
        name = name_of(plain, self._key)
        self._send(name, plain)
        return Kept(Whole(kind, name))

    def _cut(self, form: str, length: int, plain: bytes, where: Where | None) -> Kept:
        before = None if where is None else self.cache.sequences.get(where)
        found = parts.cut(form, length, plain, self._key, before)
        sequence, known = found.sequence, self.cache.known
        sent = found.same if before is not None and before.sent is known else 0
        for at in range(sent, length):
            name = sequence.names[at]
            if name not in known.names:
                self._send(name, parts.part(sequence, at))
        if where is None:  # writes have no links: their names stand in them all
            manifest = Manifest((tuple(sequence.names),))
            return Kept(parted(form, length, manifest), manifest)
        for node in found.nodes:
            self._nodes[node.name] = node.content
            if node.name not in known.names:
                self.parts[node.name] = node.content
        self._sequences[where] = sequence
        return Kept(parted(form, length, sequence.manifest), sequence.manifest)

    def _send(self, name: str, plain: bytes) -> None:
        if name not in self.cache.known.names and name not in self.parts:
            self.parts[name] = self._codec.seal(plain)

    def done(self) -> None:
        """Everything has been stored: the next one need not look at it again."""
        known = self.cache.known
        self.cache.nodes.update(self._nodes)
        for where, sequence in self._sequences.items():
            known.names.update(sequence.names)
            self.cache.sequences[where] = replace(sequence, sent=known)


def _names_are_few(length: int, size: int) -> bool:
    """Writes name each part, 16 bytes: a long list is kept whole there, unless it is huge."""
    return length <= _NAMED_IN_WRITES or size > _WHOLE_IN_WRITES


class Wanted(NamedTuple):
    """A value that is to be put together: `front` are its first parts, which were held."""

    ref: Ref
    names: list[str]
    manifest: Manifest | None = None
    where: Where | None = None
    front: Sequence | None = None


class Decoder:
    """Puts values together: finds out what it lacks, is given that, and gives the values."""

    def __init__(self, codec: Codec, cache: ThreadCache) -> None:
        self._codec = codec
        self.cache = cache
        self._bodies: dict[str, bytes] = {}
        #: The names of what has to be fetched.
        self.missing: dict[str, None] = {}

    def want(
        self, ref: Ref, manifest: Manifest | None = None, where: Where | None = None
    ) -> Wanted:
        """A value to be put together; `where` says where it may have been seen before."""
        if type(ref) is Whole:
            self._need([ref.name])
            self.cache.known.names.add(ref.name)
            return Wanted(ref, [ref.name])
        if type(ref) is not Parted:
            return Wanted(ref, [])
        if manifest is None:
            names = names_in(ref.names)
            self._need(names)
            return Wanted(ref, names)
        names = parts_of(manifest, self.cache.nodes, ref.length)
        self.cache.known.names.update(names, manifest.nodes)
        front = self._held(names, where)
        self._need(names if front is None else names[len(front.names) :])
        return Wanted(ref, names, manifest, where, front)

    def _held(self, names: list[str], where: Where | None) -> Sequence | None:
        """What the sequence that was seen there has of the first parts."""
        held = None if where is None else self.cache.sequences.get(where)
        if held is None or held.names == names:
            return held
        pairs = zip(held.names, names, strict=False)
        shorter = min(len(held.names), len(names))
        count = next((at for at, (a, b) in enumerate(pairs) if a != b), shorter)
        return parts.beginning(held, count) if count else None

    def _need(self, names: list[str]) -> None:
        for name in names:
            body = self.cache.bodies.get(name)
            if body is not None:
                self._bodies[name] = body
            elif name not in self._bodies:
                self.missing[name] = None

    def give(self, stored: Mapping[str, bytes]) -> None:
        """What is stored under the names that were missing."""
        for name, sealed in stored.items():
            self._bodies[name] = self._codec.unseal(sealed)

    def value(self, wanted: Wanted) -> Any:
        """The value; `CorruptRecordError` when a part of it is gone."""
        ref = wanted.ref
        if type(ref) is Inline:
            return self._codec.decode(ref.kind, self._codec.unseal(ref.data))
        try:
            if type(ref) is Whole:
                body = self._bodies[ref.name]
                self.cache.remember(ref.name, body)
                return self._codec.decode(ref.kind, body)
            return self._codec.decode(MSGPACK, self._join(cast("Parted", ref), wanted))
        except KeyError as lost:
            raise CorruptRecordError(f"a checkpoint has lost a part of its state: {lost}") from None

    def _join(self, ref: Parted, wanted: Wanted) -> bytes:
        front, names = wanted.front, wanted.names
        rest = [self._bodies[name] for name in names[len(front.names) if front else 0 :]]
        whole = parts.extended(
            front,
            rest,
            form=ref.form,
            key=self.cache.known.key,
            names=names,
            manifest=wanted.manifest,
        )
        where = wanted.where
        held = None if where is None else self.cache.sequences.get(where)
        if where is not None and (held is None or len(names) >= len(held.names)):
            self.cache.sequences[where] = replace(whole, sent=self.cache.known)
        return parts.header_of(ref.form, ref.length) + whole.body
