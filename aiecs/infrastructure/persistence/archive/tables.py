"""The archive's tables, declared once: what creates them and what is inserted both follow.

To add a column or a table, declare it with `since` one above `LATEST`: that is a new migration.
Nothing declared is ever changed or removed, so an older release can go on writing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Final


class Kind(Enum):
    """What a column holds: its type in ClickHouse, and how it is compressed."""

    #: Any bytes. Ids repeat from row to row, since the rows are ordered by them.
    ID = ("String", "ZSTD(1)")
    TEXT = ("String", "ZSTD(3)")
    #: Checkpoints are large and are read rarely.
    BLOB = ("String", "ZSTD(6)")
    #: Few different values.
    WORD = ("LowCardinality(String)", "")
    #: Random, so not worth compressing.
    UUID = ("UUID", "")
    COUNT = ("UInt64", "T64, ZSTD(1)")
    SMALL_COUNT = ("UInt32", "T64, ZSTD(1)")
    RISING = ("UInt64", "Delta(8), ZSTD(1)")
    BYTE = ("UInt8", "")
    #: US dollars, to a thousand millionth.
    MONEY = ("Decimal(18, 9)", "")
    TIME = ("DateTime64(6, 'UTC')", "Delta(8), ZSTD(1)")

    @property
    def type(self) -> str:
        """The type as ClickHouse writes it."""
        return self.value[0]

    @property
    def codec(self) -> str:
        """What ` CODEC(...)` adds to a column's declaration."""
        return f" CODEC({self.value[1]})" if self.value[1] else ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `default` is an expression of ClickHouse's; "" means an empty value."""

    name: str
    kind: Kind
    default: str = ""
    since: int = 1

    @property
    def declaration(self) -> str:
        """The column in CREATE TABLE and ADD COLUMN."""
        default = f" DEFAULT {self.default}" if self.default else ""
        return f"`{self.name}` {self.kind.type}{default}{self.kind.codec}"


#: What every row has, behind its own columns.
STAMPS: Final = (
    #: Which hot store the row comes from.
    Column("store_id", Kind.WORD),
    #: The event, so that a row that arrives twice is one.
    Column("event_id", Kind.UUID),
    #: Which life of the session or thread: an id may be used again.
    Column("incarnation", Kind.ID),
    #: The place in the log; 0 for what has none.
    Column("seq", Kind.RISING),
    Column("created_at", Kind.TIME),
    #: Of two rows of the same key the higher one stays.
    Column("version", Kind.COUNT),
    #: The release's format of the row.
    Column("schema_v", Kind.BYTE, default="1"),
)
_KEY_END: Final = ("incarnation", "seq", "event_id")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of events. `ids` begin its key; all its rows have the stamps, too."""

    name: str
    ids: tuple[str, ...]
    own: tuple[Column, ...]
    since: int = 1
    #: Whether `ttl_days` empties it.
    ages: bool = True
    #: The column that the text index is on.
    searched: str = ""
    #: Whether a filter tells in which granules an id is not: each month would have to be read else.
    filtered: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns in the order of the table."""
        return (*self.own, *STAMPS)

    @property
    def key(self) -> tuple[str, ...]:
        """What rows are ordered and found by, and what makes two rows one."""
        return (*self.ids, *_KEY_END)


