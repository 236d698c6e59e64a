"""What the scripts of the Redis store touch, how many there are, and what they leave behind."""

from __future__ import annotations

import asyncio
import random
import re
from binascii import crc_hqx

import pytest
from support import servers as real
from support.redis_store import (
    BUCKET,
    DAY,
    GROUP,
    adding,
    batch,
    counting,
    creating,
    fields,
    items,
    lanes,
    opened,
    recovered,
)

from aiecs import ContextEngine
from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    BUCKETS,
    INCARNATION,
    NEW_INCARNATION,
    NOW,
    Append,
    Arg,
    Batch,
    Call,
    Delete,
    Expire,
    Get,
    Incr,
    IndexDelete,
    IndexPut,
    Plan,
    Put,
    Read,
    Receipt,
    Redact,
    RequireAtMost,
    RequireBefore,
    RequireEquals,
    RequireExists,
    RequireFields,
    Result,
    Trim,
    Truncate,
)
from aiecs.domain.task.task_context import TaskContext
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.infrastructure.persistence.stores.redis import RedisStore, scripts
from aiecs.infrastructure.persistence.stores.redis.connection import Connection
from aiecs.infrastructure.persistence.stores.redis.layout import Layout, tags

EVERYTHING = (
    RequireExists("p", exists=False), RequireEquals("p", "a", None), RequireEquals("", "x", None),
    RequireFields("", ("l",)), RequireBefore(2**53 - 1), RequireAtMost("", "l", NOW),
    Get("p", ("a",)), Get(""), port.Clock(),
    Put("", {"a": b"1", "b": NOW}), Put("p", {"a": b"1"}), Put("q", {"a": NOW}, if_absent="skip"),
    Put("", {"once": NOW}, if_absent="skip"), Put("_p", {"a": b"1"}), Incr("n", {"a": 1}),
    Incr("", {"c": 1}), Append("l", (b"1", b"2")), Append("s", (b"3",), (NOW, INCARNATION)),
    Append("_l", (b"4",)), Append("_s", (b"4",), (NOW,)), Trim("_l", keep=1), Trim("l", before=1),
    Truncate("u", 1), Redact("l2", (1,)), IndexPut("i", {"a": 1}),
    IndexPut("_i", {"a": NOW}, greater=True), IndexDelete("j", ("a",)),
    IndexDelete("_i", ("b",), at_most=1), Delete("d", ("a",)), Delete("", ("once2",)),
    Delete("e"), Delete("f", kind="log"), Delete("_f", kind="log"), Delete("g", kind="index"),
    Expire(DAY, (("map", "p"), ("log", "l"))),
)  # fmt: skip


async def exercise(store):
    """Every operation: all together, alone, twice in a row; as a batch and as a plan."""
    alone = [(op,) for op in EVERYTHING]
    twice = [(op, op._replace(key=op.key + "2")) for op in EVERYTHING if getattr(op, "key", "")]
    for number, ops in enumerate((EVERYTHING, *alone, *twice)):
        for group in (f"s:{number}", f"p:{number}"):
            logs = (Append(key, (b"0", b"1", b"2"), first=0) for key in ("l", "l2", "u", "u2"))
            await store.apply(creating(group, BUCKET, *logs))
        await store.apply(batch(*ops, group=f"s:{number}"))
        await store.apply(Call(Plan("exercise", *ops), BUCKET, f"p:{number}", ()))
    with pytest.raises(port.GroupMissing):
        await store.apply(adding(b"x", "s:none"))
    await store.apply(batch(Expire(None, (("map", "p"),)), group="s:0"))
    await store.apply(batch(Delete("p"), Delete(""), group="s:0"))


