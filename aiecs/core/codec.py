"""Values to bytes and back without loss: JSON, and tags for what JSON cannot hold.

Plain JSON (`None`, `bool`, `int`, finite `float`, `str`, `list`, `dict` with `str` keys)
is stored as it is. Everything else becomes `{"~": [tag, payload]}`: bytes, bytearray,
complex, Decimal, UUID, datetime, date, time, timedelta, tuple, set, frozenset, dicts with
other keys, and the classes made known with `register_type`. A dict that itself has the
key `"~"` is tagged too, so no value can pass for a tag.

Decoding builds values of these types and nothing else: a name in stored bytes is looked
up among the registered ones and never imported.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aiecs.core.codec_tags import TAG, Tagger, restore
from aiecs.core.codec_types import register_type
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.plain_json import (
    MAX_BYTES,
    MAX_DEPTH,
    check_json,
    clean_text,
    dump_json,
    is_plain,
    load_json,
)

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "check_json",
    "clean_text",
    "decode",
    "dump_json",
    "encode",
    "encode_flagged",
    "load_json",
    "register_type",
]

_TAG_MARK = f'"{TAG}":'.encode()

_encoder = msgspec.json.Encoder()


def encode(value: Any, *, what: str = "value", max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes that `decode` turns back into an equal value of the same types.

    Two things are not kept: a lone surrogate in text becomes U+FFFD (`encode_flagged`
    tells), and an aware time keeps its offset, but of its zone only a `zoneinfo` name.
    `InvalidInputError`, naming the place inside `what`: a class that is not registered,
    a number that is not finite, more than 64 levels, a result of more than `max_bytes`.
    """
    return encode_flagged(value, what=what, max_bytes=max_bytes)[0]


def encode_flagged(
    value: Any, *, what: str = "value", max_bytes: int = MAX_BYTES
) -> tuple[bytes, bool]:
    """As `encode`; also whether a lone surrogate was replaced."""
    data, replaced = _encode_plain(value, max_bytes), False
    if data is None:
        tagger = Tagger(what, max_bytes)
        data = _encoder.encode(tagger.tag(value))
        replaced = tagger.replaced
    if len(data) > max_bytes:
        raise InvalidInputError(f"{what} has {len(data)} bytes; at most {max_bytes} are allowed")
    return data, replaced


def decode(data: bytes | bytearray | memoryview) -> Any:
    """The value that `encode` was given.

    `CorruptRecordError` if the bytes are not what `encode` writes, or name a class that
    is not registered in this process.
    """
    if not isinstance(data, bytes):
        data = bytes(data)
    value = load_json(data)
    if _TAG_MARK not in data:
        return value
    try:
        return restore(value)
    except RecursionError:
        raise CorruptRecordError("stored value is nested too deeply") from None


def _encode_plain(value: Any, max_bytes: int) -> bytes | None:
    """The fast path; None if `value` needs the slow one, be it for tags or for its error."""
    if not is_plain(value, max_bytes=max_bytes, but_key=TAG):
        return None
    try:
        return _encoder.encode(value)
    except ValueError:  # a lone surrogate, or an integer too long to print
        return None
