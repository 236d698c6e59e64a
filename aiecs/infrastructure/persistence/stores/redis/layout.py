"""Names of Redis keys. Bucket n has a tag of cluster slot n, so a batch never leaves its slot.

<prefix>{TAG}             bucket head: receipts, first sequences of the bucket's logs
<prefix>{TAG}h<group>     head of a group (hash)
<prefix>{TAG}h<group>/t   a map (hash) · l: log (list) · z: index (sorted set)
<prefix>{TAG}z_u:alice    a key of the bucket itself
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.store import BUCKETS, Kind

KIND_LETTER: dict[Kind, str] = {"map": "h", "log": "l", "index": "z"}
_ALPHABET = "@ABCDEFGHIJKLMNO"


@cache
def tags() -> tuple[str, ...]:
    """One tag per slot: CRC-16 is linear, so 16^4 words over 16 letters hit each slot 4 times."""
    found: dict[int, str] = {}
    for number in range(len(_ALPHABET) ** 4):
        word = "".join(_ALPHABET[number >> shift & 15] for shift in (12, 8, 4, 0))
        found.setdefault(crc_hqx(word.encode(), 0) % BUCKETS, word)
        if len(found) == BUCKETS:
            break
    return tuple(found[slot] for slot in range(BUCKETS))


class Layout:
    """Key names under one prefix."""

    def __init__(self, prefix: str) -> None:
        if not prefix or not prefix.isascii() or any(c in prefix for c in "{}*?[]\\ \0"):
            raise InvalidInputError(
                f"a key prefix is printable ASCII without {{}}*?[]\\ or spaces, got {prefix!r}"
            )
        self.heads = tuple(f"{prefix}{{{tag}}}" for tag in tags())

    def key(self, bucket: int, group: str, kind: Kind, key: str) -> str:
        """The Redis key of a map, log or index."""
        letter = KIND_LETTER[kind]
        if key == "":
            return f"{self.heads[bucket]}h{group}"
        if key[0] == "_":
            return f"{self.heads[bucket]}{letter}{key}"
        return f"{self.heads[bucket]}{letter}{group}/{key}"


def bucket_of_head(head: str) -> int:
    """The bucket, and cluster slot, that a head's name belongs to."""
    return crc_hqx(head[head.index("{") + 1 : -1].encode(), 0) % BUCKETS
