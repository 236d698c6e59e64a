"""Reports over an archive: what was said, what it cost, what failed, and where words occur.

They read `context_conversations`: the messages of sessions and those between agents. Rows that
arrived twice count once. What was erased is deleted from the archive, so no report has it; what has
not been shipped yet is missing from all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Template
from typing import Any, Final, NamedTuple

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface.archive import Archive, Row
from aiecs.infrastructure.persistence.archive.read_only import read_only

__all__ = ["MOST_ROWS", "REPORTS", "Column", "Parameter", "Report", "Result", "query", "run_report"]

_Values = Mapping[str, Any]
_Ask = Callable[[Archive, _Values, float], list[Row]]

#: What a question of one's own may return: they are all in memory at once.
MOST_ROWS: Final = 1_000_000

_TIMEOUT: Final = 30.0
#: As many days as ClickHouse's shorter type of time goes back, with some to spare.
_MOST_DAYS: Final = 3_650
_MOST_ROWS: Final = 1_000
_MOST_FOUND: Final = 200
_MOST_WORDS: Final = 16
_LONE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a report may be told: an int from `least` to `most`, or text of up to `most` characters.

    Without a `default` it has to be given.
    """

    name: str
    about: str
    default: int | str | None
    most: int
    least: int = 0

    @property
    def type(self) -> type:
        """`int` or `str`."""
        return int if isinstance(self.default, int) else str

    def check(self, value: Any) -> None:
        """`InvalidInputError` unless the report can be told this; the value is not quoted."""
        kind = type(value)
        if kind is not self.type:
            raise InvalidInputError(f"{self.name} is of type {self.type.__name__}")
        size, unit = (len(value), " characters") if self.type is str else (value, "")
        if not self.least <= size <= self.most:
            raise InvalidInputError(f"{self.name} is {self.least} to {self.most:,}{unit}")
        if isinstance(value, str) and _LONE.search(value):
            raise InvalidInputError(f"{self.name} holds half a character (a lone surrogate)")


class Column(NamedTuple):
    """A column of a report, and the type of its values."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Report:
    """A question with a name. `label` and `value` are the columns worth plotting, if there are."""

    name: str
    about: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    ask: _Ask
    label: tuple[str, ...] = ()
    value: str = ""

    def checked(self, given: _Values) -> dict[str, Any]:
        """All parameters, defaults included; `InvalidInputError` says what this report takes."""
        known = {parameter.name: parameter for parameter in self.parameters}
        if not given.keys() <= known.keys():
            raise InvalidInputError(f"the report {self.name!r} takes {', '.join(known)}, no others")
        values = {name: given.get(name, one.default) for name, one in known.items()}
        for name, value in values.items():
            if value is None:
                raise InvalidInputError(f"the report {self.name!r} needs {name}")
            known[name].check(value)
        return values


class Result(NamedTuple):
    """What a report found. `parameters` are those it ran with."""

    report: str
    parameters: dict[str, Any]
    columns: tuple[Column, ...]
    rows: list[Row]
    #: The columns that name a row, and the one to draw it by; () and "" when there is none.
    label: tuple[str, ...]
    value: str


def run_report(
    archive: Archive,
    name: str,
    parameters: _Values | None = None,
    *,
    timeout: float = _TIMEOUT,
) -> Result:
    """The rows of a report; blocks, for up to `timeout` seconds with each of its queries.

    A search makes three, everything else one.

    `InvalidInputError`, before the archive is asked, for a name or parameters that there are not.
    Other failures are those of `Archive.select`.
    """
    report = REPORTS.get(str(name))
    if report is None:
        raise InvalidInputError(f"there is no report {name!r}; there are {', '.join(REPORTS)}")
    values = report.checked(parameters or {})
    rows = report.ask(archive, values, timeout)
    return Result(name, values, report.columns, rows, report.label, report.value)


def query(
    archive: Archive, sql: str, parameters: _Values | None = None, *, timeout: float = _TIMEOUT
) -> list[Row]:
    """The rows of any SQL that reads; values go into its places `{name:Type}`. Blocks.

    At most `MOST_ROWS`; more are an `ArchiveQueryError`.
    `InvalidInputError`, before the archive is asked, for what does not only read: another kind of
    statement or a second one, INTO OUTFILE, SETTINGS, FORMAT, and functions that reach for files,
    programs or other machines. Words that look like these have to be quoted as names.

    The engine refuses writes besides: a server by the setting `readonly`, the embedded one by a
    handle of its own for reading; both as `ArchiveQueryError`. A server also has the rights of the
    archive's user: give strangers one of their own. The embedded engine cannot be interrupted, and
    knows no other users: that SQL reaches no file and no other machine is this function's list of
    names there, so give it no SQL of strangers.
    """
    return archive.select(read_only(sql), parameters, timeout=timeout, most_rows=MOST_ROWS)


# --- the reports ----------------------------------------------------------------------------------

_DAYS = Parameter("days", "today and the days before it, in UTC", 30, _MOST_DAYS, 1)
_USER = Parameter("user_id", "only sessions of this user", "", 1_024)
_SESSION = Parameter("session_id", "only this session, with what its agents said", "", 1_024)
_TEXT = Parameter("text", "words that all occur, in any order and case", None, 1_000, 1)


def _limit(default: int, most: int = _MOST_ROWS) -> Parameter:
    return Parameter("limit", "at most so many rows", default, most, 1)


_CHOSEN = """
created_at >= toStartOfDay(now('UTC')) - toIntervalDay({days:UInt32} - 1)
AND created_at < toStartOfDay(now('UTC')) + toIntervalDay(1)
AND ({user_id:String} = '' OR user_id = {user_id:String})
AND ({session_id:String} = '' OR session_id = {session_id:String}
    OR parent_session_id = {session_id:String})
