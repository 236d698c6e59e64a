"""Bytes made smaller (extra `zstd`), and made large again within bounds."""

from __future__ import annotations

from importlib.util import find_spec

from aiecs.core.errors import CorruptRecordError, MissingExtraError

_LEVEL = 3
_LEAST_BYTES = 1024
_WORTH_IT = 0.9


def require() -> None:
    """`MissingExtraError` unless bytes can be compressed."""
    if find_spec("zstandard") is None:
        raise MissingExtraError("compression", "zstd")


def compressed(plain: bytes | memoryview) -> bytes | None:
    """The bytes compressed; None for those that are small, or would hardly be smaller."""
    if len(plain) < _LEAST_BYTES:
        return None
    import zstandard

    small = zstandard.ZstdCompressor(level=_LEVEL).compress(plain)
    return small if len(small) < _WORTH_IT * len(plain) else None


def expanded(small: bytes, most: int) -> bytes:
    """What `compressed` was given.

    `CorruptRecordError` for what is damaged or says that it is longer than `most` bytes.
    """
    require()
    import zstandard

    try:
        if zstandard.frame_content_size(small) in range(most + 1):
            return zstandard.ZstdDecompressor().decompress(small)
    except zstandard.ZstdError:
        pass
    raise CorruptRecordError("a compressed value is damaged")
