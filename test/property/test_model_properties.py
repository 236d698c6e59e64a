from __future__ import annotations

from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st

from aiecs.domain.context.models import ConversationMessage, SessionMetrics

texts = st.text(max_size=20)
times = st.datetimes(timezones=st.sampled_from([None, UTC]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
lists = st.none() | st.lists(json_values, max_size=3)

messages = st.builds(
    ConversationMessage,
    role=texts,
    content=texts,
    timestamp=times,
    metadata=st.none() | json_objects,
    id=st.none() | texts,
    seq=st.none() | st.integers(),
    name=st.none() | texts,
    tool_calls=lists,
    tool_call_id=st.none() | texts,
    parts=lists,
    pinned=st.booleans(),
)
sessions = st.builds(
    SessionMetrics,
    session_id=texts,
    user_id=texts,
    created_at=times,
    last_activity=times,
    request_count=st.integers(),
    error_count=st.integers(),
    total_processing_time=st.floats(allow_nan=False),
    status=texts,
    metadata=json_objects,
    input_tokens=st.integers(),
    output_tokens=st.integers(),
)


@given(messages, json_objects)
def test_messages_survive_a_round_trip(message: ConversationMessage, later: dict) -> None:
    stored = later | message.to_dict()
    again = ConversationMessage.from_dict(stored)

    if stored.keys() == message.to_dict().keys():
        assert again == message
        assert (again.id, again.seq) == (message.id, message.seq)
    assert again.to_dict() == stored


@given(sessions)
def test_sessions_survive_a_round_trip(session: SessionMetrics) -> None:
    assert SessionMetrics.from_dict(session.to_dict()) == session
    assert SessionMetrics.from_dict(dict(session)) == session
