from __future__ import annotations

import copy
import pickle
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta, timezone

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.models import (
    ConversationMessage,
    DeletionReport,
    Page,
    SessionMetrics,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
ISO = "2026-01-02T03:04:05.000678+00:00"


def session(**changes) -> SessionMetrics:
    return SessionMetrics(
        **{"session_id": "s", "user_id": "u", "created_at": NOW, "last_activity": NOW, **changes}
    )


def message(**changes) -> ConversationMessage:
    return ConversationMessage(**{"role": "user", "content": "hi", "timestamp": NOW, **changes})


def test_session_fields_stand_in_the_order_of_the_specification() -> None:
    assert [field.name for field in fields(SessionMetrics)] == [
        "session_id",
        "user_id",
        "created_at",
        "last_activity",
        "request_count",
        "error_count",
        "total_processing_time",
        "status",
        "metadata",
        "input_tokens",
        "output_tokens",
    ]


def test_message_fields_stand_in_the_order_of_the_specification() -> None:
    names = [field.name for field in fields(ConversationMessage)]

    assert names[:4] == ["role", "content", "timestamp", "metadata"]
    assert names[4:] == ["id", "seq", "name", "tool_calls", "tool_call_id", "parts", "pinned"]


def test_plain_to_dict_is_what_the_specification_gives() -> None:
    assert session().to_dict() == {
        "session_id": "s",
        "user_id": "u",
        "created_at": ISO,
        "last_activity": ISO,
        "request_count": 0,
        "error_count": 0,
        "total_processing_time": 0.0,
        "status": "active",
    }
    assert message().to_dict() == {
        "role": "user",
        "content": "hi",
        "timestamp": ISO,
        "metadata": {},
    }


def test_to_dict_adds_what_is_set() -> None:
    counted = session(metadata={"a": 1}, output_tokens=3).to_dict()
    added = message(id="m1", seq=7, tool_calls=[], pinned=True).to_dict()

    assert list(counted)[8:] == ["metadata", "output_tokens"]
    assert {name: added[name] for name in list(added)[4:]} == {
        "id": "m1",
        "seq": 7,
        "tool_calls": [],
        "pinned": True,
    }


def test_metadata_none_becomes_an_empty_dict_of_its_own() -> None:
    first, second = message(metadata=None), message()
    first.metadata["a"] = 1

    assert second.metadata == {}
    assert ConversationMessage.from_dict(message().to_dict() | {"metadata": None}).metadata == {}


def test_defaults_are_not_shared() -> None:
    first, second = session(), session()
    first.metadata["a"] = 1

    assert second.metadata == {}
    assert session().to_dict() == second.to_dict()


@pytest.mark.parametrize(
    "given",
    [NOW, NAIVE, ISO, NAIVE.isoformat(), NOW.astimezone(timezone(timedelta(hours=9)))],
)
def test_every_spelling_of_a_time_becomes_the_same_aware_utc(given: datetime | str) -> None:
    made = message(timestamp=given)
    other = session(created_at=given, last_activity=given)

    assert made.timestamp == NOW
    assert (made.timestamp.tzinfo, other.created_at.tzinfo, other.last_activity.tzinfo) == (
        UTC,
    ) * 3
    assert (other.created_at, other.last_activity) == (NOW, NOW)
    assert made.to_dict()["timestamp"] == ISO


@pytest.mark.parametrize("bad", ["soon", None, 5])
def test_a_bad_time_is_named(bad: object) -> None:
    with pytest.raises(InvalidInputError, match="timestamp"):
        message(timestamp=bad)
    with pytest.raises(InvalidInputError, match="last_activity"):
        session(last_activity=bad)


def test_id_and_seq_take_no_part_in_equality() -> None:
    assert message(id="a", seq=1) == message(id="b", seq=2)
    assert message() != message(pinned=True)
    assert message() != message(metadata={"a": 1})
    assert message(name="n") != message()


def test_unknown_keys_survive_but_are_no_fields() -> None:
    stored = message().to_dict() | {"reactions": ["+1"], "v": 9}
    read = ConversationMessage.from_dict(stored)

    assert read.to_dict() == stored
    assert read == message()
    assert read.unknown_fields == {"reactions": ["+1"], "v": 9}
    assert "reactions" not in asdict(read)
    assert read["reactions"] == ["+1"]
    assert copy.deepcopy(read).to_dict() == stored
    assert pickle.loads(pickle.dumps(read)).to_dict() == stored
    assert message().unknown_fields == {}
    read.unknown_fields.clear()
    assert read.unknown_fields


def test_from_dict_leaves_its_input_alone() -> None:
    stored = session().to_dict() | {"later": {"a": 1}}
    before = copy.deepcopy(stored)
    SessionMetrics.from_dict(stored)

    assert stored == before


def test_to_dict_hands_out_copies() -> None:
    made = ConversationMessage.from_dict(
        message(metadata={"deep": {"list": [1]}}, tool_calls=[{"id": 1}]).to_dict() | {"new": [1]}
    )
    given = made.to_dict()
    given["metadata"]["deep"]["list"].append(2)
    given["tool_calls"][0]["id"] = 2
    given["new"].append(2)

    assert made.metadata == {"deep": {"list": [1]}}
    assert made.tool_calls == [{"id": 1}]
    assert made.unknown_fields == {"new": [1]}


@pytest.mark.parametrize("name", ["role", "content", "timestamp"])
def test_a_missing_field_is_named(name: str) -> None:
    stored = message().to_dict()
    del stored[name]

    with pytest.raises(InvalidInputError, match=f"ConversationMessage lacks {name}"):
        ConversationMessage.from_dict(stored)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("role", 1),
        ("content", None),
        ("metadata", []),
        ("timestamp", 5),
        ("tool_calls", {}),
        ("parts", "x"),
        ("pinned", 1),
        ("seq", "1"),
        ("id", 1),
    ],
)
def test_a_field_of_the_wrong_type_is_named(name: str, bad: object) -> None:
    with pytest.raises(InvalidInputError, match=name):
        ConversationMessage.from_dict(message().to_dict() | {name: bad})


