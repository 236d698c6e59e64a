"""Names that differ never meet in a store: not in a key, not in a field, not in another's data."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import unicodedata
from binascii import crc_hqx
from pathlib import Path
from types import SimpleNamespace

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.clocks import HandClock

from aiecs import ContextEngine
from aiecs.core.interface.store import BUCKETS, Batch
from aiecs.core.keys import session_place, thread_place
from aiecs.domain.context.checkpoints import _task
from aiecs.domain.context.conversation_models import conversation_key
from aiecs.domain.context.counters import _PLACES as COUNTERS
from aiecs.domain.context.groups import conversation_log, field_of, session_keys, thread_keys
from aiecs.domain.context.indexes import SESSIONS, THREADS, sessions_of
from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.infrastructure.persistence.stores.redis.layout import Layout
from aiecs.infrastructure.persistence.stores.semantics.frame import Frame
from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

LAYOUT = Layout("aiecs:")
NO_STATE = SimpleNamespace(now=int)
# Letters that mean something to Redis, to our own keys and escapes, and to those who read text.
LETTERS = ":{}*?[]\\/%~_25Fastuhlmozd \0\n\u200f\u202eéÅ"
short = st.text(LETTERS, min_size=1, max_size=4)
forms = st.builds(unicodedata.normalize, st.sampled_from(("NFC", "NFD")), short)
long = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
ids = short | forms | long

sessions = st.tuples(st.just("session"), ids)
threads = st.tuples(st.just("thread"), ids)
users = st.tuples(st.just("user"), ids)
conversations = st.tuples(st.just("conversation"), ids, ids, st.frozensets(ids, max_size=2))
checkpoints = st.tuples(st.just("checkpoint"), ids, ids)
tasks = st.tuples(st.just("task"), ids, ids, ids)
names = st.one_of(sessions, threads, users, conversations, checkpoints, tasks)


def places(name):
    """Where a name's own data lie: bucket, group, kind, key and, inside a map, the field."""
    match name:
        case ("session", session_id):
            keys = (("map", ""), *session_keys())
            return [(*session_place(session_id), *key, "") for key in keys]
        case ("thread", thread_id):
            return [(*thread_place(thread_id), *key, "") for key in (("map", ""), *thread_keys())]
        case ("user", user_id):
            place = sessions_of(user_id)
            return [(place.bucket, "", "index", place.key, "")]
        case ("conversation", session_id, kind, parties):
            people = [{"participant_id": one, "participant_type": "agent"} for one in parties]
            digest = conversation_key(session_id, kind, people).rpartition(":")[2]
            log = (*session_place(session_id), "log", conversation_log(digest), "")
            return [log, (*session_place(session_id), "map", "a", digest)]
        case ("checkpoint", thread_id, checkpoint_id):
            return [(*thread_place(thread_id), "map", "d", field_of(checkpoint_id))]
        case (_, thread_id, checkpoint_id, task_id):
            member = _task(checkpoint_id, task_id)
            return [(*thread_place(thread_id), "map", "w", field_of(member))]


def in_redis(place):
    """The key, and the field inside it."""
    bucket, group, kind, key, field = place
    return LAYOUT.key(bucket, group, kind, key), field


def elsewhere(place):
    """The same in memory and in a file."""
    bucket, group, kind, key, field = place
    return Frame(NO_STATE, Batch(bucket, group, ())).key(key), kind, field


def slot_of(key):
    """By the rule of Redis Cluster: what stands between the first { and the next }."""
    whole = key.encode()
    start = whole.find(b"{")
    end = whole.find(b"}", start + 1)
    tag = whole[start + 1 : end] if start >= 0 and end > start + 1 else whole
    return crc_hqx(tag, 0) % BUCKETS


# What belongs to the store as a whole.
OF_ALL = [(bucket, "", "index", key, "") for bucket, key in (*SESSIONS, *THREADS)]
OF_ALL += [(bucket, "", "map", key, "") for bucket, key in COUNTERS]


@given(st.lists(names, min_size=2, max_size=8, unique=True))
@example([("session", "a/b"), ("session", "a%2Fb"), ("thread", "a/b"), ("user", "a/b")])
@example([("session", "é"), ("session", "e\u0301")])
@example([("task", "t", "a/b", "c"), ("task", "t", "a", "b/c"), ("task", "t", "a%2Fb", "c")])
@example([("checkpoint", "t", "~i"), ("checkpoint", "t", ":~i"), ("checkpoint", "t", "::~i")])
@settings(max_examples=1_000, deadline=None)
def test_names_that_differ_share_no_key(found):
    owners = {}
    for name in found:
        for place in places(name):
            for address in (in_redis(place), elsewhere(place)):
                assert owners.setdefault(address, name) == name, "an alias"
    for place in OF_ALL:
        assert in_redis(place) not in owners
        assert elsewhere(place) not in owners


@given(names)
@example(("session", "}{"))
@example(("user", "{}"))
@settings(max_examples=500, deadline=None)
def test_no_brace_moves_a_key_out_of_its_slot(name):
    for place in places(name):
        key, _ = in_redis(place)
        assert slot_of(key) == place[0]
        assert key.startswith("aiecs:{")


@given(st.lists(ids, min_size=2, max_size=5, unique=True))
@example(["{a}", "a", "{}", "}", "*"])
@settings(max_examples=60, deadline=None)
def test_nobody_reads_what_another_name_has_stored(found):
    async def story(store):
        async with ContextEngine(store=store, operation_timeout=20.0) as engine:
            for name in found:
                await engine.create_session(name, name)
                await engine.add_conversation_message(name, "user", "of " + name)
                await engine.store_checkpoint(name, name, {"of": name})
            for name in found:
                history = await engine.get_conversation_history(name)
                assert [message.content for message in history] == ["of " + name]
                listed = (await engine.list_sessions(name)).items
                assert [session.session_id for session in listed] == [name]
                kept = await engine.list_checkpoints(name)
                assert [one["data"] for one in kept] == [{"of": name}]
            await engine.delete_user(found[0])
            assert len(await engine.list_all_sessions()) == len(found) - 1
        await store.close()

    asyncio.run(story(MemoryStore(clock=HandClock())))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asyncio.run(story(SqliteStore(folder / "store.db", timeout=20)))