"""
# Rows that arrived twice are in the same month, for their time is that of the event. So FINAL need
# not look across months: 110 ms for a sum over half of a million messages, where FINAL as it comes
# takes 316, LIMIT 1 BY the key 543, and 91 are what it takes without any deduplication.
_ONCE = "SETTINGS do_not_merge_across_partitions_select_final = 1"


def _sql(text: str) -> str:
    return Template(text).safe_substitute(chosen=_CHOSEN, once=_ONCE)


def _fixed(sql: str) -> _Ask:
    def ask(archive: Archive, values: _Values, timeout: float) -> list[Row]:
        return archive.select(sql, values, timeout=timeout)

    return ask


_PER_DAY = _sql("""
SELECT toDate(created_at) AS day, count() AS messages,
    uniqExact(if(parent_session_id = '', session_id, parent_session_id)) AS sessions
FROM context_conversations FINAL WHERE $chosen
GROUP BY day ORDER BY day WITH FILL $once
""")
_COSTS = _sql("""
SELECT model, user_id, count(), sum(input_tokens) AS tokens_in, sum(output_tokens) AS tokens_out,
    tokens_in + tokens_out AS tokens, sum(cost_usd) AS cost
FROM context_conversations FINAL
WHERE $chosen AND (model != '' OR input_tokens > 0 OR output_tokens > 0 OR cost_usd != 0)
GROUP BY model, user_id ORDER BY cost DESC, tokens DESC, model, user_id
LIMIT {limit:UInt32} $once
""")
_ERRORS = _sql("""
SELECT toDate(created_at) AS day, model, count() AS messages, countIf(error) AS errors,
    errors / messages
FROM context_conversations FINAL WHERE $chosen AND (model != '' OR error)
GROUP BY day, model ORDER BY day DESC, errors DESC, model
LIMIT {limit:UInt32} $once
""")
_LATENCIES = _sql("""
WITH quantiles(0.5, 0.9, 0.99)(latency_ms) AS found
SELECT model, count(), found[1], found[2], found[3] AS slow, max(latency_ms)
FROM context_conversations FINAL WHERE $chosen AND latency_ms > 0
GROUP BY model ORDER BY slow DESC, model $once
""")

# --- search ---------------------------------------------------------------------------------------

# What the archive's index splits text at, and hasToken too; they fold the case of ASCII alone.
_WORD = re.compile(r"[A-Za-z0-9\x80-\U0010ffff]+")
_INDEX = """
SELECT count() FROM system.data_skipping_indices
WHERE database = currentDatabase() AND table = 'context_conversations'
    AND type = 'text' AND expr = 'content'
