"""Whether a group is the same in two stores: everything in it, by digest."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from aiecs.domain.context.migration.parts import Entries, Fields, Group
from aiecs.domain.context.migration.reading import Reader
from aiecs.domain.context.migration.writing import OWN


class _Digest:
    """Takes up names and values so that no two sequences of them meet."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)

    def add(self, *values: bytes) -> None:
        for value in values:
            self._hash.update(len(value).to_bytes(8))
            self._hash.update(value)

    def map(self, key: str, fields: Mapping[str, bytes]) -> None:
        self.add(key.encode())
        for name in sorted(fields):
            self.add(name.encode(), fields[name])

    def result(self) -> bytes:
        return self._hash.digest()


async def digest_of(reader: Reader, group: Group) -> bytes:
    """The digest of a group as it is in a store: the same content gives the same bytes.

    The incarnation counts, and each log's epoch and first sequence; the expiry does not.
    """
    digest = _Digest()
    head = (await reader.head(group)).fields
    digest.map("", {name: head[name] for name in head if name not in OWN or name == "~i"})
    async for part in reader.maps(group):
        if isinstance(part, Fields):
            digest.map(part.key, part.fields)
        else:
            _add_entries(digest, part)
    for key in await reader.logs(group):
        digest.add(key.encode())
        told = False
        async for items in reader.log(group, key):
            if items.items and not told:  # one that was cut to nothing need not be there
                digest.add(b"%d %d" % (items.epoch, items.base))
                told = True
            digest.add(*items.items)
    return digest.result()


def _add_entries(digest: _Digest, part: Entries) -> None:
    digest.add(part.key.encode())
    for member, score in part.entries.items():
        digest.add(member.encode(), b"%d" % score)