SESSIONS: Final = Table(
    "context_sessions",
    ("session_id",),
    (
        Column("session_id", Kind.ID),
        Column("user_id", Kind.ID),
        Column("event_type", Kind.WORD),
        Column("payload", Kind.TEXT),
        Column("status", Kind.WORD),
        Column("request_count", Kind.COUNT),
        Column("error_count", Kind.COUNT),
        Column("processing_time_us", Kind.COUNT),
        Column("input_tokens", Kind.COUNT),
        Column("output_tokens", Kind.COUNT),
    ),
)
CONVERSATIONS: Final = Table(
    "context_conversations",
    ("session_id",),
    (
        #: The session, or the key of a conversation between agents.
        Column("session_id", Kind.ID),
        Column("role", Kind.WORD),
        Column("content", Kind.TEXT),
        Column("metadata", Kind.TEXT),
        Column("user_id", Kind.ID),
        #: The session that a conversation between agents belongs to; "" for plain messages.
        Column("parent_session_id", Kind.ID),
        Column("message_id", Kind.ID),
        Column("message_type", Kind.WORD),
        #: What the record holds beyond the other columns, as JSON.
        Column("extra", Kind.TEXT),
        Column("model", Kind.WORD),
        Column("input_tokens", Kind.SMALL_COUNT),
        Column("output_tokens", Kind.SMALL_COUNT),
        Column("cost_usd", Kind.MONEY),
        Column("latency_ms", Kind.SMALL_COUNT),
        Column("error", Kind.BYTE),
    ),
    searched="content",
    filtered=True,
)
TASK_CONTEXTS: Final = Table(
    "context_task_contexts",
    ("session_id",),
    (
        Column("session_id", Kind.ID),
        Column("context_data", Kind.TEXT),
        Column("user_id", Kind.ID),
    ),
)
CHECKPOINTS: Final = Table(
    "context_checkpoints",
    ("thread_id", "checkpoint_ns", "checkpoint_id"),
    (
        Column("thread_id", Kind.ID),
        Column("checkpoint_id", Kind.ID),
        Column("data", Kind.BLOB),
        Column("metadata", Kind.TEXT),
        Column("checkpoint_ns", Kind.ID),
        Column("parent_checkpoint_id", Kind.ID),
        Column("session_id", Kind.ID),
        #: How `data` is encoded.
        Column("type", Kind.WORD),
    ),
)
CHECKPOINT_WRITES: Final = Table(
    "context_checkpoint_writes",
    ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id"),
    (
        Column("thread_id", Kind.ID),
        Column("checkpoint_id", Kind.ID),
        Column("task_id", Kind.ID),
        Column("writes_data", Kind.BLOB),
        Column("checkpoint_ns", Kind.ID),
        Column("session_id", Kind.ID),
        Column("type", Kind.WORD),
    ),
)
CHECKPOINT_ELEMENTS: Final = Table(
    "context_checkpoint_elements",
    ("thread_id", "digest"),
    (
        Column("thread_id", Kind.ID),
        #: Of `data`: checkpoints name the elements that they share by it.
        Column("digest", Kind.ID),
        Column("data", Kind.BLOB),
        Column("session_id", Kind.ID),
        Column("type", Kind.WORD),
    ),
)
CONVERSATION_SESSIONS: Final = Table(
    "context_conversation_sessions",
    ("session_key",),
    (
        Column("session_key", Kind.ID),
        Column("session_data", Kind.TEXT),
        Column("session_id", Kind.ID),
        Column("session_type", Kind.WORD),
    ),
)
COMPACTIONS: Final = Table(
    "context_compactions",
    ("session_id",),
    (
        Column("session_id", Kind.ID),
        Column("strategy", Kind.WORD),
        Column("content", Kind.TEXT),
        #: The ranges of messages that it stands for, as JSON.
        Column("covers", Kind.TEXT),
        Column("record", Kind.TEXT),
        Column("user_id", Kind.ID),
        Column("model", Kind.WORD),
        Column("tokens_before", Kind.SMALL_COUNT),
        Column("tokens_after", Kind.SMALL_COUNT),
        Column("input_tokens", Kind.SMALL_COUNT),
        Column("output_tokens", Kind.SMALL_COUNT),
    ),
)
TOMBSTONES: Final = Table(
    "context_tombstones",
    ("subject", "subject_id"),
    (
        #: "session", "thread" or "user"; the stamp `incarnation` is the one that is gone.
        Column("subject", Kind.WORD),
        Column("subject_id", Kind.ID),
        Column("reason", Kind.WORD),
    ),
    ages=False,
)

TABLES: Final = (
    SESSIONS,
    CONVERSATIONS,
    TASK_CONTEXTS,
    CHECKPOINTS,
    CHECKPOINT_WRITES,
    CHECKPOINT_ELEMENTS,
    CONVERSATION_SESSIONS,
    COMPACTIONS,
    TOMBSTONES,
)


def latest(tables: tuple[Table, ...]) -> int:
    """The highest `since` among tables and columns."""
    columns = (column.since for table in tables for column in table.columns)
    return max(*columns, *(table.since for table in tables))


LATEST: Final = latest(TABLES)


def by_name(tables: tuple[Table, ...]) -> dict[str, Table]:
    """The tables by their names."""
    return {table.name: table for table in tables}


def statements(tables: tuple[Table, ...], number: int) -> tuple[str, ...]:
    """What brings the tables from migration `number - 1` to `number`; may run more than once."""
    return tuple(
        chain.from_iterable(
            [_create(table, number)] if table.since == number else _extend(table, number)
            for table in tables
            if table.since <= number
        )
    )


def _create(table: Table, number: int) -> str:
    parts = [column.declaration for column in table.columns if column.since <= number]
    if table.filtered:
        parts.append(f"INDEX by_id `{table.ids[0]}` TYPE bloom_filter(0.01) GRANULARITY 1")
    return (
        f"CREATE TABLE IF NOT EXISTS `{table.name}` ({', '.join(parts)}) "
        "ENGINE = ReplacingMergeTree(version) "
        "PARTITION BY toYYYYMM(created_at) "
        f"ORDER BY ({', '.join(f'`{name}`' for name in table.key)}) "
        "SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 10000"
    )


def _extend(table: Table, number: int) -> list[str]:
    return additions(table, [column for column in table.columns if column.since == number])


def additions(table: Table, added: Iterable[Column]) -> list[str]:
    """The statements that add columns to a table; they may run twice."""
    return [
        f"ALTER TABLE `{table.name}` ADD COLUMN IF NOT EXISTS {column.declaration}"
        for column in added
    ]


def option_statements(
    tables: tuple[Table, ...], *, text_index: bool, ttl_days: int | None
) -> tuple[str, ...]:
    """What an administrator has chosen: it is no part of the numbered migrations."""
    indexes = [
        f"ALTER TABLE `{table.name}` ADD INDEX IF NOT EXISTS words `{table.searched}` "
        f"TYPE text(tokenizer = 'splitByNonAlpha', preprocessor = lower(`{table.searched}`))"
        for table in tables
        if text_index and table.searched
    ]
    ttls = [
        f"ALTER TABLE `{table.name}` {part}"
        for table in tables
        if ttl_days is not None and table.ages
        for part in (
            "MODIFY SETTING ttl_only_drop_parts = 1",
            f"MODIFY TTL toDateTime(created_at) + INTERVAL {ttl_days} DAY",
        )
    ]
    return (*indexes, *ttls)
