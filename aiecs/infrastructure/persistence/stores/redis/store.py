"""The store on Redis or Valkey: no modules, Redis 6.2 or Valkey 7.2 at least."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from typing import Any

from hiredis import pack_command

from aiecs.core.errors import (
    InvalidInputError,
    LifecycleError,
    Outcome,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import check, is_mutating
from aiecs.core.interface.calls import call_size
from aiecs.infrastructure.persistence.stores.redis.cluster import Cluster
from aiecs.infrastructure.persistence.stores.redis.condition import (
    even_when_full,
)
from aiecs.infrastructure.persistence.stores.redis.connection import Server
from aiecs.infrastructure.persistence.stores.redis.encode import encode
from aiecs.infrastructure.persistence.stores.redis.entry import Entry
from aiecs.infrastructure.persistence.stores.redis.examination import Examination
from aiecs.infrastructure.persistence.stores.redis.fleet import LARGE, Fleet, OneServer
from aiecs.infrastructure.persistence.stores.redis.lane import Lane
from aiecs.infrastructure.persistence.stores.redis.layout import Layout
from aiecs.infrastructure.persistence.stores.redis.log_window import Command
from aiecs.infrastructure.persistence.stores.redis.prepared import Prepared
from aiecs.infrastructure.persistence.stores.redis.reads import Exchange, ReadShape, in_one
from aiecs.infrastructure.persistence.stores.redis.receipts import of_caller
from aiecs.infrastructure.persistence.stores.redis.replies import (
    decoder_of,
    error_of,
    refusal,
)
from aiecs.infrastructure.persistence.stores.redis.scripts import Scripts
from aiecs.infrastructure.persistence.stores.redis.sentinels import locator
from aiecs.infrastructure.persistence.stores.redis.target import Target, target_of

_LONGEST = 300.0  # seconds; receipts are kept for twice as long
_MOST_WORDS = 1_000_000  # Redis takes 2^20 in one command
_SEEN, _FORGOTTEN = 2, 4
_WORDS = ("PING", "MULTI", "EXEC", "ASKING")
_PING, _MULTI, _EXEC, _ASKING = (pack_command((word,)) for word in _WORDS)


# What comes of replies that are no answers to what was asked.
_NONSENSE = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)


class _Misdirected(Exception):  # noqa: N818 - an answer of a cluster's node
    """Another node has to be asked; the message is the node's."""


