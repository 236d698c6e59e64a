"""Bytes to and from one Redis server, and what is said first."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import hiredis

from aiecs.core.errors import (
    StoreAuthError,
    StoreError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.diagnosis import (
    answers_with_tls,
    answers_without_tls,
)
from aiecs.infrastructure.persistence.stores.redis.replies import code_of, error_of
from aiecs.infrastructure.persistence.stores.redis.scripts import PERMISSIONS, Scripts

# What hiredis raises for bytes that are no replies, of an absurd size or with keys of any type.
_NO_REPLY = (hiredis.ProtocolError, MemoryError, TypeError)


class Owner(Protocol):
    """Who takes the replies of a connection."""

    def received(self, reply: Any) -> None: ...
    def heard(self) -> None: ...
    def lost(self, connection: Connection) -> None: ...


@dataclass(slots=True)
class Tally:
    """What has happened since the store was made, on connections that are gone too."""

    reconnects: int = 0
    unknown_outcomes: int = 0


@dataclass(slots=True)
class Server:
    """What all connections of one store have in common."""

    address: Address
    scripts: Scripts
    key: str
    """A key that stands for all that will be used, for the question whether we may."""
    timeout: float
    known: bool = False
    """It has answered as Redis before: then it is not misconfigured but down."""
    clustered: bool = False
    """It is to be a node of a cluster."""
    replica: bool = False
    """It is a replica that only answers reads."""
    locate: Callable[[], Awaitable[Address]] | None = None
    """Asks the sentinels where the primary is now."""
    tally: Tally = field(default_factory=Tally)


class Greeting(NamedTuple):
    """The server's clock (microseconds) and the scripts it has now."""

    microseconds: int
    loaded: list[str]


