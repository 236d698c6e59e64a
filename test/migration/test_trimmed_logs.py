"""Logs that are cut in the source, between two moves and in the middle of one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from support.moved import digests
from support.services import Crash, Store

from aiecs.domain.context.migration import migrate, parts
from aiecs.domain.context.migration.reading import Reader
from aiecs.domain.context.migration.writing import is_open


@pytest.mark.parametrize("new", [3, 4, 20])
async def test_a_log_that_was_trimmed_beyond_what_was_moved(engine_on, new):
    source = await engine_on("memory", max_messages_per_session=3)
    target = await engine_on("sqlite")
    for number in range(5):
        await source.add_conversation_message("x", "user", f"m{number}")
    await migrate(source, target)
    for number in range(new):
        await source.add_conversation_message("x", "user", f"n{number}")

    report = await migrate(source, target, verify=False)

    assert report.complete
    there = await source.get_conversation_history("x", None)
    here = await target.get_conversation_history("x", None)
    assert [(m.seq, m.content) for m in here] == [(m.seq, m.content) for m in there]
    assert await digests(target) == await digests(source)
    assert (await target.recount()).drift == {}


async def test_a_log_that_is_trimmed_while_it_is_read(engine_on, monkeypatch):
    source = await engine_on("memory", max_messages_per_session=300)
    target = await engine_on("sqlite")
    for number in range(300):
        await source.add_conversation_message("x", "user", f"m{number}")
    log, left = Reader.log, [1]

    async def busy(self, group, key, start=None):
        async for items in log(self, group, key, start):
            yield items
            if self._runtime is source._on.runtime and left and left.pop():
                for number in range(250):
                    await source.add_conversation_message("x", "user", f"n{number}")

    monkeypatch.setattr(Reader, "log", busy)
    report = await migrate(source, target)

    assert report.complete, report.troubles
    assert await digests(target) == await digests(source)
    assert (await target.recount()).drift == {}


async def test_messages_that_are_all_trimmed_go_from_the_target_too(engine_on):
    source, target = await engine_on("memory"), await engine_on("sqlite")
    for number in range(5):
        await source.add_conversation_message("x", "user", f"m{number}")
    await migrate(source, target)
    await source.apply_retention(max_message_age_hours=0)

    report = await migrate(source, target)

    assert report.complete, report.troubles
    assert await target.get_conversation_history("x", None) == []
    await target.add_conversation_message("x", "user", "later")
    assert len(await target.get_conversation_history("x", None)) == 1


async def test_what_both_wrote_to_a_namespace_is_told_and_stays(engine_on):
    from aiecs.integrations.langgraph import ContextEngineStore

    source, target = await engine_on("memory"), await engine_on("sqlite")
    await ContextEngineStore(source).aput(("users",), "k", {"n": 0})
    await migrate(source, target)
    await ContextEngineStore(source).aput(("users",), "there", {"n": 1})
    await ContextEngineStore(target).aput(("users",), "here", {"n": 2})

    report = await migrate(source, target)

    assert [(one.kind, one.name) for one in report.troubles] == [("namespace", "users")]
    found = await ContextEngineStore(target).asearch(("users",))
    assert {item.key for item in found} == {"k", "here"}


async def test_a_death_while_it_is_continued_counts_nothing_twice(engine_on):
    source = await engine_on("memory")
    await source.add_conversation_message("x", "user", "first")
    halves = 0
    for number in range(1, 12):
        store = Store()
        target = await engine_on("memory", store=store)
        await migrate(source, target, verify=False)
        big = [{"role": "user", "content": "y" * 900_000} for _ in range(5)]
        await source.add_conversation_messages("x", big)
        store.fail(number, "after", Crash())
        with suppress(Crash):
            await migrate(source, target, verify=False)
        store.mend()
        halves += is_open((await Reader(target._on.runtime).head(parts.session("x"))).fields)

        assert (await migrate(source, target)).complete

        metrics = await target.get_metrics()
        assert metrics["stored_sessions"] == 1
        assert metrics["stored_messages"] <= 1 + 5 * number
    assert halves
