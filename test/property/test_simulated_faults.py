"""The engine on a store that fails by a seed: what callers were told is what is there.

A seed that fails belongs into `KNOWN` with the mend.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.simulated import Crashed, SimulatedStore

from aiecs import ContextEngine
from aiecs.core.errors import StoreError
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

TASKS, STEPS = 6, 8
SESSIONS = ("a", "b", "c")
KNOWN = (0, 1)


class Ledger:
    """What callers were told."""

    def __init__(self):
        self.applied = []
        self.refused = []
        self.unknown = []
        self.requests = Counter()
        self.maybe_requests = Counter()
        self.checkpoints = set()

    def note(self, name, error):
        (self.unknown if error.outcome == "unknown" else self.refused).append(name)


async def act(engine, ledger, chance, task, step):
    session, name = chance.choice(SESSIONS), f"{task}.{step}"
    kind = chance.choice(("message", "message", "keyed", "request", "checkpoint", "read"))
    if kind == "message":
        await tell(engine.add_conversation_message(session, "user", name), ledger, name)
    elif kind == "keyed":
        await keyed(engine, ledger, session, name)
    elif kind == "request":
        await count(engine, ledger, session)
    elif kind == "checkpoint":
        with contextlib.suppress(StoreError):
            await engine.store_checkpoint(f"t{session}", name, {"n": name}, session_id=session)
            ledger.checkpoints.add((f"t{session}", name))
    else:
        with contextlib.suppress(StoreError):
            history = await engine.get_conversation_history(session)
            check_order([message.content for message in history])


async def tell(call, ledger, name):
    try:
        await call
    except StoreError as error:
        ledger.note(name, error)
    except BaseException:
        ledger.unknown.append(name)
        raise
    else:
        ledger.applied.append(name)


async def keyed(engine, ledger, session, name):
    """As the documentation advises: again under the same key until it is known."""
    try:
        for _ in range(50):
            with contextlib.suppress(StoreError):
                await engine.add_conversation_message(
                    session, "user", name, idempotency_key=f"k{name}"
                )
                ledger.applied.append(name)
                return
    except BaseException:
        ledger.unknown.append(name)
        raise
    ledger.unknown.append(name)


async def count(engine, ledger, session):
    try:
        known = await engine.update_session(session, increment_requests=True)
    except StoreError as error:
        ledger.maybe_requests[session] += error.outcome == "unknown"
    except BaseException:
        ledger.maybe_requests[session] += 1
        raise
    else:
        ledger.requests[session] += known


def check_order(names):
    last = {}
    for name in names:
        task, step = map(int, name.split("."))
        assert step > last.get(task, -1), names
        last[task] = step


async def live(held, ledger, seed, trouble, crash_at):
    """Some tasks at once, until they are done or the process dies."""
    engine = ContextEngine(store=SimulatedStore(held, seed, trouble, crash_at))
    with contextlib.suppress(StoreError, Crashed):
        await engine.initialize()

        async def work(task):
            chance = random.Random(f"{seed}.{task}")
            for step in range(STEPS):
                await act(engine, ledger, chance, task, step)

        await asyncio.gather(*map(work, range(TASKS)), return_exceptions=True)
    with contextlib.suppress(StoreError, Crashed):
        await engine.close()


async def check(held, ledger):
    """A new process on the same data finds what the first one was told."""
    async with ContextEngine(store=held) as engine:
        stored = []
        for session in SESSIONS:
            names = [m.content for m in await engine.get_conversation_history(session, limit=None)]
            check_order(names)
            stored += names
            found = await engine.get_session(session)
            requests = 0 if found is None else found.request_count
            least = ledger.requests[session]
            assert least <= requests <= least + ledger.maybe_requests[session]
        counts = Counter(stored)
        assert not [name for name, times in counts.items() if times > 1], "stored twice"
        assert not [name for name in ledger.applied if name not in counts], "lost"
        assert not [name for name in ledger.refused if name in counts], "refused and stored"
        assert counts.keys() <= {*ledger.applied, *ledger.unknown}
        for thread, name in ledger.checkpoints:
            assert await engine.get_checkpoint(thread, name) is not None, "checkpoint lost"
        listed = {session.session_id for session in await engine.list_all_sessions()}
        for session in SESSIONS:
            there = await engine.get_session(session) is not None
            assert there == (session in listed), "not found by the index"
            await engine.delete_session(session)
            assert await engine.get_conversation_history(session) == []


@given(
    seed=st.integers(0, 2**32 - 1),
    trouble=st.sampled_from((0.0, 0.1, 0.4)),
    crash_at=st.integers(0, 200),
)
@settings(max_examples=150, deadline=None)
def test_what_callers_were_told_is_what_is_there(seed, trouble, crash_at):
    async def story():
        held, ledger = MemoryStore(), Ledger()
        await live(held, ledger, seed, trouble, crash_at)
        await check(held, ledger)

    asyncio.run(story())


for known in KNOWN:
    test_what_callers_were_told_is_what_is_there = example(seed=known, trouble=0.4, crash_at=60)(
        test_what_callers_were_told_is_what_is_there
    )
