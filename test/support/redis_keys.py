"""What a Redis server holds, key by key: for tests that look behind the store."""

from __future__ import annotations

from typing import Any

from aiecs.infrastructure.persistence.stores.redis import RedisStore


async def whole_hash(store: RedisStore, key: bytes | str) -> dict[bytes, bytes]:
    """A hash as it lies there."""
    flat = await store.command("HGETALL", key)
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def state(store: RedisStore, prefix: str) -> dict[bytes, Any]:
    """Every key with its whole content, but for receipts."""
    found: dict[bytes, Any] = {}
    for key in sorted(await store.command("KEYS", prefix + "*")):
        if await store.command("TYPE", key) == b"hash":
            whole = await whole_hash(store, key)
            found[key] = {name: value for name, value in whole.items() if name[:2] != b"w:"}
        else:
            found[key] = await store.command("DUMP", key)
    return {key: value for key, value in found.items() if value}