class Connection(asyncio.Protocol):
    """A RESP2 connection; replies go to the owner one by one, in order."""

    def __init__(self, server: Server, owner: Owner, name: str) -> None:
        self._server = server
        self._address = server.address
        self._owner = owner
        self._name = name
        self._reader = hiredis.Reader(replyError=ServerError)
        self._transport: asyncio.Transport | None = None
        self._greeting: asyncio.Future[list[Any]] | None = None
        self._greeted: list[Any] = []
        self._expected = 0
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, server: Server, owner: Owner, name: str) -> Connection:
        """Connect, or raise the typed reason why not within the server's timeout."""
        connection = cls(server, owner, name)
        address = server.address
        try:
            async with asyncio.timeout(server.timeout):
                await connection._dial()
        except TimeoutError:
            raise StoreTimeoutError(f"Redis at {address.name} did not accept in time") from None
        except ssl.SSLCertVerificationError as error:
            raise StoreMisconfiguredError(
                f"the certificate of {address.name} is not trusted: {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            raise StoreMisconfiguredError(
                f"{address.name} does not speak TLS as asked: {error.reason}"
            ) from None
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot reach Redis at {address.name}: {error.strerror or error}"
            ) from None
        return connection

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        address = self._address
        if address.path:
            await loop.create_unix_connection(lambda: self, address.path)
            return
        context = address.ssl_context()
        opening = loop.create_connection(lambda: self, address.host, address.port, ssl=context)
        if context is None or self._server.known:
            await opening
            return
        # A plain Redis waits for the end of a line that TLS never sends.
        dialing = loop.create_task(opening)
        try:
            done, _ = await asyncio.wait([dialing], timeout=self._server.timeout / 2)
            if not done and await answers_without_tls(address, self._server.timeout / 4):
                raise StoreMisconfiguredError(f"{address.name} speaks no TLS: use redis://")
            await dialing
        finally:
            dialing.cancel()

    async def greet(self) -> Greeting:
        """Log in, choose the database, load the scripts; raise the typed refusal."""
        permitted = ("EVAL", PERMISSIONS, 0, self._server.key)
        commands = [*self._login(), ("TIME",), ("INFO", "cluster"), permitted]
        if self._server.locate is not None:
            commands.append(("ROLE",))
        commands.extend(("SCRIPT", "LOAD", script.text) for script in self._server.scripts.all())
        self._expected = len(commands)
        self._greeting = asyncio.get_running_loop().create_future()
        self.write(b"".join(hiredis.pack_command(command) for command in commands))
        try:
            async with asyncio.timeout(self._server.timeout):
                replies = await self._greeting
        except TimeoutError:
            raise StoreTimeoutError(
                f"{self._address.name} accepted the connection but does not answer like Redis"
            ) from None
        finally:
            self._greeting = None
        if len(replies) == len(commands):
            return self._judge(commands, replies)
        raise await self._hung_up(commands, replies)

    async def _hung_up(self, commands: list[tuple[Any, ...]], replies: list[Any]) -> Exception:
        """Why the server closed the connection before it had answered everything."""
        for command, reply in zip(commands, replies, strict=False):
            if isinstance(reply, Exception):
                return self._login_error(str(command[0]), str(reply))
        name = self._address.name
        unknown = not self._server.known and not replies and self._address.tls is None
        if unknown and await answers_with_tls(self._address, self._server.timeout / 4):
            return StoreMisconfiguredError(f"{name} wants TLS: use rediss://")
        return StoreUnavailableError(f"{name} closed the connection before it answered")

    def _login(self) -> list[tuple[Any, ...]]:
        commands: list[tuple[Any, ...]] = []
        address = self._address
        if address.password is not None:
            user = (address.username,) if address.username else ()
            commands.append(("AUTH", *user, address.password))
        if address.db:
            commands.append(("SELECT", address.db))
        commands.append(("CLIENT", "SETNAME", self._name))
        if self._server.replica:
            commands.append(("READONLY",))
        return commands

    def _judge(self, commands: list[tuple[Any, ...]], replies: list[Any]) -> Greeting:
        microseconds = 0
        loaded: list[str] = []
        for (command, *_), reply in zip(commands, replies, strict=True):
            if command == "INFO":
                self._judge_mode(reply)
            elif command == "ROLE":
                self._judge_role(reply)
            elif isinstance(reply, Exception):
                # A name for the connection and scripts in advance are conveniences.
                if command not in ("CLIENT", "SCRIPT") or code_of(str(reply)) == "NOAUTH":
                    raise self._login_error(str(command), str(reply))
            elif command == "TIME":
                microseconds = int(reply[0]) * 1_000_000 + int(reply[1])
            elif command == "EVAL" and reply:
                lacking = b" ".join(reply).decode()
                raise StoreAuthError(f"the Redis user lacks a permission: {lacking}")
            elif command == "SCRIPT":
                loaded.append(reply.decode())
        return Greeting(microseconds, loaded)

    def _judge_mode(self, reply: Any) -> None:
        if not isinstance(reply, bytes):  # it need not tell
            return
        name, clustered = self._address.name, b"cluster_enabled:1" in reply
        if clustered and not self._server.clustered:
            raise StoreMisconfiguredError(
                f"{name} is a Redis Cluster; use a redis+cluster:// address"
            )
        if self._server.clustered and not clustered:
            raise StoreMisconfiguredError(f"{name} is no Redis Cluster; use a redis:// address")

    def _judge_role(self, reply: Any) -> None:
        if isinstance(reply, list) and reply[0] != b"master":
            raise StoreUnavailableError(f"{self._address.name} is not the primary")

    def _login_error(self, command: str, message: str) -> Exception:
        if command == "SELECT" and "NOAUTH" not in message and "NOPERM" not in message:
            return StoreMisconfiguredError(
                f"{self._address.name} has no database {self._address.db}: {message[:100]}"
            )
        if command == "AUTH" and "WRONGPASS" not in message and "NOPERM" not in message:
            return error_of("WRONGPASS " + message)
        error = error_of(message)
        return error if isinstance(error, StoreError) else StoreUnavailableError(message[:200])

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=4 * 1024 * 1024)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        gets = self._reader.gets
        received = self._owner.received
        self._reader.feed(data)
        self._owner.heard()
        while True:
            try:
                reply = gets()
            except _NO_REPLY:
                self._give_up()
                return
            if reply is False:
                return
            if self._greeting is not None:
                self._take_greeting(reply)
            else:
                received(reply)

    def _give_up(self) -> None:
        """What came is no reply of Redis, and no one can say where the next one would begin."""
        if self._greeting is not None and not self._greeting.done():
            message = f"{self._address.name} does not speak the Redis protocol"
            self._greeting.set_exception(StoreMisconfiguredError(message))
        self.abort()

    def _take_greeting(self, reply: Any) -> None:
        self._greeted.append(reply)
        if len(self._greeted) == self._expected and self._greeting is not None:
            if not self._greeting.done():
                self._greeting.set_result(self._greeted)
            self._greeting = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_result(self._greeted)
        if not self._lost.done():
            self._lost.set_result(None)
        self._owner.lost(self)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is not None:
            self._transport.write(data)

    async def wait_closed(self, timeout: float) -> None:
        """Return when the connection is gone, at the latest after `timeout` seconds."""
        await asyncio.wait([self._lost], timeout=timeout)
        self.abort()

    def abort(self) -> None:
        """Drop the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close after what was written is sent."""
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.close()


class ServerError(Exception):
    """An error reply; kept as a value until its caller reads it."""
