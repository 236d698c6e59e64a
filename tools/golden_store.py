"""Writes the stores that later versions have to read: `python tools/golden_store.py`.

Run once for each format of the stores, by the version that introduces it; what it writes into
test/golden is never written anew.
"""

# ruff: noqa: INP001 - a script

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

from support import servers as real  # noqa: E402
from support.golden import GOLDEN, fill_golden, keys_of, told  # noqa: E402

from aiecs import ContextEngine  # noqa: E402
from aiecs.domain.context.migration import migrate  # noqa: E402

_NEVER = {"session_ttl": None, "checkpoint_ttl": None, "operation_timeout": 30}


async def main() -> None:
    """Fill a file, move it to a server, and keep both with what is to be read out of them."""
    servers = real.Servers()
    server = servers.start(real.names()[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        async with ContextEngine(store=f"sqlite:///{path}", **_NEVER) as written:
            await fill_golden(written)
            async with ContextEngine(store=server.url, **_NEVER) as copied:
                await migrate(written, copied)
            expected = await told(written)
        file = path.read_bytes()
    keys = json.dumps(await keys_of(server.url)).encode()
    servers.close()
    (GOLDEN / "1.db.gz").write_bytes(gzip.compress(file, mtime=0))
    (GOLDEN / "1.redis.json.gz").write_bytes(gzip.compress(keys, mtime=0))
    text = json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=False)
    (GOLDEN / "1.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
