"""A session's life against plain lists: a history is whole, in order, and nobody else's.

Two engines with caches of their own share a store and an archive. Where the archive answers, a
history is exactly what was said and may be seen; where it does not, it is a part of that in which
nothing is missing that the store still holds.
"""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.clocks import HandClock
from support.held_archive import HeldArchive, Idle
from support.simulated import SimulatedStore

from aiecs import ContextEngine
from aiecs.core import registry
from aiecs.core.errors import ArchiveUnavailableError
from aiecs.infrastructure.persistence.archive import reading
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

TTL = 60
KEPT = 3
ENGINES = st.integers(0, 1)
SESSIONS = st.sampled_from(("one", "two"))
OWNERS = st.sampled_from(("", "alice", "bob"))
LIMITS = st.sampled_from((None, 1, 2, 4, 50))
SEEDS = st.integers(0, 2**32 - 1)


@dataclasses.dataclass
class Life:
    """What was said from one creation to the expiry."""

    owner: str
    said: list[str]
    shipped: int = 0


class ColdHistories(RuleBasedStateMachine):
    """See the top of the file."""

    @initialize(trims=st.booleans(), seed=SEEDS)
    def open(self, trims, seed):
        self.clock, self.archive = HandClock(), HeldArchive()
        self.held, self.seed = MemoryStore(clock=self.clock), seed
        self.lives, self.alive, self.count = {"one": [], "two": []}, set(), 0
        self.kept = KEPT if trims else None
        self.services, self.runner = [], asyncio.Runner()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(registry, "open_archive", self.archiving)
            patch.setenv("AIECS_ARCHIVE_READ_TIMEOUT", "20")
            self.engines = [self.opened(number) for number in range(2)]

    def archiving(self, _, store, __):
        service = Idle(store, self.archive)
        self.services.append(service)
        return service

    def opened(self, number):
        engine = ContextEngine(
            store=SimulatedStore(self.held, self.seed + number, 0.0),
            archive="held://",
            session_ttl=TTL,
            max_messages_per_session=self.kept,
            operation_timeout=20,
        )
        self.runner.run(engine.initialize())
        return engine

    def teardown(self):
        if hasattr(self, "engines"):
            for engine in self.engines:
                self.runner.run(engine.close())
            self.runner.close()

    # --- what happens ---------------------------------------------------------------------------

    @rule(number=ENGINES, session=SESSIONS, count=st.integers(1, 4), together=st.booleans())
    def write(self, number, session, count, together):
        texts = [str(self.count + place) for place in range(count)]
        self.runner.run(self.writing(self.engines[number], session, texts, together=together))
        self.note(session, texts)

    async def writing(self, engine, session, texts, *, together=False):
        messages = [{"role": "user", "content": text} for text in texts]
        for part in [messages] if together else [[message] for message in messages]:
            await engine.add_conversation_messages(session, part)

    def note(self, session, texts):
        self.count += len(texts)
        self.live(session, "").said += texts

    def live(self, session, owner):
        if session not in self.alive:
            self.alive.add(session)
            self.lives[session].append(Life(owner, []))
        return self.lives[session][-1]

    @rule(number=ENGINES, session=SESSIONS, owner=OWNERS)
    def create(self, number, session, owner):
        if session in self.alive and self.lives[session][-1].owner:
            return
        self.runner.run(self.engines[number].create_session(session, owner))
        self.live(session, owner).owner = owner

    @rule()
    def expire(self):
        self.clock.advance((TTL + 1) * 1_000_000)
        self.alive.clear()

    @rule(number=ENGINES)
    def sweep(self, number):
        self.runner.run(self.engines[number].cleanup_expired_sessions())

    @rule(lost=st.integers(0, 2))
    def ship(self, lost):
        self.archive.faults.extend([ArchiveUnavailableError("as the test wants")] * lost)
        self.runner.run(self.shipping())
        self.archive.faults.clear()

    async def shipping(self):
        for number, service in enumerate(self.services):
            await service.ship(SimulatedStore(self.held, self.seed - number, 0.0))

    @rule(down=st.booleans())
    def fail(self, down):
        self.archive.down = down

    # --- what is read ---------------------------------------------------------------------------

    @rule(number=ENGINES, session=SESSIONS, limit=LIMITS, insist=st.sampled_from((None, True)))
    def read(self, number, session, limit, insist):
        if self.archive.down and insist:
            return
        found = self.runner.run(self.texts(number, session, limit, include_archived=insist))
        self.check(session, found, limit)

    @rule(number=ENGINES, session=SESSIONS)
    def read_while_it_expires(self, number, session):
        async def both():
            reading = asyncio.create_task(self.texts(number, session, None))
            for _ in range(self.seed % 7):
                await asyncio.sleep(0)
            self.expire()
            return await reading

        before = self.visible(session)
        found = self.runner.run(both())
        if not self.archive.down:
            assert found == before

    @rule(number=ENGINES, session=SESSIONS, limit=LIMITS)
    def read_while_it_is_shipped(self, number, session, limit):
        async def both():
            return await asyncio.gather(self.texts(number, session, limit), self.shipping())

        found, _ = self.runner.run(both())
        self.check(session, found, limit)

    @precondition(lambda self: not self.archive.down)
    @rule(number=ENGINES, session=SESSIONS, limit=st.integers(1, 4), onwards=st.booleans())
    def page_through(self, number, session, limit, onwards):
        async def pages():
            found, place = [], 0 if onwards else None
            while page := await self.history(number, session, limit, onwards, place):
                found = found + page if onwards else page + found
                place = page[-1].seq if onwards else page[0].seq
            return [message.content for message in found]

        assert self.runner.run(pages()) == self.visible(session)

    def history(self, number, session, limit, onwards, place):
        where = {"after": place} if onwards else {"before": place}
        return self.engines[number].get_conversation_history(session, limit, **where)

    async def texts(self, number, session, limit, **options):
        engine = self.engines[number]
        found = await engine.get_conversation_history(session, limit, **options)
        return [message.content for message in found]

    def check(self, session, found, limit):
        expected = self.visible(session)
        if not self.archive.down:
            assert found == (expected if limit is None else expected[-limit:])
            return
        assert [text for text in expected if text in found] == found
        hot = self.lives[session][-1].said if session in self.alive else []
        hot = hot if self.kept is None else hot[-self.kept :]
        hot = hot if limit is None else hot[-limit:]
        assert found[len(found) - len(hot) :] == hot

    def visible(self, session):
        lives = self.lives[session]
        owners = [life.owner for life in lives if life.owner]
        alive = lives[-1] if session in self.alive else None
        owner = (alive.owner if alive else "") or (owners[-1] if owners else "")
        shown = [life for life in lives if life.owner in {"", owner} or life is alive]
        return [text for life in shown for text in life.said]

    @invariant()
    def nothing_is_archived_twice(self):
        if hasattr(self, "archive"):
            assert all(times == 1 for times in self.archive.said().values())


@pytest.fixture(autouse=True)
def never_resting(monkeypatch):
    """An archive that is up again is asked again at once."""
    monkeypatch.setattr(reading, "_REST", 0.0)
    monkeypatch.setattr(reading, "_LONGEST_REST", 0.0)


ColdHistories.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestColdHistories = ColdHistories.TestCase
