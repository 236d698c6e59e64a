"""What `durability=replicated` acknowledges is on a replica, however the caller came to ask."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import count

import pytest
from support.clusters import SLOTS
from support.redis_store import adding, creating, items, opened
from support.rights import login, make_user
from support.slots import cut_off, idle, moving, refusals
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import StoreAuthError, StoreError, StoreTimeoutError
from aiecs.core.interface.store import Append, Batch, Receipt
from aiecs.core.keys import session_place
from aiecs.domain.context.indexes import session_shard
from aiecs.infrastructure.persistence.stores.redis.layout import Layout

TIMEOUT = 1.0
# A bucket of the first primary; below it another test moves slots to the second.
SLOT = 4_001


@pytest.fixture
def url(cluster):
    return f"{cluster.url}?durability=replicated"


@contextmanager
def stopped(cluster):
    """The first primary's replica confirms nothing."""
    cluster.replicas[0].pause()
    try:
        yield
    finally:
        cluster.replicas[0].resume()


@pytest.fixture
async def ready(url, prefix):
    """A store that is connected to every primary."""
    async with opened(url, prefix, TIMEOUT) as store:
        await store.ping()
        yield store


@pytest.fixture
async def engine(ready):
    async with ContextEngine(store=ready) as engine:
        yield engine


@pytest.fixture
def session():
    """The id of a session that the first primary holds."""
    first = SLOTS // 3
    names = map("chat-{}".format, count())
    found = (name for name in names if SLOT <= session_place(name).bucket < first)
    # Another primary has the index of sessions: its entry comes first, and is confirmed.
    return next(name for name in found if session_shard(name).bucket >= first)


async def unconfirmed(call):
    """The call is not acknowledged, though the primary may have it."""
    with pytest.raises(StoreTimeoutError, match="0 of 1 replicas") as caught:
        await call
    assert caught.value.outcome == "unknown"


async def acknowledged(call):
    """Return when a call is acknowledged; `call` makes it."""

    async def done():
        try:
            await call()
        except StoreError:
            return False
        return True

    await until(done)


# --- the same call once more --------------------------------------------------------------------


async def test_a_message_under_the_same_key(cluster, engine, session):
    await engine.add_conversation_message(session, "user", "first")

    def pay():
        return engine.add_conversation_message(session, "user", "Pay.", idempotency_key="r-93")

    with stopped(cluster):
        for _ in range(3):
            await unconfirmed(pay())
    await acknowledged(pay)
    history = await engine.get_conversation_history(session)
    assert [message.content for message in history] == ["first", "Pay."]


async def test_a_session(cluster, engine, session):
    with stopped(cluster):
        for _ in range(3):
            await unconfirmed(engine.create_session(session))
    await acknowledged(lambda: engine.create_session(session))
    assert await engine.get_session(session) is not None


@pytest.mark.parametrize("warm", [False, True], ids=["first_write", "later_write"])
async def test_a_batch_under_its_receipt_on_another_connection(cluster, url, prefix, ready, warm):
    await ready.apply(creating(bucket=SLOT))
    hello = (Append("m", (b"hello",)),)
    batch = Batch(SLOT, "s:one", hello, receipt=Receipt("key", time.time_ns() // 1000))
    async with opened(url, prefix, TIMEOUT) as other:
        await (other.apply(creating("s:other", SLOT)) if warm else other.ping())
        with stopped(cluster):
            for store in (ready, ready, other, other):
                await unconfirmed(store.apply(batch))
        for store in (other, ready):
            await acknowledged(lambda store=store: store.apply(batch))
    assert await items(ready, bucket=SLOT) == [b"hello"]


# --- a write that was cut off -------------------------------------------------------------------


async def test_a_write_that_a_half_moved_slot_refuses(cluster, url, prefix):
    """Its first try was lost with the connection, its second must wait; it is stored in the end."""
    source, target = cluster.primaries[:2]
    log = Layout(prefix).key(SLOT, "s:one", "log", "m")
    async with opened(url, prefix) as store:
        await store.apply(creating(bucket=SLOT))
        await store.apply(adding(b"zero", bucket=SLOT))
        for name in (b"one", b"two", b"three"):
            before = refusals(source, "TRYAGAIN")
            with moving(SLOT, source, target, log):
                call = await cut_off(source, store, store.apply(adding(name, bucket=SLOT)))

                async def refused(before=before):
                    return refusals(source, "TRYAGAIN") > before and await idle(store)

                await until(refused)
            await call
            assert name in await items(store, bucket=SLOT), "acknowledged and not stored"
        assert await items(store, bucket=SLOT) == [b"zero", b"one", b"two", b"three"]


# --- who may not ask for confirmation -----------------------------------------------------------


async def test_a_user_without_the_right_to_wait(cluster, url, prefix):
    for node in cluster.nodes:
        make_user(node, prefix, extra=True)
        node.command("ACL", "SETUSER", "app", "-wait")
    async with opened(login(url), prefix, TIMEOUT) as store:
        with pytest.raises(StoreAuthError) as caught:
            await store.apply(creating(bucket=SLOT))
        assert caught.value.outcome == "unknown"
        assert not caught.value.retryable
