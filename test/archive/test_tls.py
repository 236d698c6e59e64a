"""An archive behind TLS, and each way to get it wrong."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from support.clickhouse import Bridge, Database
from support.redis_starts import serving

from aiecs import ContextEngine
from aiecs.core.errors import ArchiveAuthError, ArchiveUnavailableError
from aiecs.infrastructure.persistence.archive import ClickHouseArchive

TLS = Path(__file__).parents[1] / "support" / "tls"


@pytest.fixture
async def secure(clickhouse_bridge: Bridge):
    """A port that speaks TLS, in front of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_server = await asyncio.open_connection("127.0.0.1", clickhouse_bridge.port)
        try:
            await asyncio.gather(_pump(reader, to_server), _pump(upstream, writer))
        finally:
            to_server.transport.abort()

    async with serving(relay, ssl=context) as port:
        yield port


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    target.close()


async def test_messages_go_there_and_come_back(secure: int, archive_database: Database):
    url = f"clickhouses://localhost:{secure}/{archive_database.name}?ca={TLS / 'cert.pem'}"
    async with ContextEngine(store="memory://", archive=url) as engine:
        await engine.add_conversation_message("s", "user", "hello")
        await engine.archive_barrier(timeout=30)
        query = "SELECT content FROM context_conversations"
        assert await engine.archive.query(query) == [("hello",)]


@pytest.mark.parametrize(
    ("scheme", "error"),
    [("clickhouses", ArchiveAuthError), ("clickhouse", ArchiveUnavailableError)],
    ids=["signed by nobody we know", "plain"],
)
async def test_it_is_told_and_no_password_with_it(secure: int, archive_database, scheme, error):
    url = f"{scheme}://user:secret@localhost:{secure}/{archive_database.name}"
    archive = ClickHouseArchive.from_url(url)
    with pytest.raises(error) as raised:
        await asyncio.to_thread(archive.open)
    assert "secret" not in str(raised.value)
