"""What the scripts of the Redis store leave behind: young receipts, and no key without an end."""

from __future__ import annotations

import re

from support.redis_store import (
    BUCKET,
    DAY,
    GROUP,
    adding,
    batch,
    counting,
    creating,
    opened,
)

from aiecs import ContextEngine
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    NOW,
    Append,
    Batch,
    Delete,
    Expire,
    Incr,
    IndexPut,
    Put,
    Receipt,
    Result,
    Trim,
    Truncate,
)
from aiecs.domain.task.task_context import TaskContext
from aiecs.infrastructure.persistence.stores.redis.layout import Layout

# --- receipts -----------------------------------------------------------------------------------


async def test_old_receipts_are_pruned_and_young_ones_stay(server, prefix):
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.apply(batch(counting()))
        now = (await store.apply(Batch(BUCKET, "", (port.Clock(),))))[0]
    old, young = now - 601_000_000, now - 590_000_000
    head = Layout(prefix).heads[BUCKET]
    entries = {}
    for number in range(40):
        time = young if number % 2 else old
        entries[f"w:{number}"] = str(time)
        entries[f"w:{number}!"] = f"1:{time - 5},{time - 3}:{time}"
        # A caller's number is no time, so its time stands beside it.
        entries[f"r:{number}"] = "5"
        entries[f"t:{number}"] = str(time)
    entries["w:nobody!"] = "3:4,6:7"
    words = [word for pair in entries.items() for word in pair]
    server.command("HSET", head, *words)

    async def left():
        async with opened(server.url, prefix) as store:
            await store.apply(batch(counting()))
            names = {name.decode() for name in await store.command("HKEYS", head)}
            # Each look writes under a name of its own; together they would hide the others.
            await store.command("HDEL", head, *(n for n in names - entries.keys() if n[:2] == "w:"))
            return names & entries.keys()

    for _ in range(300):
        kept = await left()
        if len(kept) <= 80:
            break
    assert kept == {name for name in entries if re.search(r"\d*[13579]!?$", name[2:])}
    for _ in range(10):
        assert await left() == kept
    async with opened(server.url, prefix) as store:
        once = Batch(BUCKET, GROUP, (counting(),), receipt=Receipt("1", 5))
        assert await store.apply(once) is None


async def test_each_short_life_prunes_what_others_left(server, prefix):
    """Processes that write once each: the bucket's head does not grow with their number."""
    head = Layout(prefix).heads[BUCKET]
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
    for _ in range(60):
        async with opened(server.url, prefix) as store:
            await store.apply(batch(counting()))
            names = [name for name in await store.command("HKEYS", head) if name[:2] == b"w:"]
            await store.command("HSET", head, *(word for name in names for word in (name, "1")))
    assert 0 < len(names) < 12


# --- the server's own expiry --------------------------------------------------------------------


async def test_every_key_of_a_group_with_a_ttl_would_go_by_itself(server, prefix):
    day, week = 86_400_000, 7 * 86_400_000
    steps = [
        creating(
            GROUP, BUCKET, Append("born", (b"x",)), IndexPut("bi", {"a": 1}), Incr("bn", {"n": 1})
        ),
        adding(b"x"),
        batch(Put("p", {"a": b"1"}), Put("q", {"a": NOW}, if_absent="skip"), Incr("n", {"a": 1})),
        batch(Incr("n2", {"a": 1}), Append("s", (b"x",), (NOW, Result(0, 0)))),
        batch(IndexPut("i", {"a": 1}), IndexPut("i2", {"a": 1}, greater=True)),
        batch(Append("e", (b"x",)), Trim("e", keep=0)),
        batch(Append("e", (b"emptied before",))),
        batch(Append("u", (b"x", b"y"))),
        batch(Truncate("u", 0)),
        batch(Append("u", (b"again",))),
        batch(Delete("m", kind="log")),
        batch(Append("m", (b"anew",))),
        batch(Delete("p")),
        batch(Put("p", {"a": b"anew"})),
        batch(Append("_o", (b"event",)), Put("_p", {"a": b"1"}), Append("last", (b"x",))),
    ]
    async with opened(server.url, prefix) as store:
        for step in steps:
            await store.apply(step)
            await check_expiries(store, prefix, day + week)
        # Sliding moves the head's own time; renewing moves all of them.
        kinds = [("log", "m"), ("map", "p"), ("index", "i"), ("log", "e")]
        longer = Expire(10 * DAY, tuple(kinds))
        await store.apply(batch(longer))
        left = await expiries(store, prefix)
        for kind, key in kinds:
            name = store._layout.key(BUCKET, GROUP, kind, key).encode()
            assert abs(left[name] - 10 * day - week) < 60_000
        await store.apply(batch(Expire(None, tuple(kinds))))
        left = await expiries(store, prefix)
        assert left[store._layout.key(BUCKET, GROUP, "map", "").encode()] == -1
        assert left[store._layout.key(BUCKET, GROUP, "log", "m").encode()] == -1


async def check_expiries(store, prefix, least):
    left = await expiries(store, prefix)
    head = left.pop(store._layout.key(BUCKET, GROUP, "map", "").encode())
    for key, milliseconds in left.items():
        own = key.split(b"}")[1][1:2] == b"_" or key.endswith(b"}")
        if own:
            assert milliseconds == -1, f"{key} is the bucket's own"
        else:
            assert least - 60_000 < milliseconds <= head, f"{key} has {milliseconds}"
    assert head > least


async def expiries(store, prefix):
    return {
        key: await store.command("PTTL", key) for key in await store.command("KEYS", prefix + "*")
    }


async def one_of_everything(engine):
    """Every kind of key that belongs to a session or a thread."""
    await engine.create_session("s", "ann", {"a": 1})
    for number in range(3):
        await engine.add_conversation_message("s", "user", "x", idempotency_key=f"{number}")
        await engine.add_conversation_message("implicit", "user", "x")
    await engine.store_task_context("s", TaskContext({"session_id": "s", "user_id": "ann"}))
    await engine.store_checkpoint("t", "c", {}, session_id="s")
    await engine.store_checkpoint("free", "c", {})
    await engine.put_writes("t", "c", "task", [("a", 1)])
    people = [{"participant_id": "a", "participant_type": "agent"}]
    key = await engine.create_conversation_session("s", people, "user_to_mc")
    await engine.add_agent_communication_message(key, "a", "agent", "writer", content="hello")
    await engine.add_conversation_message("s", "user", "x")


async def test_the_product_leaves_no_key_that_would_stay_for_ever(server, prefix):
    async with (
        opened(server.url, prefix, 20.0) as store,
        ContextEngine(store=store, session_ttl=3_600, checkpoint_ttl=7_200) as engine,
    ):
        await one_of_everything(engine)
        left = await expiries(store, prefix)

    groups = {key: ms for key, ms in left.items() if re.search(rb"\}.[st]:", key)}
    assert len(groups) > 10
    assert min(groups.values()) > 7 * 86_400_000 + 3_000_000
    parts = [key for key in groups if b"/" in key]
    assert len(parts) > 5
    for key in parts:
        letters = key.split(b"}")[0] + b"}h" + key.split(b"}")[1][1:].split(b"/")[0]
        assert groups[key] <= groups[letters], "the head goes last"
