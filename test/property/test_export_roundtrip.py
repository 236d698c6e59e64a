"""An export read back is the same, whatever was stored: as lines, and through a store."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs.cli.formats import export
from aiecs.cli.formats.detect import Item, read_log
from aiecs.cli.formats.errors import FormatError
from aiecs.cli.formats.source import Source
from aiecs.cli.formats.values import Defaults
from aiecs.core.codec import encode
from aiecs.domain.context import ContextEngine
from aiecs.domain.context.models import ConversationMessage, SessionMetrics
from aiecs.domain.context.transfer import (
    AgentMessageRecord,
    CheckpointRecord,
    ConversationRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    WritesRecord,
    exporter_of,
    importer_of,
)

NOW = datetime(2026, 5, 4, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
times = st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(fold=0))
counts = st.integers(0, 2**40)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(texts, values, max_size=3)
lists = st.none() | st.lists(values, min_size=1, max_size=3)
rich = st.recursive(
    values | st.binary(max_size=10) | st.datetimes() | st.sets(st.integers(), max_size=3),
    lambda inner: (
        st.tuples(inner, inner) | st.dictionaries(st.integers() | texts, inner, max_size=3)
    ),
    max_leaves=5,
)
# A metadata key with None is a removal: it is not kept.
metadata = st.dictionaries(texts, values.filter(lambda value: value is not None), max_size=3)

session_records = st.builds(
    SessionRecord,
    st.builds(
        SessionMetrics,
        session_id=names,
        user_id=texts,
        created_at=times,
        last_activity=times,
        request_count=counts,
        error_count=counts,
        total_processing_time=st.integers(0, 10**12).map(lambda micros: micros / 1_000_000),
        status=st.sampled_from(["active", "completed", "failed", "expired"]),
        metadata=metadata,
        input_tokens=counts,
        output_tokens=counts,
    ),
)
messages = st.builds(
    ConversationMessage,
    role=names,
    content=texts,
    timestamp=times,
    metadata=objects,
    id=names,
    name=st.none() | names,
    tool_calls=lists,
    tool_call_id=st.none() | names,
    parts=lists,
    pinned=st.booleans(),
)
stored = rich.map(lambda value: json.loads(encode(value)))
checkpoints = st.fixed_dictionaries(
    {"data": stored, "metadata": objects, "created_at": times.map(datetime.isoformat)}
)
pairs = st.lists(st.tuples(texts, stored).map(list), max_size=3)
linked = st.none() | names
records = st.one_of(
    session_records,
    st.builds(MessageRecord, names, messages),
    st.builds(TaskContextRecord, names, objects),
    st.builds(ConversationRecord, names, names, objects),
    st.builds(AgentMessageRecord, names, names, objects),
    st.builds(CheckpointRecord, names, linked, names, checkpoints),
    st.tuples(names, linked, names, names, pairs).map(
        lambda part: WritesRecord(*part[:4], [part[3], part[4]])
    ),
)


def as_file(wanted: list[Record]) -> bytes:
    lines = [export.header_line(NOW), *map(export.record_line, wanted)]
    return "".join([*lines, export.end_line(len(wanted))]).encode()


def read(data: bytes) -> list[Item | FormatError]:
    return list(read_log(Source(io.BytesIO(data), "x"), Defaults(NOW)).items)


def exact(record: Record) -> str:
    """Everything about a record, also what takes no part in equality."""
    return export.record_line(record) + repr(record)


@given(st.lists(records, max_size=5))
def test_lines_say_it_all(wanted: list[Record]):
    data = as_file(wanted)
    found = read(data)

    assert data.count(b"\n") == len(wanted) + 2
    assert [item.line for item in found if isinstance(item, Item)] == [
        number for number, _ in enumerate(wanted, 2)
    ]
    assert [exact(item.record) for item in found if isinstance(item, Item)] == list(
        map(exact, wanted)
    )


@given(st.lists(records, min_size=1, max_size=3), st.data())
def test_a_file_that_was_cut_off_is_noticed(wanted: list[Record], data: st.DataObject):
    whole = as_file(wanted)
    cut = data.draw(st.integers(len(export.header_line(NOW)) + 1, len(whole) - 2))

    assert [one for one in read(whole[:cut]) if isinstance(one, FormatError)]


@settings(deadline=None, max_examples=50)
@given(session_records, st.lists(messages, max_size=4, unique_by=lambda m: m.id), rich, objects)
def test_through_a_store_and_back(
    session: SessionRecord, log: list[ConversationMessage], data: Any, context: dict[str, Any]
):
    session_id = session.session.session_id
    wanted: list[Record] = [session, *(MessageRecord(session_id, one) for one in log)]
    wanted.append(TaskContextRecord(session_id, context))
    body = {"data": json.loads(encode(data)), "metadata": {}, "created_at": NOW.isoformat()}
    wanted.append(CheckpointRecord("thread", session_id, "c", body))

    async def there_and_back() -> tuple[list[Record], list[Any], Any]:
        problems: list[Any] = []
        async with ContextEngine(store="memory://", operation_timeout=30.0) as engine:
            async with importer_of(engine, lambda *problem: problems.append(problem)) as importer:
                for record in wanted:
                    await importer.add(record)
            found = [record async for record in exporter_of(engine).session(session_id)]
            checkpoint = await engine.get_checkpoint("thread")
            return found, problems, checkpoint["data"] if checkpoint else None

    found, problems, again = asyncio.run(there_and_back())

    assert problems == []
    assert found == wanted
    assert [m.id for m in log] == [r.message.id for r in found if isinstance(r, MessageRecord)]
    assert repr(again) == repr(data) or again == data