class RedisStore(Examination):
    """A `Store` on one server, on the primary that sentinels watch, or on a cluster.

    One connection per event loop and server for ordinary commands and one for values over 64 KB.
    Every write is one script call; an unanswered one is sent again under its receipt. `timeout`
    (seconds) is the deadline of a call, waiting for room included.
    """

    capabilities = port.Capabilities("redis", durable=True, expires=True, shared=True)

    def __init__(self, target: Target, *, prefix: str = "ce", timeout: float = 1.0) -> None:
        self.target = target
        self._prefix = prefix
        self._layout = Layout(prefix)
        self._timeout = min(timeout, _LONGEST)
        self._scripts = Scripts()
        key = self._layout.heads[0]
        self._server = Server(target.seeds[0], self._scripts, key, self._timeout)
        self._server.clustered = target.clustered
        if target.primary:
            self._server.locate = locator(target, self._timeout)
        self._prepared: dict[port.Plan, Prepared] = {}
        self._fleets: dict[asyncio.AbstractEventLoop, Fleet] = {}
        #: That of the loop that asked last; one attribute, for threads must not mix them.
        self._latest: Fleet | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._inherited: list[object] = []
        self._closed = False

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "ce", timeout: float = 1.0) -> RedisStore:
        """A store at a URL (`target`); nothing is connected yet."""
        return cls(target_of(url), prefix=prefix, timeout=timeout)

    async def twin(self, timeout: float) -> RedisStore:
        """The same store by connections of its own, to be used and closed apart from this one.

        It writes even where the memory is full (from Redis 7 on), as only what makes room should.
        """
        twin = RedisStore(self.target, prefix=self._prefix, timeout=timeout)
        with contextlib.suppress(StoreError):
            twin._scripts.opening = even_when_full(await twin.command("INFO", "server"))
        return twin

    @property
    def shapes(self) -> int:
        """How many scripts this store has used; bounded by the release."""
        return len(self._scripts.all())

    async def apply(
        self, batch: port.Batch | port.Call, *, timeout: float | None = None
    ) -> list[Any] | None:
        """Apply a batch; see `Store.apply`."""
        if isinstance(batch, port.Batch):
            return await self._apply(batch, timeout)
        # One coroutine from here to the reply: this is the path of every message.
        plan, bucket, group, args = batch
        prepared = self._prepared.get(plan) or self._prepare(plan)
        if prepared.reads is not None:
            call_size(batch)  # for its checks
            return await self._read(prepared.reads, bucket, group, plan.bind(args), timeout)
        size = prepared.size_of(batch)
        if size < 0:
            full = port.Batch(bucket, group, plan.bind(args), plan.raw)
            return await self._apply(full, timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds(timeout)
        fleet = self._latest
        if fleet is None or fleet.loop is not loop:
            fleet = await self._fleet_here(deadline)
        lanes = fleet.writing[bucket]
        lane = lanes.large if size > LARGE else lanes.small
        if lane.busy:
            await lane.admit(size, deadline)
        if prepared.random:
            args = (secrets.token_hex(2), *args)
        future = loop.create_future()
        front = prepared.front(bucket, group)
        lane.submit(Entry(args, future, size, deadline, prepared.script, front))
        answer = await future
        try:
            if type(answer) is not list or answer[0] != 1:
                return self._refused(answer)
            return prepared.results(answer)
        except _NONSENSE:
            raise _not_redis("unknown") from None

    async def _apply(self, batch: port.Batch, timeout: float | None) -> list[Any] | None:
        check(batch)
        if is_mutating(batch.ops):
            return await self._write(batch, timeout)
        shape = ReadShape(batch.ops, raw=batch.raw)
        return await self._read(shape, batch.bucket, batch.group, batch.ops, timeout)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else min(timeout, _LONGEST)

    def _deadline(self, timeout: float | None) -> float:
        return asyncio.get_running_loop().time() + self._seconds(timeout)

    async def ping(self) -> None:
        """Return when every server that takes writes answers; the typed reason otherwise."""
        deadline = self._deadline(None)
        fleet = await self._fleet_here(deadline)
        await asyncio.gather(*(self._ping(lanes.small, deadline) for lanes in fleet.primaries()))

    async def _ping(self, lane: Lane, deadline: float) -> None:
        await lane.ready(deadline)
        (reply,) = await self._ask(lane, [_PING], deadline)
        if isinstance(reply, Exception):
            raise error_of(str(reply))

    async def command(self, *words: Any) -> Any:
        """One raw command without a key, for diagnosis; its reply. Of a cluster, any node's."""
        deadline = self._deadline(None)
        lane = (await self._fleet_here(deadline)).writing[0].small
        (reply,) = await self._ask(lane, [pack_command(words)], deadline)
        if isinstance(reply, Exception):
            raise error_of(str(reply))
        return reply

    def lanes(self) -> list[Lane]:
        """Every connection that this store has opened, on every loop."""
        return [lane for fleet in list(self._fleets.values()) for lane in fleet.lanes()]

    async def close(self) -> None:
        """Finish what is in flight on this loop and disconnect everywhere; idempotent."""
        here = asyncio.get_running_loop()
        with self._guarded():
            self._closed = True
            self._latest = None
            fleets, self._fleets = self._fleets, {}
        for loop, fleet in fleets.items():
            if loop is here:
                await fleet.close()
                continue
            with contextlib.suppress(RuntimeError):  # that loop has ended meanwhile
                loop.call_soon_threadsafe(fleet.close_now)

    # --- writes ---------------------------------------------------------------------------------

    def _prepare(self, plan: port.Plan) -> Prepared:
        prepared = self._prepared[plan] = Prepared(plan, self._layout, self._scripts)
        return prepared

    async def _write(self, batch: port.Batch, timeout: float | None) -> list[Any] | None:
        deadline = self._deadline(timeout)
        encoded = encode(batch.ops, group=bool(batch.group))
        layout = self._layout
        keys: list[Any] = [layout.heads[batch.bucket]]
        if batch.group:
            keys.append(layout.key(batch.bucket, batch.group, "map", ""))
        keys.extend(layout.key(batch.bucket, batch.group, *key) for key in encoded.keys)
        arguments = (secrets.token_hex(2), "1" if batch.raw else "0", *encoded.arguments)
        if len(keys) + len(arguments) > _MOST_WORDS:
            raise InvalidInputError("the operations of a batch hold too many fields together")
        size = sum(map(len, arguments))
        lanes = (await self._fleet_here(deadline)).writing[batch.bucket]
        lane = lanes.large if size > LARGE else lanes.small
        script = self._scripts.of(encoded.shape)
        if lane.busy:
            await lane.admit(size, deadline)
        front = ("EVALSHA", script.sha, len(keys), *keys)
        future = asyncio.get_running_loop().create_future()
        entry = Entry(arguments, future, size, deadline, script, front)
        if batch.receipt is not None:
            entry.receipt = of_caller(*batch.receipt)
        lane.submit(entry)
        answer = await future
        try:
            if type(answer) is not list or answer[0] != 1:
                return self._refused(answer)
            return [
                value if decode is None else decode(value)
                for value, decode in zip(answer[1], map(decoder_of, batch.ops), strict=True)
            ]
        except _NONSENSE:
            raise _not_redis("unknown") from None

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

    async def _read(
        self,
        shape: ReadShape,
        bucket: int,
        group: str,
        ops: tuple[port.Op, ...],
        timeout: float | None,
    ) -> list[Any]:
        deadline = self._deadline(timeout)
        fleet = await self._fleet_here(deadline)
        lane, asking, tries = fleet.reading[bucket].reading, False, 0
        if lane.is_down or shape.scripted:
            lane = fleet.writing[bucket].reading
        exchange = Exchange(self._layout, shape, bucket, group, ops)
        while True:
            commands = exchange.commands()
            try:
                answers = await self._answers(fleet, lane, commands, deadline, asking=asking)
            except _Misdirected as refusal:
                tries += 1
                lane, asking = await fleet.follow(lane, str(refusal), bucket, tries, deadline)
                continue
            except StoreError:
                if not lane.reads_replica or fleet.loop.time() >= deadline:
                    raise
                lane, asking = fleet.writing[bucket].reading, False
                continue
            try:
                results = exchange.results(answers)
            except _NONSENSE:
                raise _not_redis("not_applied") from None
            if results is not None:
                return results

    async def _answers(
        self, fleet: Fleet, lane: Lane, commands: list[Command], deadline: float, *, asking: bool
    ) -> list[Any]:
        """The replies to commands that are answered at one moment."""
        packed = list(map(pack_command, commands))
        if asking:
            packed = [_ASKING, _MULTI, *packed, _EXEC]
        elif not _at_one_moment(commands):
            packed = [_MULTI, *packed, _EXEC]
        replies = await self._ask(lane, packed, deadline)
        if elsewhere := fleet.misdirected(lane, replies):
            raise _Misdirected(elsewhere)
        try:
            return replies if len(replies) == len(commands) else _unwrap(replies)
        except StoreFullError:
            # Redis 7 takes no transaction while it is full, not even one that only reads.
            script = [*([_ASKING] if asking else []), pack_command(in_one(commands))]
            answers = (await self._ask(lane, script, deadline))[-1]
            if isinstance(answers, Exception):
                raise error_of(str(answers)) from None
            found: list[Any] = answers
            return found

    async def _ask(self, lane: Lane, commands: list[bytes], deadline: float) -> list[Any]:
        size = 64 * len(commands)
        if lane.busy:
            await lane.admit(size, deadline)
        future = asyncio.get_running_loop().create_future()
        lane.submit(Entry(commands, future, size, deadline))
        replies: list[Any] = await future
        return replies

    # --- loops ----------------------------------------------------------------------------------

    async def _fleet_here(self, deadline: float) -> Fleet:
        loop = asyncio.get_running_loop()
        latest = self._latest
        if latest is not None and latest.loop is loop:
            return latest
        with self._guarded():
            if self._closed:
                raise LifecycleError("the store is closed")
            fleet = self._fleets.get(loop)
            if fleet is None:
                for ended in [other for other in self._fleets if other.is_closed()]:
                    del self._fleets[ended]
                fleet = self._fleets[loop] = self._new_fleet()
        await fleet.ready(deadline)
        if not self._closed:
            self._latest = fleet
        return fleet

    def _new_fleet(self) -> Fleet:
        if self.target.clustered:
            return Cluster(self.target, self._server)
        return OneServer(self._server, port.BUCKETS, self.target.confirmations)

    def _guarded(self) -> threading.Lock:
        """The lock of what follows; in a forked process also a fresh start.

        The parent's connections are kept, and left alone: to use, close or collect them here would
        disturb the parent.
        """
        if self._pid != os.getpid():
            self._inherited.append((self._fleets, self._latest))
            self._pid, self._lock = os.getpid(), threading.Lock()
            self._fleets, self._latest = {}, None
        return self._lock


def _not_redis(outcome: Outcome) -> StoreError:
    return StoreUnavailableError("the server answers what Redis would not", outcome=outcome)


def _at_one_moment(commands: list[Any]) -> bool:
    """Whether the commands need no transaction: one, or one and the time before it."""
    return len(commands) == 1 or (len(commands) == 2 and commands[0] == ("TIME",))  # noqa: PLR2004


def _unwrap(replies: list[Any]) -> list[Any]:
    """The commands' own replies, out of a transaction's."""
    answers = replies[-1]
    if isinstance(answers, Exception):  # for the reason that one of the commands was told
        raise error_of(str(next(reply for reply in replies if isinstance(reply, Exception))))
    found: list[Any] = answers
    return found
