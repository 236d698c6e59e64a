"""Where things live: ids to buckets, groups and keys. The only place that spells them."""

from __future__ import annotations

import re
from binascii import crc_hqx
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from aiecs.core.interface.store import BUCKETS

_ESCAPED = re.compile(r"[%/\x00-\x1f\x7f]")


class Place(NamedTuple):
    """The bucket and the group of a session or a thread."""

    bucket: int
    group: str


def bucket_of(name: str) -> int:
    """The bucket of a name: its Redis Cluster slot (CRC-16/XMODEM modulo 16384)."""
    return crc_hqx(name.encode(), 0) % BUCKETS


def escape(name: str) -> str:
    """`name` without `/` and control characters; different names stay different."""
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", name)


def unescape(text: str) -> str:
    """What `escape` was given."""
    return unquote(text)


@lru_cache(maxsize=65_536)
def session_place(session_id: str) -> Place:
    """Where a session lives."""
    return Place(bucket_of(session_id), "s:" + escape(session_id))


@lru_cache(maxsize=65_536)
def thread_place(thread_id: str) -> Place:
    """Where a checkpoint thread lives; in the bucket of the session of the same id."""
    return Place(bucket_of(thread_id), "t:" + escape(thread_id))
