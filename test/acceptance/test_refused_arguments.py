"""Arguments of the wrong kind: it is said what would be right, and nothing is written."""

from __future__ import annotations

from enum import Enum

import pytest

from aiecs import InvalidInputError

PARTIES = [{"id": "a", "type": "agent"}]
MANY = {f"key {number}": number for number in range(901)}

CALLS = {
    "updates, of mixed keys": ("update_session", ("s", {1: 2, "x": 3}), "status and metadata"),
    "updates, empty but no dict": ("update_session", ("s", []), "updates is a dict, got list"),
    "updates, a list as status": ("update_session", ("s", {"status": ["active"]}), "status is one"),
    "updates, empty text as metadata": ("update_session", ("s", {"metadata": ""}), "a dict, got"),
    "updates, keys": ("update_session", ("s", {"metadata": MANY}), "at most 900 keys"),
    "a time beyond floats": ("update_session", ("s", None, False, 10**400), "add_processing_time"),
    "the status of an end": ("end_session", ("s", []), "status is one of"),
    "the status of a list": ("list_sessions", (None, ["active"]), "status is one of"),
    "the status of a whole list": ("list_all_sessions", (None, ["active"]), "status is one of"),
    "keys of metadata": ("create_session", ("new", "u", MANY), "at most 900 keys"),
    "a list as metadata": ("create_session", ("new", "u", []), "metadata is a dict, got list"),
    "a limit as text": ("list_checkpoints", ("t", "3"), "an int or None, got str"),
    "a limit of True": ("list_checkpoints", ("t", True), "an int or None, got bool"),
    "no writes": ("put_writes", ("t", "c", "task", None), "writes_data is a list, got NoneType"),
    "no messages": ("add_conversation_messages", ("s", None), "messages is a list, got NoneType"),
    "messages, a number": ("add_conversation_messages", ("s", 5), "messages is a list, got int"),
    "types, a number": ("get_agent_conversation_history", ("k", 5, 7), "message_types is a list"),
    "types, lists": ("get_agent_conversation_history", ("k", 5, [[1]]), "message_types is a list"),
    "types, one": ("get_agent_conversation_history", ("k", 5, "one"), "message_types is a list"),
}


@pytest.mark.parametrize(("method", "args", "says"), CALLS.values(), ids=CALLS)
async def test_it_is_said_what_is_wrong_and_what_would_be_right(engine, method, args, says):
    before = await engine.create_session("s", "u", {"a": 1})

    with pytest.raises(InvalidInputError) as caught:
        await getattr(engine, method)(*args)

    assert says in str(caught.value)
    assert await engine.get_session("s") == before
    assert await engine.get_session("new") is None


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("bad", ["5", -1, True, 1.0, 2**53])
async def test_a_place_that_no_message_has(engine, side, bad):
    with pytest.raises(InvalidInputError, match=f"{side} is the seq of a message, got {bad!r}"):
        await engine.get_conversation_history("s", **{side: bad})


async def test_as_many_keys_of_metadata_as_are_allowed(engine):
    most = dict(list(MANY.items())[:900])
    await engine.create_session("s", "u", most)
    await engine.update_session("s", {"metadata": {f"more {key}": 1 for key in most}})

    assert len((await engine.get_session("s")).metadata) == 1800


async def test_a_status_may_come_from_an_enumeration(engine):
    class Status(str, Enum):  # noqa: UP042 - the kind whose text is not its value
        DONE = "completed"

    await engine.create_session("s", "u")
    await engine.end_session("s", Status.DONE)

    assert (await engine.get_session("s")).status == "completed"
    assert [s.session_id for s in await engine.list_sessions(status=Status.DONE)] == ["s"]