async def life(store):
    """What applications do with an engine, all of it."""
    engine = ContextEngine(store=store, session_ttl=86_400, operation_timeout=20.0)
    assert await engine.initialize()
    await engine.create_session("s", "ann", {"a": 1})
    await engine.create_session("s", "ann")
    await engine.create_session(None, "bob")
    await engine.update_session("s", {"status": "active", "metadata": {"a": None, "b": 2}}, True)
    await engine.update_session("s", add_processing_time=1.5, mark_error=True)
    for number in range(3):
        await engine.add_conversation_message("s", "user", f"message {number}")
    tokens = {"input_tokens": 3, "output_tokens": 4}
    await engine.add_conversation_message("s", "assistant", "x", tokens)
    for key in ("k", "k", "k2"):
        await engine.add_conversation_message("s", "user", "once", idempotency_key=key)
    await engine.add_conversation_messages("s", [{"role": "user", "content": "1"}] * 3)
    await engine.add_conversation_message("made", "user", "implicitly")
    await engine.create_session("made", "ann")
    assert len(await engine.get_conversation_history("s")) == 9
    await engine.get_conversation_history("s", limit=2)
    await engine.build_context("s", 1_000)
    await engine.store_task_context("s", TaskContext({"session_id": "s", "user_id": "ann"}))
    await engine.get_task_context("s")
    for number in (1, 2, 2):
        await engine.store_checkpoint("t", f"c{number}", {"n": number}, session_id="s")
        await engine.store_checkpoint("free", f"c{number}", {"n": number})
    await engine.put_checkpoint("s", "c", {}, {})
    await engine.put_writes("t", "c2", "task", [("channel", 1), ("channel", 2)])
    await engine.put_writes("t", "c2", "task", [("channel", 1), ("channel", 2)])
    assert await engine.get_checkpoint("t") == await engine.get_checkpoint("t", "c2")
    assert len(await engine.list_checkpoints("t")) == 2
    await engine.get_writes("t", "c2")
    people = [{"participant_id": "a", "participant_type": "agent"}]
    key = await engine.create_conversation_session("s", people, "user_to_mc")
    await engine.add_agent_communication_message(key, "a", "agent", "writer", content="hello")
    await engine.get_agent_conversation_history(key)
    await engine.list_conversation_sessions("s")
    await engine.list_sessions("ann")
    await engine.list_all_sessions()
    await engine.health_check()
    await engine.get_metrics()
    await engine.recount()
    await engine.end_session("s")
    await engine.cleanup_expired_sessions(1000)
    await engine.delete_thread("free")
    await engine.delete_session("s")
    await engine.delete_user("ann")
    await engine.close()


# --- keys ---------------------------------------------------------------------------------------


class Monitor:
    """All commands that a server runs, scripts' own included, as their words."""

    def __init__(self, server):
        self._server = server

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._server.port, limit=2**26
        )
        self._writer.write(b"MONITOR\r\n")
        assert await self._reader.readline() == b"+OK\r\n"
        return self

    async def __aexit__(self, *_):
        self._writer.transport.abort()

    async def commands(self):
        """Whether it was a script's, and the words, of each so far."""
        end = f"end-{random.random()}"
        self._server.command("ECHO", end)
        found = []
        while end.encode() not in (line := await self._reader.readline()):
            words = re.findall(rb'"((?:[^"\\]|\\.)*)"', line)
            found.append((b" lua] " in line, [word.decode() for word in words]))
        return found


@pytest.mark.parametrize("work", [exercise, life])
async def test_scripts_touch_declared_keys_only_and_all_of_one_slot(server, prefix, work):
    async with Monitor(server) as monitor:
        store = RedisStore.from_url(server.url, prefix=prefix, timeout=20.0)
        await work(store)
        await store.close()
        commands = await monitor.commands()

    declared: set[str] = set()
    counted = 0
    for of_script, (name, *words) in commands:
        if name.upper() in ("EVAL", "EVALSHA"):
            declared = set(words[2 : 2 + int(words[1])])
            slots = {slot(key) for key in declared}
            assert len(slots) == 1, declared
        elif of_script and name.upper() != "TIME":
            assert words[0] in declared, (name, words[0], declared)
            counted += 1
        elif not of_script and words and words[0].startswith(prefix):
            declared = set()
    assert counted > 100


@pytest.mark.parametrize("work", [exercise, life])
async def test_reads_and_writes_stay_in_their_slot(server, prefix, work):
    """Every transaction too: nothing would be refused by a cluster."""
    async with Monitor(server) as monitor:
        store = RedisStore.from_url(server.url, prefix=prefix, timeout=20.0)
        await work(store)
        await store.close()
        commands = await monitor.commands()

    together: set[int] = set()
    for _, (name, *words) in commands:
        if name.upper() == "MULTI":
            together = set()
        together |= {slot(words[0])} if words and words[0].startswith(prefix) else set()
        if name.upper() == "EXEC":
            assert len(together) == 1


def slot(key):
    """As the cluster specification has it."""
    tag = key.partition("{")[2].partition("}")[0]
    return crc_hqx((tag or key).encode(), 0) % 16_384


@pytest.fixture(scope="module", params=real.names())
def cluster(request):
    """A cluster of one server that has all slots."""
    with real.running() as servers:
        server = servers.start(request.param, "--cluster-enabled", "yes")
        assert server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK\r\n"
        yield server


