"""The store on one Redis or Valkey server: no modules, Redis 6.2 or Valkey 7.2 at least."""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import Any
from weakref import WeakKeyDictionary

from aiecs.core.errors import LifecycleError, StoreUnavailableError
from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import check, is_mutating
from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.encode import encode
from aiecs.infrastructure.persistence.stores.redis.entry import Entry
from aiecs.infrastructure.persistence.stores.redis.lane import Lane
from aiecs.infrastructure.persistence.stores.redis.layout import Layout
from aiecs.infrastructure.persistence.stores.redis.prepared import Prepared
from aiecs.infrastructure.persistence.stores.redis.reads import read
from aiecs.infrastructure.persistence.stores.redis.receipts import of_caller
from aiecs.infrastructure.persistence.stores.redis.replies import (
    decoder_of,
    error_of,
    refusal,
)
from aiecs.infrastructure.persistence.stores.redis.scripts import Scripts

_LARGE = 64 * 1024
_SEEN, _FORGOTTEN = 2, 4


class RedisStore:
    """A `Store` on one server.

    One connection per event loop for ordinary commands and one for values over 64 KB. Every write
    is one script call; an unanswered one is sent again under its receipt. `timeout` (seconds) is
    the deadline of a call, waiting for room included.
    """

    capabilities = port.Capabilities("redis", durable=True, expires=True, shared=True)

    def __init__(self, address: Address, *, prefix: str = "ce", timeout: float = 1.0) -> None:
        self._address = address
        self._layout = Layout(prefix)
        self._timeout = timeout
        self._scripts = Scripts()
        self._prepared: dict[port.Plan, Prepared] = {}
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Lane, Lane]] = (
            WeakKeyDictionary()
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pair: tuple[Lane, Lane] | None = None
        self._pid = os.getpid()
        self._closed = False

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "ce", timeout: float = 1.0) -> RedisStore:
        """A store at `redis://`, `rediss://` or `unix://`; nothing is connected yet."""
        return cls(Address.from_url(url), prefix=prefix, timeout=timeout)

    @property
    def address(self) -> Address:
        """Where the server is."""
        return self._address

    @property
    def shapes(self) -> int:
        """How many scripts this store has used; bounded by the release."""
        return len(self._scripts.all())

    async def apply(
        self, batch: port.Batch | port.Call, *, timeout: float | None = None
    ) -> list[Any] | None:
        """Apply a batch; see `Store.apply`."""
        if isinstance(batch, port.Call):
            # One coroutine from here to the reply: this is the path of every message.
            plan, bucket, group, args = batch
            prepared = self._prepared.get(plan) or self._prepare(plan)
            size = prepared.size_of(batch)
            if size < 0:
                return await self.apply(port.Batch(bucket, group, plan.bind(args)), timeout=timeout)
            loop = asyncio.get_running_loop()
            pair = self._pair if self._loop is loop else None
            lane = (pair or self._lanes_here())[size > _LARGE]
            deadline = loop.time() + (timeout or self._timeout)
            if lane.busy:
                await lane.admit(size, deadline)
            if prepared.random:
                args = (secrets.token_hex(2), *args)
            future = loop.create_future()
            front = prepared.front(bucket, group)
            lane.submit(Entry(args, future, size, deadline, prepared.script, front))
            answer = await future
            if type(answer) is not list or answer[0] != 1:
                return self._refused(answer)
            results: list[Any] = answer[1]
            for number, value in prepared.known_results:
                results[number] = value
            for number, decode in prepared.decode:
                results[number] = decode(results[number])
            return results
        check(batch)
        if is_mutating(batch.ops):
            return await self._write(batch, timeout or self._timeout)
        return await self._read(batch, timeout or self._timeout)

    async def ping(self) -> None:
        """Return when the server answers; the typed reason otherwise."""
        lane = self._lanes_here()[0]
        loop = asyncio.get_running_loop()
        await lane.ready(loop.time() + self._timeout)
        (reply,) = await self._ask(lane, [("PING",)], self._timeout)
        if isinstance(reply, Exception):
            raise error_of(str(reply))

    async def command(self, *words: Any) -> Any:
        """One raw command, for diagnosis; its reply."""
        (reply,) = await self._ask(self._lanes_here()[0], [words], self._timeout)
        if isinstance(reply, Exception):
            raise error_of(str(reply))
        return reply

    async def close(self) -> None:
        """Finish what is in flight on this loop and disconnect everywhere; idempotent."""
        self._closed = True
        self._loop = self._pair = None
        here = asyncio.get_running_loop()
        for loop, lanes in list(self._lanes.items()):
            for lane in lanes:
                if loop is here:
                    await lane.close()
                elif not loop.is_closed():
                    loop.call_soon_threadsafe(lane.close_now)
        self._lanes.clear()

    # --- writes ---------------------------------------------------------------------------------

    def _prepare(self, plan: port.Plan) -> Prepared:
        prepared = self._prepared[plan] = Prepared(plan, self._layout, self._scripts)
        return prepared

    async def _write(self, batch: port.Batch, timeout: float) -> list[Any] | None:
        encoded = encode(batch.ops, group=bool(batch.group))
        layout = self._layout
        keys: list[Any] = [layout.heads[batch.bucket]]
        if batch.group:
            keys.append(layout.key(batch.bucket, batch.group, "map", ""))
        keys.extend(layout.key(batch.bucket, batch.group, *key) for key in encoded.keys)
        arguments = (secrets.token_hex(2), "1" if batch.raw else "0", *encoded.arguments)
        size = sum(map(len, arguments))
        lane = self._lanes_here()[size > _LARGE]
        script = self._scripts.of(encoded.shape)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if lane.busy:
            await lane.admit(size, deadline)
        front = ("EVALSHA", script.sha, len(keys), *keys)
        entry = Entry(arguments, loop.create_future(), size, deadline, script, front)
        if batch.receipt is not None:
            entry.receipt = of_caller(*batch.receipt)
        lane.submit(entry)
        answer = await entry.future
        if type(answer) is not list or answer[0] != 1:
            return self._refused(answer)
        return [
            value if decode is None else decode(value)
            for value, decode in zip(answer[1], map(decoder_of, batch.ops), strict=True)
        ]

    @staticmethod
    def _refused(answer: Any) -> None:
        """None for "applied before"; else the exception that the answer means."""
        if type(answer) is not list:
            raise error_of(str(answer))
        if answer[0] == _FORGOTTEN:
            raise StoreUnavailableError(
                "Redis does not know any more how this call ended", outcome="unknown"
            )
        if answer[0] != _SEEN:
            raise refusal(answer)

    # --- reads ----------------------------------------------------------------------------------

    async def _read(self, batch: port.Batch, timeout: float) -> list[Any]:
        lane = self._lanes_here()[0]
        exchange = read(self._layout, batch)
        commands = next(exchange)
        while True:
            replies = await self._ask(lane, _atomic(commands), timeout)
            try:
                commands = exchange.send(_unwrap(replies, commands))
            except StopIteration as done:
                results: list[Any] = done.value
                return results

    async def _ask(self, lane: Lane, commands: list[Any], timeout: float) -> list[Any]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        size = 64 * len(commands)
        if lane.busy:
            await lane.admit(size, deadline)
        entry = Entry(commands, loop.create_future(), size, deadline)
        lane.submit(entry)
        replies: list[Any] = await entry.future
        return replies

    # --- loops ----------------------------------------------------------------------------------

    def _lanes_here(self) -> tuple[Lane, Lane]:
        if self._closed:
            raise LifecycleError("the store is closed")
        loop = asyncio.get_running_loop()
        if self._loop is loop and self._pair is not None:
            return self._pair
        if self._pid != os.getpid():
            # The parent's sockets: to use or to close them here would disturb the parent.
            self._pid = os.getpid()
            self._lanes = WeakKeyDictionary()
        pair = self._lanes.get(loop)
        if pair is None:
            pair = self._lanes[loop] = (self._lane("aiecs"), self._lane("aiecs-large"))
        self._loop, self._pair = loop, pair
        return pair

    def _lane(self, name: str) -> Lane:
        return Lane(self._address, self._scripts, timeout=self._timeout, name=name)


def _atomic(commands: list[Any]) -> list[Any]:
    # TIME and one more command need no transaction.
    return commands if len(commands) <= 2 else [("MULTI",), *commands, ("EXEC",)]  # noqa: PLR2004


def _unwrap(replies: list[Any], commands: list[Any]) -> list[Any]:
    """The commands' own replies, out of a transaction's; the first error is raised."""
    answers: Any = replies if len(replies) == len(commands) else replies[-1]
    for reply in answers if type(answers) is list else [answers]:
        if isinstance(reply, Exception):
            raise error_of(str(reply))
    found: list[Any] = answers
    return found
