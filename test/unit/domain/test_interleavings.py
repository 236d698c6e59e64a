"""Two operations on one session, their batches mixed in every order, or many of them."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest
from support.services import DAY, Services, Store

from aiecs.core.interface import store as port
from aiecs.domain.context import groups

Work = Callable[[Services], Coroutine[Any, Any, Any]]
ORDERS = int(os.environ.get("TEST_ORDERS", "80"))  # 100,000 are all of them, in some minutes
PARTIES = [{"id": "a1", "type": "agent"}]


class Turn:
    """Where an operation stops until it is its turn again."""

    def __await__(self) -> Generator[Turn]:
        yield self


class TurnStore(Store):
    """Stops before each batch while `mixed` runs two operations; else a store like others."""

    mixing = False

    async def apply(
        self, batch: port.Batch | port.Call, *, timeout: float | None = None
    ) -> list[Any] | None:
        if self.mixing:
            await Turn()
        return await super().apply(batch, timeout=timeout)


class Runner:
    """Runs a coroutine from one batch to the next."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work
        self.done = False

    def step(self) -> None:
        try:
            self._work.send(None)
        except StopIteration:
            self.done = True

    def close(self) -> None:
        self._work.close()


def run(runners: tuple[Runner, Runner], order: list[int]) -> list[int]:
    """Run both to their ends: as `order` says, then the first one first. The order it was."""
    taken: list[int] = []
    while not all(runner.done for runner in runners):
        wanted = order[len(taken)] if len(taken) < len(order) else 0
        chosen = wanted if not runners[wanted].done else 1 - wanted
        runners[chosen].step()
        taken.append(chosen)
    return taken


async def mixed(
    before: Work, one: Work, other: Work, after: Callable[[Services, list[int]], Awaitable[None]]
) -> int:
    """Run `one` and `other` in up to `ORDERS` orders of their batches; how many those were."""
    orders: list[list[int]] = [[]]
    chance = random.Random(0)
    count = 0
    while orders and count < ORDERS:
        order = orders.pop(chance.randrange(len(orders)))
        bench = Services(TurnStore())
        await before(bench)
        await bench.settled()
        bench.store.mixing = True  # type: ignore[attr-defined]
        taken = run((Runner(one(bench)), Runner(other(bench))), order)
        bench.store.mixing = False  # type: ignore[attr-defined]
        orders += [[*taken[:n], 1] for n in range(len(order), len(taken)) if possible(taken, n)]
        await bench.settled()
        await after(bench, taken)
        count += 1
    return count


def possible(taken: list[int], at: int) -> bool:
    """Whether the other one could have had the turn: it was not through yet."""
    return taken[at] == 0 and 1 in taken[at:]


async def links(bench: Services) -> tuple[str, ...] | None:
    group = await groups.read_session(bench.runtime, "s")
    return None if group is None else group.threads


async def nothing(bench: Services) -> None:
    """No session yet."""


async def session(bench: Services) -> None:
    await bench.sessions.create("s")


async def unlinked_thread(bench: Services) -> None:
    await bench.sessions.create("s")
    await bench.checkpoints.store("t", "0", {})


async def linked_thread(bench: Services) -> None:
    await bench.checkpoints.store("t", "0", {}, session_id="s")


async def expired(bench: Services) -> None:
    """A session that has expired, and its thread that has not."""
    await bench.write("s", "old")
    await bench.checkpoints.store("t", "0", {}, session_id="s")
    await bench.settled()
    bench.store.ahead += 2 * DAY


async def conversation(bench: Services) -> None:
    await bench.agents.create("s", PARTIES, "x")


async def put(bench: Services) -> None:
    await bench.checkpoints.store("t", "1", {}, session_id="s")


async def say(bench: Services) -> None:
    key = await bench.agents.create("s", PARTIES, "x")
    await bench.agents.add(key, "a1", "agent", "x", content="late")


async def write(bench: Services) -> None:
    await bench.write("s", "late")


async def delete(bench: Services) -> None:
    await bench.deletions.delete_session("s")


