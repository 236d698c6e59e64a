"""A task context holds what it is given, in order, and goes through a dict and back."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta

import pytest

from aiecs.core.clock import utcnow
from aiecs.core.codec import decode, encode
from aiecs.core.errors import InvalidInputError
from aiecs.domain.task.task_context import ContextUpdate, TaskContext, build_context

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def full() -> TaskContext:
    made = TaskContext(
        {
            "user_id": "u",
            "chat_id": "c",
            "mode": "execute",
            "service": "search",
            "metadata": {"task_type": "analysis", "secret": 1},
            "metadata_toggles": {"secret": False},
            "aiPreference": {"model": "m"},
            "resources": {"db": {"url": "x"}},
            "priority": 3,
            "due": NOW,
        }
    )
    made.add_context_update("step", {"at": NOW, "items": (1, 2)}, {"by": "me"})
    made.add_resource("files", {"a", "b"})
    made.track_file_operation("/a", "read", source="tool")
    made.track_model_usage("gpt", "openai", "chat")
    return made


def test_the_example_of_the_specification() -> None:
    made = TaskContext(
        {"user_id": "user_123", "chat_id": "session_001", "metadata": {"task_type": "analysis"}}
    )

    assert (made.user_id, made.chat_id, made.metadata) == (
        "user_123",
        "session_001",
        {"task_type": "analysis"},
    )
    assert (made.mode, made.service) == (None, None)
    assert (made.resources, made.context_history, made.file_tracker) == ({}, [], {})
    assert (made.model_tracker, made.metadata_toggles, made.task_dir) == ([], {}, None)


def test_an_empty_dict_will_do() -> None:
    assert (TaskContext({}).user_id, TaskContext({}).chat_id) == ("", "")
    assert TaskContext({"metadata": None, "user_id": None}).metadata == {}


def test_nothing_is_lost_on_the_way_through_a_dict_and_the_codec() -> None:
    made = full()
    again = TaskContext.from_dict(decode(encode(made.to_dict())))

    assert again == made
    assert again.to_dict() == made.to_dict()
    assert again.mode == "execute"
    assert again.service == "search"
    assert again.metadata == {"task_type": "analysis", "secret": 1, "aiPreference": {"model": "m"}}
    assert again.metadata_toggles == {"secret": False}
    assert again.resources == {"db": {"url": "x"}, "files": {"a", "b"}}
    assert again.context_history[0].data == {"at": NOW, "items": (1, 2)}
    assert again.context_history == made.context_history
    assert again.file_tracker == made.file_tracker
    assert again.model_tracker == made.model_tracker
    assert (again.to_dict()["priority"], again.to_dict()["due"]) == (3, NOW)


def test_an_update_keeps_a_time_that_is_its_data() -> None:
    made = TaskContext({})
    made.add_context_update("deadline", NOW)

    assert TaskContext.from_dict(made.to_dict()).context_history[0].data == NOW
    assert isinstance(made.to_dict()["context_history"][0]["timestamp"], str)


def test_contexts_differ_when_anything_differs() -> None:
    for change in (
        lambda c: c.track_file_operation("/b", "write"),
        lambda c: c.track_model_usage("x"),
        lambda c: c.metadata_toggles.update(a=True),
        lambda c: c.add_context_update("x", 1),
        lambda c: setattr(c, "mode", "other"),
    ):
        made = full()
        other = copy.deepcopy(made)
        assert other == made
        change(other)
        assert other != made
    assert full() != {"user_id": "u"}
    with pytest.raises(TypeError):
        hash(full())


def test_a_context_shares_nothing_with_what_it_was_made_from() -> None:
    data = full().to_dict()
    before = copy.deepcopy(data)
    made, other = TaskContext(data), TaskContext(data)
    made.metadata["deep"] = 1
    made.resources["db"]["url"] = "y"
    made.file_tracker["/a"].append({})
    made.context_history[0].metadata["by"] = "you"
    given = made.to_dict()
    given["resources"]["db"]["url"] = "z"
    given["model_tracker"].append({})

    assert data == before
    assert other.to_dict() == before
    assert made.resources["db"]["url"] == "y"
    assert len(made.model_tracker) == 1


def test_a_context_shares_no_update_object_with_another() -> None:
    first = full()
    second = TaskContext({"context_history": first.context_history})
    second.context_history[0].update_type = "changed"

    assert first.context_history[0].update_type == "step"


def test_updates_and_tracking_are_in_order_with_aware_times() -> None:
    made = TaskContext({})
    before = utcnow()
    made.add_context_update("a", 1)
    made.add_context_update("b", 2, {"k": 1})
    made.track_file_operation("/x", "read")
    made.track_file_operation("/x", "write", source="agent")
    made.track_model_usage("m1")
    after = utcnow()

    assert [(u.update_type, u.data, u.metadata) for u in made.context_history] == [
        ("a", 1, {}),
        ("b", 2, {"k": 1}),
    ]
    assert all(before <= u.timestamp <= after for u in made.context_history)
    assert [(e["operation"], e["source"]) for e in made.file_tracker["/x"]] == [
        ("read", "task"),
        ("write", "agent"),
    ]
    assert made.model_tracker[0].items() >= {
        ("model_id", "m1"),
        ("provider_id", None),
        ("mode", None),
    }
    stamps = [made.file_tracker["/x"][0]["timestamp"], made.model_tracker[0]["timestamp"]]
    assert all(before <= datetime.fromisoformat(stamp) <= after for stamp in stamps)


def test_active_metadata_leaves_out_what_is_switched_off() -> None:
    made = TaskContext(
        {"metadata": {"a": 1, "b": 2, "c": 3}, "metadata_toggles": {"a": False, "b": True}}
    )

    assert made.get_active_metadata() == {"b": 2, "c": 3}
    assert made.metadata == {"a": 1, "b": 2, "c": 3}


def test_truncating_keeps_the_latest() -> None:
    made = TaskContext({})
    for number in range(10):
        made.add_context_update("n", number)

    assert made.truncate_context_history(20) == 0
    assert made.truncate_context_history(3) == 7
    assert [u.data for u in made.context_history] == [7, 8, 9]
    assert made.truncate_context_history(0) == 3
    assert made.context_history == []
    with pytest.raises(InvalidInputError):
        made.truncate_context_history(-1)


def test_optimizing_drops_repeats_and_keeps_order() -> None:
    made = TaskContext({})
    for value in [1, 2, 1, [3], 2, [3], "1"]:
        made.add_context_update("n", value)
    made.add_context_update("other", 1)
    latest = made.context_history[2].timestamp

    assert made.optimize_context() == 3
    assert [u.data for u in made.context_history] == [1, 2, [3], "1", 1]
    assert made.context_history[0].timestamp == latest
    assert made.optimize_context(max_updates=2) == 3
    assert [u.data for u in made.context_history] == ["1", 1]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "x",
        {"user_id": 5},
        {"chat_id": ["c"]},
        {"metadata": []},
        {"resources": []},
        {"file_tracker": []},
        {"model_tracker": {}},
        {"metadata_toggles": 1},
        {"context_history": {}},
        {"context_history": ["x"]},
        {"context_history": [{"update_type": "a", "data": 1}]},
        {"context_history": [{"timestamp": "x", "update_type": "a", "data": 1}]},
        {"context_history": [{"timestamp": float("nan"), "update_type": "a", "data": 1}]},
        {"context_history": [{"timestamp": 1e300, "update_type": "a", "data": 1}]},
    ],
)
def test_wrong_types_are_refused(bad: object) -> None:
    with pytest.raises(InvalidInputError):
        TaskContext(bad)


def test_histories_of_aiecs_2_have_their_times_in_seconds() -> None:
    old = {"timestamp": 1767323045.25, "update_type": "a", "data": {}, "metadata": {}}
    made = TaskContext({"context_history": [old]})

    assert made.context_history == [ContextUpdate(NOW + timedelta(seconds=0.25), "a", {})]


def test_build_context_is_the_full_dict() -> None:
    assert build_context({"user_id": "u"}) == {
        "user_id": "u",
        "chat_id": "",
        "mode": None,
        "service": None,
        "metadata": {},
        "resources": {},
        "file_tracker": {},
        "metadata_toggles": {},
        "context_history": [],
        "model_tracker": [],
    }


def test_repr_shows_no_contents() -> None:
    assert "analysis" not in repr(full())
