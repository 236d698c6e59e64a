"""The nodes of a Redis Cluster as one event loop reaches them: a bucket is a slot.

A node that refuses an entry says who has its slot (MOVED, ASK) or that it cannot be served yet
(TRYAGAIN, CLUSTERDOWN). Nothing ran then, so the entry goes on under a new number; one that was
under way on a lost connection keeps its own, for the receipts move with the slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import replace
from functools import partial

from aiecs.core.errors import (
    StoreError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from aiecs.core.interface.store import BUCKETS
from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.connection import Server
from aiecs.infrastructure.persistence.stores.redis.entry import Entry
from aiecs.infrastructure.persistence.stores.redis.fleet import (
    LARGE,
    Lanes,
    lanes_to,
    lanes_to_replica,
)
from aiecs.infrastructure.persistence.stores.redis.lane import Lane
from aiecs.infrastructure.persistence.stores.redis.layout import bucket_of_head
from aiecs.infrastructure.persistence.stores.redis.postponed import Postponed
from aiecs.infrastructure.persistence.stores.redis.slot_map import SlotMap, ask_slots
from aiecs.infrastructure.persistence.stores.redis.target import Target
from aiecs.infrastructure.persistence.stores.redis.verdict import (
    NO_REPLICA,
    REDIRECTIONS,
    redirection,
)

_APART = 0.2
_DIRECT = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


class Cluster:
    """A fleet of nodes; follows slots that move and primaries that fail."""

    def __init__(self, target: Target, server: Server) -> None:
        self.loop = asyncio.get_running_loop()
        self._target = target
        self._server = server
        self._nodes: dict[Address, Lanes] = {}
        self._replicas: dict[Address, Lanes] = {}
        self.writing: MutableSequence[Lanes] = []
        self.reading: MutableSequence[Lanes] = []
        self._asked = list(target.seeds)
        self._failure: StoreError | None = None
        self._known = asyncio.Event()
        self._learning: asyncio.Task[None] | None = None
        self._learnt = 0.0
        self._postponed = Postponed(target.name, self._again)
        self._closed = False

    # --- the map --------------------------------------------------------------------------------

    async def ready(self, deadline: float) -> None:
        """Return when it is known where every bucket is."""
        if self.writing:
            return
        self._learn()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._known.wait()
        if not self.writing:
            self._known.clear()
            why = self._failure
            if why is not None:
                raise type(why)(str(why))
            name = self._target.name
            raise StoreTimeoutError(f"the Redis cluster at {name} did not answer in time")

    def _learn(self) -> None:
        if not self._closed and (self._learning is None or self._learning.done()):
            self._learning = self.loop.create_task(self._learn_for_ever())

    async def _learn_for_ever(self) -> None:
        """Ask for the map until every primary in it answers, and replicas are there if wanted."""
        pause = _FIRST_PAUSE
        # Slots that move one by one are told by the refusals; the whole map can wait a little.
        await asyncio.sleep(max(0.0, self._learnt + _APART - self.loop.time()))
        while not self._closed:
            found = await self._ask()
            self._learnt = self.loop.time()
            if found is not None:
                self._adopt(found)
            elif not self.writing:
                self._known.set()
                return  # the caller is told why, and the next one asks again
            if found is not None and self._is_settled(found):
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    def _is_settled(self, found: SlotMap) -> bool:
        # A node that has just heard of a replica does not name it yet.
        if self._target.read_replicas and not all(part.replicas for part in found.parts):
            return False
        asked = dict.fromkeys((*self.writing, *self.reading))
        return not any(lane.is_down for lanes in asked for lane in lanes.each())

    async def _ask(self) -> SlotMap | None:
        """The map as the first node tells it that answers; who has failed is asked last."""
        for address in list(self._asked):
            try:
                found = await ask_slots(replace(self._server, address=address))
            except StoreError as error:
                self._failure = error
            except Exception as error:  # noqa: BLE001 - whatever it is, the callers are to be told
                reason = f"no slot map from {address.name}: {type(error).__name__}"
                self._failure = StoreMisconfiguredError(reason)
            else:
                # Another one next time: a node may not have heard of a change yet.
                told = [*found.addresses(), *self._target.seeds]
                self._asked = [a for a in dict.fromkeys(told) if a != address] + [address]
                return found
            self._asked.remove(address)
            self._asked.append(address)
        return None

    def _adopt(self, found: SlotMap) -> None:
        before = self.writing
        nodes = {address: self._node(address) for address in found.primaries()}
        unserved = next(iter(nodes.values()))
        self.writing = [unserved] * BUCKETS
        for part in found.parts:
            self.writing[part.slots] = [nodes[part.primary]] * len(self.writing[part.slots])
        self.reading = self.writing
        if self._target.read_replicas:
            self.reading = list(self.writing)
            for part in found.parts:
                up = [
                    each for each in map(self._replica, part.replicas) if not each.reading.is_down
                ]
                if up:
                    readers = random.choice(up)  # noqa: S311 - spreads the load
                    self.reading[part.slots] = [readers] * len(self.reading[part.slots])
        self._known.set()
        if before:
            self._hand_over()
        self._forget(found)

    def _node(self, address: Address) -> Lanes:
        if address not in self._nodes:
            server = replace(self._server, address=address, known=True)
            self._nodes[address] = lanes_to(server, self._target.confirmations, self)
        return self._nodes[address]

    def _replica(self, address: Address) -> Lanes:
        if address not in self._replicas:
            server = replace(self._server, address=address, known=True)
            self._replicas[address] = lanes_to_replica(server, self)
        return self._replicas[address]

    def _hand_over(self) -> None:
        """What waits for a node that has lost its slots goes to the node that has them now."""
        serving = set(self.primaries())
        for lanes in list(self._nodes.values()):
            for lane in (lanes.small, lanes.large):
                if lane.is_down and lanes not in serving:
                    lane.abort()
                for entry in lane.surrender(partial(self._is_elsewhere, lanes)):
                    self._pass_on(self._at(entry.front[3]), entry)

    def _is_elsewhere(self, lanes: Lanes, head: str) -> bool:
        return self._at(head) is not lanes

    def _at(self, head: str) -> Lanes:
        return self.writing[bucket_of_head(head)]

    def _forget(self, found: SlotMap) -> None:
        """Disconnect from nodes that have left and that nobody waits for."""
        there = found.addresses()
        for known in (self._nodes, self._replicas):
            for address in [a for a in known if a not in there]:
                if all(lane.under_way == (0, 0) for lane in known[address].each()):
                    for lane in known.pop(address).each():
                        lane.close_now()

    # --- redirections ---------------------------------------------------------------------------

    def down(self) -> None:
        """A node does not answer: another may have taken its slots."""
        self._learn()

    def elsewhere(self, refused_by: Address, entry: Entry, message: str) -> None:
        """Take an entry that a node has refused with `message`."""
        entry.redirects += 1
        if self._closed:
            entry.fail(StoreUnavailableError("the store was closed", outcome=entry.outcome))
            return
        lanes, asking = self._directed(refused_by, message, bucket_of_head(entry.front[3]))
        if lanes is not None and entry.redirects <= _DIRECT:
            self._pass_on(lanes, entry, asking=asking)
        else:
            self._postponed.add(entry)

    def _directed(self, old: Address, message: str, bucket: int) -> tuple[Lanes | None, bool]:
        """Whom a refusal points to, None for nobody; and whether it wants ASKING."""
        code, _, place = message.partition(" ")
        if code not in ("MOVED", "ASK"):
            if code == "CLUSTERDOWN":
                self._learn()
            return None, False
        host, _, port = place.rpartition(" ")[2].rpartition(":")
        if not port.isdecimal():
            return None, False
        address = replace(old, host=old.host if host in ("", "?") else host, port=int(port))
        lanes = self._node(address)
        if code == "MOVED":
            self.writing[bucket] = lanes
            self._learn()
        return lanes, code == "ASK"

    def _pass_on(self, lanes: Lanes, entry: Entry, *, asking: bool = False) -> None:
        if entry.future.done():
            return
        lane = lanes.large if entry.size > LARGE else lanes.small
        if lane.is_down and not entry.repeated:
            self._postponed.add(entry)
        else:
            lane.take(entry, asking=asking)

    def _again(self, entry: Entry) -> None:
        entry.redirects = 0
        self._pass_on(self._at(entry.front[3]), entry)

    def misdirected(self, lane: Lane, replies: Sequence[object]) -> str:
        """The reply that sends a reader elsewhere; "" when all were answered here."""
        codes = REDIRECTIONS + NO_REPLICA if lane.reads_replica else REDIRECTIONS
        return next(filter(None, (redirection(reply, codes) for reply in replies)), "")

    async def follow(
        self, lane: Lane, message: str, bucket: int, tries: int, deadline: float
    ) -> tuple[Lane, bool]:
        """Whom a misdirected reader asks next, and whether it has to say ASKING."""
        if message.startswith(NO_REPLICA):
            return self.writing[bucket].reading, False
        lanes, asking = self._directed(lane.address, message, bucket)
        if lanes is None or tries > _DIRECT:
            await self._postponed.wait(tries, deadline)
            lanes, asking = self.writing[bucket], False
        return lanes.reading, asking

    # --- all of them ----------------------------------------------------------------------------

    def primaries(self) -> Iterable[Lanes]:
        """Every server that writes go to."""
        return dict.fromkeys(self.writing)

    def lanes(self) -> Iterable[Lane]:
        """Every lane that was opened."""
        everyone = (*self._nodes.values(), *self._replicas.values())
        return [lane for lanes in everyone for lane in lanes.each()]

    async def close(self) -> None:
        """Finish what is in flight and disconnect."""
        await self._stop()
        await asyncio.gather(*(lane.close() for lane in self.lanes()))

    async def _stop(self) -> None:
        learning = self._learning
        self._give_up()
        if learning is not None:
            await asyncio.gather(learning, return_exceptions=True)

    def close_now(self) -> None:
        """Disconnect at once; from the fleet's own loop."""
        self._give_up()
        for lane in self.lanes():
            lane.close_now()

    def _give_up(self) -> None:
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
        self._postponed.fail_all("the store was closed")
