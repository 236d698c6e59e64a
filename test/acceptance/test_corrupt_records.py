"""A record that cannot be read hides nothing but itself."""

from __future__ import annotations

import pytest
from support.messages import contents, fill, plant

from aiecs.core.interface.store import Append, Incr, Put

BAD = (b"not json", b"[1]", b'{"role":1}', b"\xff\xfe", b'{"role":"u","content":"x"}', b"1,2")


@pytest.mark.parametrize("bad", BAD)
async def test_one_corrupt_message_hides_nothing_else(make_engine, open_store, bad):
    engine = await make_engine()
    await fill(engine, "s", 5)
    store = open_store()
    await plant(store, "s", Append("m", (bad,)))
    await fill(engine, "s", 5, start=5)

    for _ in range(2):
        history = await engine.get_conversation_history("s", limit=7)
        assert contents(history) == [f"m{n}" for n in range(3, 10)]
    assert len(await engine.get_conversation_history("s", limit=None)) == 10
    newer = await engine.get_conversation_history("s", after=history[0].seq)
    assert contents(newer) == [f"m{n}" for n in range(4, 10)]
    health = await engine.health_check()
    assert health["status"] == "degraded"
    assert "1 corrupt" in health["issues"][0]
    if store is not engine._named:
        await store.close()


async def test_a_corrupt_session_field_hides_nothing_else(make_engine, open_store):
    engine = await make_engine()
    await engine.create_session("s", "u", {"good": 1, "bad": 2})
    await engine.add_conversation_message("s", "user", "x")
    store = open_store()
    broken = {"@bad": b"{", "e": b"many", "l": b"9" * 30, "c": b"-", "to": b"\xff"}
    await plant(store, "s", Put("", broken), Incr("", {"q": 7}))

    session = await engine.get_session("s")

    assert (session.metadata, session.request_count, session.error_count) == ({"good": 1}, 7, 0)
    assert contents(await engine.get_conversation_history("s")) == ["x"]
    assert [s.session_id for s in await engine.list_sessions("u")] == ["s"]
    if store is not engine._named:
        await store.close()