"""
# The words are looked for first, in PREWHERE and alone: only so does the engine answer from the
# index without reading the text, and fetch other columns for the few that it keeps. All queries of
# a search take 90 to 130 ms of CPU over a million messages, one query with LIMIT 1 BY takes 660.
# Twice as many rows as wanted, since each may be there twice.
_PLACES = _sql("""
SELECT session_id, event_id FROM context_conversations PREWHERE $words WHERE $chosen
ORDER BY created_at DESC LIMIT {limit:UInt32} * 2
""")
_EXCERPTS = """
WITH positionCaseInsensitiveUTF8(content, {word_0:String}) AS place
SELECT created_at, session_id, user_id, role,
    substringUTF8(content, greatest(place, 61) - 60, 240)
FROM context_conversations
WHERE session_id IN {sessions:Array(String)} AND event_id IN {events:Array(UUID)}
ORDER BY created_at DESC, session_id, seq DESC
LIMIT 1 BY session_id, incarnation, seq, event_id LIMIT {limit:UInt32}
"""


def _search(archive: Archive, values: _Values, timeout: float) -> list[Row]:
    words = list(dict.fromkeys(_WORD.findall(_folded(values["text"]))))
    if not 1 <= len(words) <= _MOST_WORDS:
        raise InvalidInputError(f"text holds 1 to {_MOST_WORDS} different words")
    ((indexes,),) = archive.select(_INDEX, timeout=timeout)
    if indexes:
        where, named = "hasAllTokens(content, {words:Array(String)})", {"words": words}
    else:
        named = {f"word_{number}": word for number, word in enumerate(words)}
        where = " AND ".join(f"hasTokenCaseInsensitive(content, {{{n}:String}})" for n in named)
    chosen = {name: value for name, value in values.items() if name != "text"} | named
    places = archive.select(_PLACES.replace("$words", where), chosen, timeout=timeout)
    if not places:
        return []
    sessions, events = zip(*places, strict=True)
    wanted = {"sessions": list(dict.fromkeys(sessions)), "events": list(map(str, events))}
    shown = {"word_0": words[0], "limit": values["limit"]}
    return archive.select(_EXCERPTS, wanted | shown, timeout=timeout)


def _folded(text: str) -> str:
    return text.encode().lower().decode()


# --- their list -----------------------------------------------------------------------------------

_DAY, _MODEL, _MESSAGES = Column("day", "date"), Column("model", "str"), Column("messages", "int")
_USERS = Column("user_id", "str")
_ALL: Final = (
    Report(
        "messages",
        "Messages per day.",
        (_DAYS, _USER, _SESSION),
        (_DAY, _MESSAGES, Column("sessions", "int")),
        _fixed(_PER_DAY),
        ("day",),
        "messages",
    ),
    Report(
        "costs",
        "Tokens and cost per model and user, the dearest first.",
        (_DAYS, _USER, _SESSION, _limit(50)),
        (
            _MODEL,
            _USERS,
            _MESSAGES,
            *(Column(name, "int") for name in ("input_tokens", "output_tokens", "tokens")),
            Column("cost_usd", "decimal"),
        ),
        _fixed(_COSTS),
        ("model", "user_id"),
        "cost_usd",
    ),
    Report(
        "errors",
        "Share of messages with an error, per day and model, the latest day first.",
        (_DAYS, _USER, _SESSION, _limit(100)),
        (_DAY, _MODEL, _MESSAGES, Column("errors", "int"), Column("error_rate", "float")),
        _fixed(_ERRORS),
        ("day", "model"),
        "error_rate",
    ),
    Report(
        "latency",
        "Percentiles of the latency per model, in milliseconds, the slowest first.",
        (_DAYS, _USER, _SESSION),
        (
            _MODEL,
            _MESSAGES,
            *(Column(name, "float") for name in ("p50_ms", "p90_ms", "p99_ms")),
            Column("longest_ms", "int"),
        ),
        _fixed(_LATENCIES),
        ("model",),
        "p99_ms",
    ),
    Report(
        "search",
        "Messages in which words occur, the latest first.",
        (_TEXT, _DAYS, _USER, _SESSION, _limit(20, _MOST_FOUND)),
        (
            Column("created_at", "datetime"),
            *(Column(name, "str") for name in ("session_id", "user_id", "role", "excerpt")),
        ),
        _search,
    ),
)

#: Every report by its name.
REPORTS: Final = {report.name: report for report in _ALL}