@pytest.mark.parametrize("work", [exercise, life])
async def test_on_a_cluster_every_batch_stays_in_its_slot(cluster, prefix, work, monkeypatch):
    """With `#!lua` a script may touch no key of another slot than the declared ones."""
    made = scripts.script_of
    monkeypatch.setattr(scripts, "script_of", lambda text: made("#!lua\n" + text))
    monkeypatch.setattr(Connection, "_refuse_cluster", lambda *_: None)
    store = RedisStore.from_url(cluster.url, prefix=prefix, timeout=20.0)
    await recovered(store, 20)  # it takes its slots into service after two seconds
    await work(store)
    await store.close()
    for bucket in random.sample(range(BUCKETS), 100):
        key = Layout(prefix).key(bucket, "s:x", "log", "m")
        assert cluster.command("CLUSTER", "KEYSLOT", key) == b":%d\r\n" % bucket


def test_every_bucket_is_a_slot():
    assert [slot("{" + tag + "}") for tag in tags()] == list(range(BUCKETS))


@pytest.mark.parametrize("work", [exercise, life])
async def test_every_command_that_is_used_is_asked_for_at_login(server, prefix, work):
    """A user who lacks one would stop a script half-way: see `scripts.PERMISSIONS`."""
    async with Monitor(server) as monitor:
        store = RedisStore.from_url(server.url, prefix=prefix, timeout=20.0)
        await work(store)
        await store.close()
        commands = await monitor.commands()

    used = {
        name.lower()
        for of_script, (name, *words) in commands
        if of_script or (words and words[0].startswith(prefix))
    }
    asked = {call.split(" ")[0] for call in scripts._CALLS.split("|")}
    assert used <= asked
    unused = {"multi", "exec", "evalsha", "time"}
    if work is exercise:
        unused |= {"lrange", "zcount", "zrange", "del"}
        assert asked - used <= unused


# --- shapes -------------------------------------------------------------------------------------


async def test_the_product_needs_few_scripts(server, prefix):
    async with opened(server.url, prefix, 20.0) as store:
        await life(store)
        assert 10 < store.shapes <= 64


async def test_shapes_without_end_are_forgotten(server, prefix):
    async with opened(server.url, prefix, 20.0) as store:
        await store.apply(creating())
        for number in range(400):
            kinds = [counting("m"), Put("p", {"a": b"1"}), Get("m"), Append("l", (b"x",))]
            ops = [kinds[number >> shift & 3] for shift in (0, 2, 4, 6, 8)]
            keyed = [op._replace(key=f"{op.key}{at}") for at, op in enumerate(ops)]
            await store.apply(batch(*keyed, Get("")))
        assert 250 < store.shapes < 300
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await store.apply(batch(counting("m")))
        assert sum(lane.reconnects for lane in lanes(store)) == 1


# --- sizes --------------------------------------------------------------------------------------


NAMES = [f"{number}" for number in range(1_000)]
CROWDS = {
    "head fields": [Put("", {f"{op}.{name}": b"%d" % op for name in NAMES}) for op in range(12)],
    "counted": [Incr("", {f"{op}.{name}": op for name in NAMES}) for op in range(9)],
    "looked at": [*(Get("", tuple(NAMES)) for _ in range(9)), Incr("", {"a": 1})],
    "missing": [RequireFields("", tuple(NAMES)), Put("m", {"a": b"1"})],
    "different": [
        [Append("l", (b"%d" % n,)), Incr("m", {f"f{n}": n}), Put("", {f"f{n}": b"1"})][n % 3]
        for n in range(1_000)
    ],
    "logs": [Append(f"l{n}", (b"x",)) for n in range(1_000)],
    "guards": [*(RequireEquals("", f"f{n}", None) for n in range(999)), counting()],
    "items": [Append("l", tuple(b"%d" % n for n in range(1_000)), (NOW,)), Trim("l", keep=9)],
    "members": [
        IndexPut("i", dict.fromkeys(NAMES, 1)),
        IndexDelete("i", tuple(f"-{n}" for n in NAMES)),
    ],
}


@pytest.mark.parametrize("name", CROWDS)
async def test_large_batches_do_what_they_do_in_memory(server, prefix, name):
    """Lua takes some 8,000 values at once; what stood behind that was half a batch."""
    memory = MemoryStore()
    async with opened(server.url, prefix, 30.0) as store:
        found = []
        for each in (store, memory):
            await each.apply(creating())
            try:
                results = await each.apply(batch(*CROWDS[name]))
            except port.GuardFailed as refusal:
                results = [refusal.operation, refusal.found]
            reads = (Get("m"), Get("", tuple(f"8.{n}" for n in range(1_000))))
            state = await each.apply(batch(*reads, port.IndexCount("i")))
            logs = await each.apply(batch(*(Read(key) for key in ("l", "l0", "l999"))))
            sequences = [result for result in results if type(result) is int and result > 10**9]
            results = [result for result in results if result not in sequences]
            found.append((results, len(sequences), state, [len(log.items) for log in logs]))
        assert found[0] == found[1]


