"""Backends of applications' own: each event is one call, in order, and none is lost or leaked."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest
from support import servers as real
from support.recording import Recording
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveRowError,
    ArchiveUnavailableError,
    StoreUnavailableError,
)
from aiecs.core.events import OUTBOX, About, header
from aiecs.core.interface.store import Batch, Put, Read
from aiecs.core.keys import bucket_of, session_place
from aiecs.domain.context import services
from aiecs.domain.task.task_context import TaskContext
from aiecs.infrastructure.persistence.archive import shipper
from aiecs.infrastructure.persistence.archive.injected import InjectedDestination
from aiecs.infrastructure.persistence.archive.rows import Shipped
from aiecs.infrastructure.persistence.archive.shipper import Shipper
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

PARTIES = [{"id": "ada", "type": "user"}, {"id": "planner", "type": "agent", "role": "planner"}]


@pytest.fixture(autouse=True)
def archived(monkeypatch):
    """Engines are opened as with an archive."""
    monkeypatch.setattr(services, "build", partial(services.build, archived=True))


@pytest.fixture(params=["memory", "sqlite", *real.names()])
async def store(request, servers, prefix, tmp_path):
    """Each store."""
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "sqlite":
        from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

        opened = SqliteStore(tmp_path / "store.db", timeout=10.0)
    else:
        from aiecs.infrastructure.persistence.stores.redis import RedisStore

        url = servers.shared(request.param).url
        opened = RedisStore.from_url(url, prefix=prefix, timeout=10.0)
    yield opened
    await opened.close()


@pytest.fixture
async def engine(store):
    async with ContextEngine(store=store, operation_timeout=10.0) as engine:
        yield engine


@pytest.fixture
def backend():
    return Recording()


@pytest.fixture
def destination(backend):
    return InjectedDestination(backend, MemoryStore())


async def items_of(store, *names):
    """What lies in the outboxes of these sessions and threads."""
    found = []
    for bucket in dict.fromkeys(map(bucket_of, names)):
        (log,) = await store.apply(Batch(bucket, "", (Read(OUTBOX),)))
        found += [Shipped(bucket, n, item) for n, item in enumerate(log.items, log.first)]
    return found


async def brought(store, *names):
    """The calls that these events become."""
    backend = Recording()
    destination = InjectedDestination(backend, store)
    assert await destination.deliver("token", await items_of(store, *names)) == []
    return backend.calls


def said(number, content="x", kind=About.MESSAGE, **fields):
    record = {"role": "user", "content": content, "timestamp": "2026-11-23T00:00:00Z", **fields}
    stamps = b"incarnation %d 1794000000000000 " % number
    return Shipped(1, number, stamps + header(kind, "s") + b"\n" + json.dumps(record).encode())


# --- what the backend is told ---------------------------------------------------------------------


async def test_a_message_is_what_history_gives(engine, store):
    call = [{"id": "c1", "function": {"name": "f"}}]
    await engine.add_conversation_message("s", "user", "plain")
    await engine.add_conversation_message(
        "s", "assistant", "full", {"model": "m"}, name="Bo", tool_calls=call, pinned=True
    )
    await engine.add_conversation_messages("s", [{"role": "u", "content": "own", "unknown": [1]}])

    calls = [call for call in await brought(store, "s") if call[0] == "message"]
    history = await engine.get_conversation_history("s")
    incarnation = calls[0][2]["incarnation"]
    assert incarnation
    assert [call[1:] for call in calls] == [
        ("s", message.to_dict() | {"incarnation": incarnation}) for message in history
    ]


async def test_a_session_is_told_as_the_store_holds_it_now(engine, store):
    await engine.create_session("s", "ada", {"k": [1]})
    await engine.update_session("s", increment_requests=True, add_processing_time=0.25)
    await engine.add_conversation_message("s", "user", "x", {"input_tokens": 5})
    await engine.end_session("s", "failed")

    calls = [call for call in await brought(store, "s") if call[0] == "session"]
    session = await engine.get_session("s")
    assert [call[2] for call in calls] == ["created", "updated", "ended"]
    for _, session_id, _, state in calls:
        assert session_id == "s"
        incarnation = state.pop("incarnation")
        assert incarnation
        assert state == {"output_tokens": 0} | session.to_dict()


async def test_of_a_session_that_is_gone_the_changes_are_told(engine, store):
    await engine.create_session("s", "ada", {"k": 1})
    await engine.update_session("s", {"status": "failed"}, True, 0.25, True)
    await engine.delete_session("s")
    await engine.create_session("s", "bo")

    first, second, third, again = await brought(store, "s")
    assert [call[2] for call in (first, second, third)] == ["created", "updated", "deleted"]
    assert first[3]["user_id"] == "ada"
    assert first[3]["metadata"] == {"k": 1}
    assert second[3]["status"] == "failed"
    assert second[3]["added"] == {
        "request_count": 1,
        "error_count": 1,
        "total_processing_time": 0.25,
    }
    assert third[3]["incarnation"] == first[3]["incarnation"] != again[3]["incarnation"]
    assert again[3]["user_id"] == "bo"


async def test_everything_else_is_what_was_stored(engine, store):
    context = TaskContext({"user_id": "ada", "metadata": {"bytes": b"\x00"}})
    await engine.store_task_context("s", context)
    await engine.store_checkpoint("t", "c", {"state": (1, b"x")}, {"step": 1})
    await engine.put_writes("t", "c", "task", [("channel", (1, 2))])
    key = await engine.create_conversation_session("s", PARTIES, "user_to_agent", {"k": 1})
    await engine.add_agent_communication_message(key, "a", "agent", "planner", content="hello")
    await engine.delete_thread("t")

    told, created = {}, None
    for name, *call in await brought(store, "s", "t"):
        if name == "session":
            created = created or call
        else:
            told[name] = call
    assert created[1] == "created"
    (message,) = await engine.get_agent_conversation_history(key)
    assert told.keys() == {"context", "checkpoint", "writes", "conversation", "message"}
    assert told["context"] == ["s", context.to_dict()]
    assert told["checkpoint"] == ["t", "c", {"state": (1, b"x")}, {"step": 1}]
    assert told["writes"] == ["t", "c", "task", [("channel", (1, 2))]]
    session_key, conversation = told["conversation"]
    known = await engine.get_conversation_session(key)
    assert session_key == key
    assert conversation == known.to_dict() | {"last_activity": conversation["created_at"]}
    assert told["message"][0] == key
    assert message.to_dict().items() <= told["message"][1].items()


async def test_what_was_erased_and_what_is_no_event(backend, destination):
    no_event = Shipped(1, 5, b"nothing")
    no_message = Shipped(1, 6, b"i 1 1 " + header(About.MESSAGE, "s") + b"\n{}")
    erased = Shipped(1, 7, b"i 1 1 " + header(About.MESSAGE, "s") + b"\n")
    ended = Shipped(1, 8, b"i 1 1 " + header(About.THREAD, "t", "deleted") + b"\n{}")
    items = [Shipped(1, 4, b""), no_event, no_message, erased, ended, said(9)]

    dead = await destination.deliver("token", items)
    assert [one.shipped for one in dead] == [no_event, no_message]
    assert backend.contents() == ["x"]


async def test_a_session_with_a_field_that_cannot_be_read_is_told_by_its_event(backend):
    store = MemoryStore()
    async with ContextEngine(store=store) as engine:
        await engine.create_session("s", "ada")
        (created,) = await items_of(store, "s")
        await store.apply(Batch(*session_place("s"), (Put("", {"q": b"many"}),)))
        assert await InjectedDestination(backend, store).deliver("token", [created]) == []
    ((_, _, _, state),) = backend.calls
    assert (state["user_id"], "request_count" in state) == ("ada", False)


# --- what the backend answers ---------------------------------------------------------------------


async def test_a_refusal_for_good_sets_one_event_aside(backend, destination):
    backend.answers = [True, False, True]
    items = [said(1), said(2), said(3)]
    (dead,) = await destination.deliver("token", items)
    assert (dead.shipped, dead.reason) == (items[1], "append_conversation_message refused it")
    backend.answers = [ArchiveRowError("secret")]
    (dead,) = await destination.deliver("other", items)
    assert (dead.shipped, "secret" in dead.reason) == (items[0], False)


@pytest.mark.parametrize(
    "failure", [ConnectionError("secret"), ValueError("secret"), None, "yes", 1]
)
async def test_a_failure_is_tried_again_behind_what_was_accepted(backend, destination, failure):
    items = [said(n, str(n)) for n in range(4)]
    backend.answers = [True, False, failure]
    with pytest.raises(ArchiveUnavailableError) as caught:
        await destination.deliver("token", items)
    assert "append_conversation_message" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None

    (dead,) = await destination.deliver("token", items)
    assert dead.shipped == items[1]
    assert backend.contents() == ["0", "1", "2", "2", "3"]
    assert await destination.deliver("token", items) == [dead]
    assert backend.contents() == ["0", "1", "2", "2", "3"]


async def test_other_tokens_are_other_deliveries_and_old_ones_are_forgotten(backend, destination):
    for token in range(40):
        await destination.deliver(str(token), [said(1)])
    assert len(destination._settled) <= 16
    await destination.deliver("39", [said(1)])
    await destination.deliver("0", [said(1)])
    assert len(backend.contents()) == 41


async def test_only_what_a_value_may_have_caused_is_a_refusal_of_a_suspect(backend, destination):
    backend.answers = [KeyError("secret"), ConnectionError("secret")]
    with pytest.raises(ArchiveUnavailableError) as caught:
        await destination.deliver("token", [said(1), said(2)])
    assert caught.value.unexpected
    with pytest.raises(ArchiveUnavailableError) as caught:
        await destination.deliver("token", [said(1), said(2)], suspect=True)
    assert not caught.value.unexpected
    backend.answers = [KeyError("secret")]
    (dead,) = await destination.deliver("token", [said(1), said(2)], suspect=True)
    assert dead.reason == "append_conversation_message raised KeyError"


async def test_what_needs_somebody_stays_what_it_is(backend, destination):
    backend.answers = [ArchiveAuthError("secret")]
    with pytest.raises(ArchiveAuthError, match=r"^append_conversation_message raised"):
        await destination.deliver("token", [said(1)])


async def test_a_call_that_does_not_end_is_given_up(backend):
    destination = InjectedDestination(backend, MemoryStore(), timeout=0.01)
    backend.answers = [asyncio.Event()]
    with pytest.raises(ArchiveUnavailableError, match="TimeoutError"):
        await destination.deliver("token", [said(1)])


async def test_a_store_that_does_not_answer_is_its_own_error(backend):
    class Down(MemoryStore):
        async def apply(self, batch, *, timeout=None):
            raise StoreUnavailableError("down")

    event = b"i 0 1 " + header(About.SESSION, "s", "created") + b"\n{}"
    with pytest.raises(StoreUnavailableError):
        await InjectedDestination(backend, Down()).deliver("token", [Shipped(1, 1, event)])
    assert backend.calls == []


# --- its life -------------------------------------------------------------------------------------


async def test_it_is_initialized_until_it_says_yes_and_closed_once(backend, destination):
    backend.answers = [False, OSError("secret")]
    for _ in range(2):
        with pytest.raises(ArchiveUnavailableError, match="initialize"):
            await destination.open()
    await destination.open()
    await destination.open()
    await destination.close()
    await destination.close()
    assert [name for (name,) in backend.calls] == ["initialize"] * 3 + ["close"]


async def test_what_was_never_opened_is_not_closed(backend, destination):
    await destination.close()
    assert backend.calls == []


async def test_a_backend_that_cannot_be_closed_says_so_without_content(
    backend, destination, caplog
):
    await destination.open()
    backend.answers = [RuntimeError("secret")]
    await destination.close()
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_shipper_brings_everything_in(engine, store, backend, monkeypatch):
    monkeypatch.setattr(shipper, "_LOOK_AROUND", 16_384)
    texts = [str(number) for number in range(60)]
    for number, text in enumerate(texts):
        await engine.add_conversation_message(f"s{number % 3}", "user", text)
    backend.answers = [True, True, OSError(), True, False]

    destination = InjectedDestination(backend, store)
    one = Shipper(store, destination, linger=0.005)
    shipping = asyncio.create_task(one.run())

    async def all_there():
        return set(texts) <= set(backend.contents())

    await until(all_there)
    one.stop()
    await asyncio.wait_for(shipping, 10)
    await destination.close()
    for session in range(3):
        own = [
            call[2]["content"] for call in backend.calls if call[:2] == ("message", f"s{session}")
        ]
        assert list(dict.fromkeys(own)) == texts[session::3]
    assert one.progress.dead == 1