def test_whole_seconds_may_be_stored_as_an_int() -> None:
    assert session(total_processing_time=2).to_dict()["total_processing_time"] == 2
    assert SessionMetrics.from_dict(session().to_dict() | {"total_processing_time": 2}) == session(
        total_processing_time=2.0
    )
    with pytest.raises(InvalidInputError, match="total_processing_time"):
        SessionMetrics.from_dict(session().to_dict() | {"total_processing_time": "2"})


def test_fields_can_be_read_like_a_dict() -> None:
    made = session(request_count=3)

    assert made["request_count"] == 3
    assert made["created_at"] == ISO
    assert made.get("user_id") == "u"
    assert made.get("nothing") is None
    assert made.get("nothing", 1) == 1
    assert "status" in made
    assert "nothing" not in made
    assert dict(made)["last_activity"] == ISO
    assert list(made)[:2] == ["session_id", "user_id"]
    with pytest.raises(KeyError):
        made["nothing"]


def test_methods_are_no_items() -> None:
    with pytest.raises(KeyError):
        session()["to_dict"]


def test_page_is_iterable_and_an_empty_page_is_not_the_end() -> None:
    page = Page(["a", "b"], "next")

    assert list(page) == ["a", "b"]
    assert page.cursor == "next"
    assert Page([]).cursor is None
    assert bool(Page([], "next"))


def test_deletion_reports_add_up() -> None:
    total = DeletionReport(sessions=1, messages=5) + DeletionReport(messages=2, writes=1)

    assert total == DeletionReport(sessions=1, messages=7, writes=1)
    assert (total + DeletionReport(complete=False)).complete is False
    assert (DeletionReport(complete=False) + total).complete is False


def test_deletion_report_to_dict() -> None:
    assert DeletionReport(checkpoints=2).to_dict() == {
        "sessions": 0,
        "messages": 0,
        "task_contexts": 0,
        "conversations": 0,
        "threads": 0,
        "checkpoints": 2,
        "writes": 0,
        "items": 0,
        "archived_rows": 0,
        "complete": True,
    }
