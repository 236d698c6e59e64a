"""Why an address does not answer as it should: asked only when nothing was ever said there."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from aiecs.infrastructure.persistence.stores.redis.address import Address


async def answers_without_tls(address: Address, seconds: float) -> bool:
    """Whether a server that we address with TLS speaks plain Redis."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            with contextlib.closing(writer.transport):
                writer.write(b"PING\r\n")
                return (await reader.read(1)) in (b"+", b"-")
    except OSError:  # a TimeoutError is one
        return False


async def answers_with_tls(address: Address, seconds: float) -> bool:
    """Whether a server that we address without TLS wants it. Nothing is said to it."""
    if address.path is not None:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
            writer.transport.abort()
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it wants a certificate of ours
    except OSError:
        return False
    return True
