"""Task contexts: stored whole, for one session each, and never on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.domain.context import ContextEngine
from aiecs.domain.task.task_context import TaskContext

IDS = ("a:b", "a", "b:c", "*", "../x", "x/../../secret", "{x}", "😀", "\x00", "~i", "é" * 127 + "x")


def a_context(**extra) -> TaskContext:
    data = {"user_id": "ann", "chat_id": "s", "metadata": {"task_type": "analysis"}, **extra}
    return TaskContext(data)


async def test_what_is_stored_comes_back(engine: ContextEngine):
    context = a_context(mode="execute", service="default")

    assert await engine.store_task_context("s", context) is True
    found = await engine.get_task_context("s")

    assert found is not None
    assert found is not context
    assert found.to_dict() == context.to_dict()
    assert (found.mode, found.service) == ("execute", "default")


async def test_nothing_of_a_context_is_lost(engine: ContextEngine):
    context = a_context()
    context.add_context_update(
        "note", {"at": datetime(2026, 1, 2, tzinfo=UTC), "pair": (1, b"\x00")}
    )
    context.add_resource("file", {1, 2, 3})
    context.track_file_operation("/tmp/x", "read")
    context.track_model_usage("gpt", "v1", "answer")

    await engine.store_task_context("s", context)
    found = await engine.get_task_context("s")

    assert found is not None
    assert found.to_dict() == context.to_dict()


@pytest.mark.parametrize("other", [None, {}, {"user_id": "ann"}, "text", 7, object()])
async def test_only_a_task_context_is_stored(engine: ContextEngine, other):
    assert await engine.store_task_context("s", other) is False
    assert await engine.get_task_context("s") is None
    assert await engine.get_session("s") is None


async def test_an_unknown_session_has_none(engine: ContextEngine):
    assert await engine.get_task_context("nobody") is None


async def test_the_last_one_stored_is_the_one(engine: ContextEngine):
    await engine.store_task_context("s", a_context(service="first"))
    await engine.store_task_context("s", a_context(service="second"))

    found = await engine.get_task_context("s")

    assert found is not None
    assert found.service == "second"


async def test_storing_creates_the_session(engine: ContextEngine):
    await engine.store_task_context("s", a_context())

    session = await engine.get_session("s")
    assert session is not None
    assert session.user_id == ""


async def test_what_is_handed_out_is_the_callers_own(engine: ContextEngine):
    context = a_context()
    await engine.store_task_context("s", context)
    context.metadata["changed"] = True
    first = await engine.get_task_context("s")
    assert first is not None
    first.metadata["changed"] = True

    second = await engine.get_task_context("s")

    assert second is not None
    assert "changed" not in second.metadata


async def test_any_session_id_has_its_own(engine: ContextEngine):
    for name in IDS:
        await engine.store_task_context(name, a_context(service=name))

    for name in IDS:
        found = await engine.get_task_context(name)
        assert found is not None
        assert found.service == name


async def test_the_disk_is_left_alone(
    engine: ContextEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "secret.json").write_text('{"mode": "stolen"}')
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)

    await engine.store_task_context("../secret", a_context())
    found = await engine.get_task_context("../secret")

    assert found is not None
    assert found.mode is None
    assert list(inside.iterdir()) == []


async def test_too_large_a_context_is_refused(engine: ContextEngine):
    with pytest.raises(InvalidInputError):
        await engine.store_task_context("s", a_context(blob="x" * 8 * 2**20))
    assert await engine.get_task_context("s") is None


async def test_it_goes_with_its_session(engine: ContextEngine):
    await engine.store_task_context("s", a_context())

    report = await engine.delete_session("s")

    assert report.task_contexts == 1
    assert await engine.get_task_context("s") is None
