"""Conversations: messages appended to a session's log, and read back in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiecs.core.errors import InvalidInputError, LifecycleError
from aiecs.core.events import About
from aiecs.core.ids import check_id
from aiecs.core.interface.store import (
    MAX_INTEGER,
    MAX_RECORD_BYTES,
    Append,
    Arg,
    Incr,
    Op,
    Read,
    Result,
    Trim,
)
from aiecs.domain.context.arguments import listed, wanted_count
from aiecs.domain.context.earlier import Earlier
from aiecs.domain.context.history import PAGE, History
from aiecs.domain.context.idempotency import IdempotentWrites, Once, digest_of
from aiecs.domain.context.messages import (
    StoredMessage,
    complete,
    encode_message,
    new_message,
    taken_over,
    tokens_of,
)
from aiecs.domain.context.models import ConversationMessage
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions, place_of
from aiecs.domain.context.tail_cache import TailCache

MAX_MESSAGES_AT_ONCE = 1_000
_ROOM_FOR_OPS = 64 * 1024


class Conversations:
    """The messages of sessions."""

    def __init__(
        self,
        runtime: Runtime,
        sessions: Sessions,
        cache: TailCache,
        earlier: Earlier | None = None,
    ) -> None:
        self._runtime = runtime
        self._sessions = sessions
        self._has_archive = earlier is not None
        self._once = IdempotentWrites(runtime, sessions)
        self._history = History(runtime, cache, earlier)
        keep = runtime.max_messages
        self._trim: tuple[Op, ...] = () if keep is None else (Trim("m", keep=keep),)
        self._events = runtime.events
        append = Append("m", (Arg(0),))
        event = self._events.planned(Arg(0), Arg(1), Result(0))
        self._plain = sessions.prepare("add_message", append, *self._trim, *event)
        tokens = Incr("", {"ti": Arg(1), "to": Arg(2)})
        event = self._events.planned(Arg(0), Arg(3), Result(0))
        self._counted = sessions.prepare("add_message_tokens", append, *self._trim, tokens, *event)

    async def add(
        self,
        session_id: str,
        role: str,
        content: str,
        metadata: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        tool_calls: list[Any] | None = None,
        tool_call_id: str | None = None,
        parts: list[Any] | None = None,
        pinned: bool = False,
        idempotency_key: str | None = None,
    ) -> bool:
        """Append one message in one batch, True. See `ContextEngine.add_conversation_message`."""
        message = new_message(role, content, metadata)
        if name or tool_calls or tool_call_id or parts or pinned:
            complete(message, name, tool_calls, tool_call_id, parts, pinned=pinned)
        if idempotency_key is not None:
            return await self._add(session_id, [message], idempotency_key)
        item = encode_message(message)
        tokens = tokens_of(message) if metadata else None
        if tokens is None:
            head = self._events.heads(item, About.MESSAGE, session_id)
            args: tuple[Any, ...] = (item, *head)
            results = await self._sessions.run(session_id, self._plain, args)
        else:
            head = self._events.heads(item, About.MESSAGE, session_id)
            args = (item, tokens.read, tokens.written, *head)
            results = await self._sessions.run(session_id, self._counted, args)
        self._count(1, results)
        return True

    async def add_all(
        self,
        session_id: str,
        messages: Iterable[ConversationMessage | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> bool:
        """Append all or none, in order, True. See `ContextEngine.add_conversation_messages`."""
        made = [taken_over(message) for message in listed(messages, "messages")]
        if len(made) > MAX_MESSAGES_AT_ONCE:
            raise InvalidInputError(f"at most {MAX_MESSAGES_AT_ONCE} messages at once")
        return await self._add(session_id, made, idempotency_key) if made else True

    async def _add(self, session_id: str, messages: list[StoredMessage], key: str | None) -> bool:
        items = tuple(encode_message(message) for message in messages)
        if sum(map(len, items)) > MAX_RECORD_BYTES - _ROOM_FOR_OPS:
            raise InvalidInputError("messages at once take less than 8 MiB together")
        events = self._events.several(items, Result(0), session_id)
        ops: tuple[Op, ...] = (Append("m", items), *self._trim, *_token_ops(messages), *events)
        if key is None:
            results: list[Any] | None = await self._sessions.apply(session_id, ops)
        else:
            once = Once(check_id(key, "idempotency_key"), digest_of(messages))
            results = await self._once.apply(session_id, once, ops)
            if results is None:
                return True
        self._count(len(messages), results)
        return True

    def _count(self, added: int, results: list[Any] | None) -> None:
        self._runtime.counters.add("messages", added)
        if self._trim and results and results[1]:
            self._runtime.counters.add("messages", -results[1])

    async def history(
        self,
        session_id: str,
        limit: int | None = 50,
        *,
        before: int | None = None,
        after: int | None = None,
        include_archived: bool | None = None,
    ) -> list[ConversationMessage]:
        """Messages, oldest first. See `ContextEngine.get_conversation_history`."""
        place_of(session_id)  # refuses what cannot be an id before it is looked up anywhere
        wanted, archived = wanted_count(limit), self._checked(include_archived)
        if before is None and after is None and wanted is not None and wanted <= PAGE:
            return await self._history.latest(session_id, wanted, archived)
        stop, start = _sequence(before, "before"), _sequence(after, "after")
        if start is not None and wanted is not None:
            return await self._history.after(session_id, start, wanted, stop, archived)
        start = -1 if start is None else start
        return await self._history.before(session_id, wanted, stop, start, archived)

    def _checked(self, archived: bool | None) -> bool | None:
        if archived not in (None, True, False):
            raise InvalidInputError(f"include_archived is True, False or None, got {archived!r}")
        if archived and not self._has_archive:
            raise LifecycleError("there is no archive that history could be read from")
        return archived

    async def length(self, session_id: str) -> int:
        """How many messages a session holds; 0 when it is unknown."""
        (log,) = await self._sessions.read(session_id, Read("m", stop=0))
        return int(log.next - log.base)


def _token_ops(messages: list[StoredMessage]) -> tuple[Op, ...]:
    counted = [tokens for message in messages if (tokens := tokens_of(message)) is not None]
    if not counted:
        return ()
    read, written = (sum(column) for column in zip(*counted, strict=True))
    return (Incr("", {"ti": read, "to": written}),)


def _sequence(value: int | None, what: str) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value < MAX_INTEGER):
        raise InvalidInputError(f"{what} is the seq of a message, got {value!r}")
    return value