async def delete_thread(bench: Services) -> None:
    await bench.deletions.delete_thread("t")


async def retire(bench: Services) -> None:
    await groups.retire_session(bench.runtime, "s", idle_before=2**52)


async def sweep(bench: Services) -> None:
    await groups.retire_session(bench.runtime, "s")


async def revive(bench: Services) -> None:
    await groups.make_room(bench.runtime, "s")


async def leaves_nothing_astray(bench: Services, order: list[int]) -> None:
    """A thread is found by its session, a session is not there for nothing, and both can go."""
    found, stored = await links(bench), await bench.checkpoints.get("t")
    if stored is not None:
        assert found is not None, order
        assert "t" in found, order
    await bench.deletions.delete_session("s")
    assert bench.store.groups() == set(), order


@pytest.mark.parametrize("before", [nothing, session, unlinked_thread, linked_thread])
@pytest.mark.parametrize("end", [delete, retire])
async def test_a_linked_checkpoint_and_the_end_of_its_session(before: Work, end: Work):
    async def after(bench: Services, order: list[int]) -> None:
        if end is delete and await bench.checkpoints.get("t") is None:
            assert await links(bench) is None, order
        await leaves_nothing_astray(bench, order)

    assert await mixed(before, put, end, after) > 5


@pytest.mark.parametrize("before", [session, unlinked_thread, linked_thread])
async def test_a_linked_checkpoint_and_the_deletion_of_its_thread(before: Work):
    assert await mixed(before, put, delete_thread, leaves_nothing_astray) > 5


@pytest.mark.parametrize("before", [nothing, session, linked_thread])
async def test_two_first_checkpoints(before: Work):
    async def other(bench: Services) -> None:
        await bench.checkpoints.store("t", "2", {}, session_id="s")

    async def after(bench: Services, order: list[int]) -> None:
        assert len(await bench.checkpoints.list("t")) == 2 + (before is linked_thread), order
        await leaves_nothing_astray(bench, order)

    assert await mixed(before, put, other, after) > 5


@pytest.mark.parametrize("before", [nothing, session, conversation])
@pytest.mark.parametrize("end", [delete, retire])
async def test_an_agent_message_and_the_end_of_its_session(before: Work, end: Work):
    async def after(bench: Services, order: list[int]) -> None:
        key = await bench.agents.create("s", PARTIES, "x")
        assert len(await bench.agents.history(key)) <= 1, order
        await leaves_nothing_astray(bench, order)

    assert await mixed(before, say, end, after) > 2


@pytest.mark.parametrize("before", [nothing, session, linked_thread, conversation])
@pytest.mark.parametrize("end", [delete, retire])
async def test_a_message_and_the_end_of_its_session(before: Work, end: Work):
    async def after(bench: Services, order: list[int]) -> None:
        if await bench.sessions.get("s") is not None:
            assert await bench.messages("s") == [b"late"], order
        await leaves_nothing_astray(bench, order)

    assert await mixed(before, write, end, after) > 1


@pytest.mark.parametrize("before", [session, linked_thread, conversation])
async def test_two_deletions(before: Work):
    assert await mixed(before, delete, delete, leaves_nothing_astray) > 5


@pytest.mark.parametrize("one", [write, put, say, revive, sweep])
@pytest.mark.parametrize("other", [write, delete, sweep, revive])
async def test_whatever_meets_an_expired_session_and_its_thread(one: Work, other: Work):
    async def after(bench: Services, order: list[int]) -> None:
        assert b"old" not in await bench.messages("s"), order
        if other is not delete:
            assert await bench.checkpoints.get("t", "0") is not None, order
            group = await groups.read_session(bench.runtime, "s")
            assert group is not None, order
            assert group.threads == ("t",), order
        if write in (one, other) and other is not delete:
            late = 1 + (one is other)
            assert await bench.messages("s") == [b"late"] * late, order
        await bench.deletions.delete_session("s")
        assert bench.store.groups() == set(), order

    assert await mixed(expired, one, other, after) > 1