async def test_more_arguments_than_redis_takes_are_refused_before_any_of_it(server, prefix):
    names = {f"{number}": b"" for number in range(1_000)}
    ops = tuple(Put(f"{op}", names) for op in range(600))
    async with opened(server.url, prefix, 20.0) as store:
        await store.apply(creating())
        with pytest.raises(InvalidInputError):
            await store.apply(batch(*ops))
        assert await fields(store, "0") == {}
        assert sum(lane.reconnects for lane in lanes(store)) == 0


# --- plans --------------------------------------------------------------------------------------


async def test_a_plan_may_be_long(server, prefix):
    length = 200
    plan = Plan("long", *(Append("m", (Arg(n),)) for n in range(length)), Incr("", {"n": Arg(200)}))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        values = tuple(b"%d" % n for n in range(length))
        results = await store.apply(Call(plan, BUCKET, GROUP, (*values, 7)))
        assert results[-1] == [7]
        assert await items(store) == list(values)
        with pytest.raises(InvalidInputError):
            await store.apply(Call(plan, BUCKET, GROUP, values))


async def test_a_plan_may_only_read(server, prefix):
    plan = Plan("reading", Get("", ("l",)), Read("m", limit=1), RequireExists(""))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.apply(adding(b"x"))
        head, log, _ = await store.apply(Call(plan, BUCKET, GROUP, ()))
        assert int(head[0])
        assert log.items == [b"x"]


async def test_none_is_a_value_of_a_plan_where_the_port_says_so(server, prefix):
    plan = Plan("expiring", Put("", {"a": Arg(0)}), Expire(Arg(1)), RequireEquals("", "z", Arg(2)))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.apply(Call(plan, BUCKET, GROUP, (b"1", 5_000_000, None)))
        assert "~x" in await fields(store)
        await store.apply(Call(plan, BUCKET, GROUP, (b"1", None, None)))
        assert "~x" not in await fields(store)


async def test_the_random_part_of_an_incarnation_is_no_value_of_the_call(server, prefix):
    """Also where the plan leaves a position out, or the call brings more than is asked for."""
    make = Put("", {"~i": NEW_INCARNATION, "a": Arg(0), "b": Arg(2)}, if_absent="abort")
    plan = Plan("making", make, Append("l", (Arg(2),), (INCARNATION,)))
    found = set()
    async with opened(server.url, prefix) as store:
        for number in range(20):
            group = f"s:{number}"
            call = Call(plan, BUCKET, group, (b"first", b"unused", b"third", b"beyond"))
            await store.apply(call)
            head = await fields(store, "", group)
            assert re.fullmatch(rb"[0-9]{16}[0-9a-f]{4}", head["~i"])
            assert (head["a"], head["b"]) == (b"first", b"third")
            (log,) = await store.apply(batch(Read("l"), group=group))
            assert log.items == [head["~i"] + b"\nthird"]
            found.add(head["~i"][16:])
    assert len(found) > 10


async def test_a_plan_on_the_bucket_alone_knows_the_incarnation(server, prefix):
    plan = Plan("event", Append("_o", (Arg(0),), (INCARNATION,)))
    async with opened(server.url, prefix) as store:
        await store.apply(creating())
        await store.apply(Call(plan, BUCKET, GROUP, (b"event",)))
        await store.apply(Call(plan, BUCKET, "", (b"event",)))
        (outbox,) = await store.apply(Batch(BUCKET, "", (Read("_o"),)))
        assert outbox.items == [(await fields(store))["~i"] + b"\nevent", b"\nevent"]


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
    assert len(names) < 12


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


async def test_the_product_leaves_no_key_that_would_stay_for_ever(server, prefix):
    store = RedisStore.from_url(server.url, prefix=prefix, timeout=20.0)
    engine = ContextEngine(store=store, session_ttl=3_600, checkpoint_ttl=7_200)
    await engine.initialize()
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
    left = await expiries(store, prefix)
    groups = {key: ms for key, ms in left.items() if re.search(rb"\}.[st]:", key)}
    assert len(groups) > 10
    assert min(groups.values()) > 7 * 86_400_000 + 3_000_000
    for key, milliseconds in groups.items():
        if b"/" in key:
            letters = key.split(b"}")[0] + b"}h" + key.split(b"}")[1][1:].split(b"/")[0]
            assert milliseconds <= groups[letters], "the head goes last"
    await engine.close()
    await store.close()
