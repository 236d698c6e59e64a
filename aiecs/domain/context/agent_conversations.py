"""Conversations between agents, any number of them in a session, each with a log of its own.

In the session's group: map `a` holds who takes part, by the digest that ends a conversation's key
(`{}` as long as nobody has said so), and log `a/<digest>` the messages. The head counts in `cn` how
many conversations were ever begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiecs.core.errors import ConflictError, CorruptRecordError, InvalidInputError, NotFoundError
from aiecs.core.events import About
from aiecs.core.interface.store import (
    Append,
    Get,
    GuardFailed,
    Incr,
    LogSlice,
    Op,
    Put,
    Read,
    RequireEquals,
    RequireFields,
    Result,
    Trim,
)
from aiecs.domain.context.agent_messages import (
    decode_conversation,
    decode_message,
    encode_conversation,
    encode_message,
    new_conversation,
    new_message,
)
from aiecs.domain.context.arguments import listed, wanted_count
from aiecs.domain.context.conversation_models import (
    AgentCommunicationMessage,
    ConversationParticipant,
    ConversationSession,
    session_id_of,
)
from aiecs.domain.context.groups import conversation_log
from aiecs.domain.context.runtime import Runtime
from aiecs.domain.context.sessions import Sessions

_ATTEMPTS = 8
_PAGE = 500
_UNKNOWN = b"{}"

# Named here because `list` is a method below.
Messages = list[AgentCommunicationMessage]
Pages = list[Messages]
Found = list[ConversationSession]


class AgentConversations:
    """The agent conversations of one store. Calls raise `StoreError` when the store is down."""

    def __init__(self, runtime: Runtime, sessions: Sessions) -> None:
        self._runtime = runtime
        self._sessions = sessions

    async def create(
        self,
        session_id: str,
        participants: Iterable[ConversationParticipant | Mapping[str, Any]],
        session_type: str,
        metadata: dict[str, Any] | None = None,
    ) -> str:
        """Begin a conversation, or find the one that there is; its `session_key`.

        The same session, type and participants (in any order) give the same key and leave the
        stored conversation as it is, its metadata too. One atomic write, an activity of the
        session, which is created if unknown (`strict_sessions` raises instead).
        """
        conversation = new_conversation(session_id, participants, session_type, metadata)
        key, record = conversation.session_key, encode_conversation(conversation)
        digest = _digest(key)
        told = self._runtime.events.event(record, About.CONVERSATION, session_id, key)
        begin = (Put("a", {digest: record}, if_absent="abort"), Incr("", {"cn": 1}), *told)
        for _ in range(_ATTEMPTS):
            try:
                await self._sessions.apply(session_id, begin)
            except GuardFailed as refusal:
                if refusal.found is None:
                    continue
                if refusal.found == _UNKNOWN:
                    await self._introduce(session_id, digest, record, told)
            return key
        raise ConflictError(f"session {session_id!r} is removed all the time")

    async def add(  # noqa: PLR0917 - callers of aiecs 2 may pass all of it by position
        self,
        session_key: str,
        sender_id: str,
        sender_type: str,
        sender_role: str,
        recipient_id: str | None = None,
        recipient_type: str | None = None,
        recipient_role: str | None = None,
        content: str | None = None,
        message_type: str = "communication",
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """Append a message to a conversation, True. One atomic write, an activity of the session.

        `content` is required; it follows the recipient for callers of aiecs 2. Any type of message
        goes, and the sender need not be a participant. A conversation that is unknown by now, its
        session expired or deleted, begins anew under the same key; under `strict_sessions` that is
        a `NotFoundError`. `InvalidInputError` for a key that `create` cannot have returned and for
        more than 1 MiB.
        """
        session_id = session_id_of(session_key)
        fields = {
            "sender_id": sender_id,
            "sender_type": sender_type,
            "sender_role": sender_role,
            "recipient_id": recipient_id,
            "recipient_type": recipient_type,
            "recipient_role": recipient_role,
            "content": content,
            "message_type": message_type,
            "metadata": metadata,
        }
        item = encode_message(new_message(session_key, fields))
        await self._append(session_id, session_key, item)
        return True

    async def history(
        self,
        session_key: str,
        limit: int | None = 50,
        message_types: Iterable[str] | None = None,
    ) -> Messages:
        """The latest messages of a conversation, oldest first; [] if it is unknown.

        At most `limit`, all of them for None or less than 1; of the given types only, if any are
        given. What cannot be decoded is left out and counted.
        """
        wanted, kinds = wanted_count(limit), _kinds(message_types)
        session_id = _session_of(session_key)
        if session_id is None:
            return []
        for _ in range(_ATTEMPTS):
            found = await self._backwards(session_id, session_key, wanted, kinds)
            if found is not None:
                return found if wanted is None else found[-wanted:]
        raise ConflictError(f"the conversations of {session_id!r} are rewound all the time")

    async def get(self, session_key: str) -> ConversationSession | None:
        """The conversation of that key; None if unknown.

        Its `last_activity` is the time of its latest message. `CorruptRecordError` if its bytes
        cannot be decoded.
        """
        session_id = _session_of(session_key)
        if session_id is None:
            return None
        digest = _digest(session_key)
        ops = (Get("a", (digest,)), _last(digest))
        (record,), log = await self._sessions.read(session_id, *ops)
        if record is None or record == _UNKNOWN:
            return None
        return self._session(session_id, digest, record, log)

    async def list(self, session_id: str) -> Found:
        """The conversations of a session, oldest first; [] if it is unknown.

        Left out are those that began anew and whose participants nobody has given since, and what
        cannot be decoded, which is counted.
        """
        (records,) = await self._sessions.read(session_id, Get("a"))
        known = [(name, record) for name, record in records.items() if record != _UNKNOWN]
        found: Found = []
        for start in range(0, len(known), _PAGE):
            part = known[start : start + _PAGE]
            logs = await self._sessions.read(session_id, *(_last(name) for name, _ in part))
            for (name, record), log in zip(part, logs, strict=True):
                try:
                    found.append(self._session(session_id, name, record, log))
                except CorruptRecordError:
                    continue
        return sorted(found, key=lambda one: one.created_at)

    # --- writing --------------------------------------------------------------------------------

    async def _introduce(
        self, session_id: str, digest: str, record: bytes, told: tuple[Op, ...]
    ) -> None:
        """Say who takes part in a conversation that began anew without."""
        ops = (RequireEquals("a", digest, _UNKNOWN), Put("a", {digest: record}), *told)
        try:
            await self._sessions.apply(session_id, ops)
        except GuardFailed:
            return

    async def _append(self, session_id: str, session_key: str, item: bytes) -> None:
        digest = _digest(session_key)
        known = (RequireFields("a", (digest,)),)
        begin = (Put("a", {digest: _UNKNOWN}, if_absent="abort"), Incr("", {"cn": 1}))
        for _ in range(_ATTEMPTS):
            if await self._appended(session_id, known, session_key, item):
                return
            if self._runtime.strict_sessions:
                raise NotFoundError("this conversation does not exist")
            if await self._appended(session_id, begin, session_key, item):
                return
        raise ConflictError(f"session {session_id!r} is removed all the time")

    async def _appended(
        self, session_id: str, before: tuple[Op, ...], session_key: str, item: bytes
    ) -> bool:
        """Append behind `before`; False when one of those operations refused."""
        log, keep = conversation_log(_digest(session_key)), self._runtime.max_messages
        trim: tuple[Op, ...] = () if keep is None else (Trim(log, keep=keep),)
        ids, of = (session_id, session_key), Result(len(before))
        told = self._runtime.events.event(item, About.AGENT_MESSAGE, *ids, of=of)
        ops = (*before, Append(log, (item,)), *trim, *told)
        try:
            results = await self._sessions.apply(session_id, ops)
        except GuardFailed:
            return False
        trimmed = results[len(before) + 1] if results and trim else 0
        self._runtime.counters.add("messages", 1)
        if trimmed:
            self._runtime.counters.add("messages", -trimmed)
        return True

    # --- reading --------------------------------------------------------------------------------

    async def _backwards(
        self, session_id: str, session_key: str, wanted: int | None, kinds: frozenset[str]
    ) -> Messages | None:
        """Page by page from the end; None when the log was rewound meanwhile."""
        log = conversation_log(_digest(session_key))
        size = _PAGE if kinds or wanted is None else min(wanted, _PAGE)
        pages: Pages = []
        stop: int | None = None
        epoch: str | None = None
        while wanted is None or sum(map(len, pages)) < wanted:
            (found,) = await self._sessions.read(session_id, Read(log, None, stop, size))
            if epoch is not None and epoch != found.epoch:
                return None
            pages.append(self._messages(session_key, found, kinds))
            stop, epoch = found.first, found.epoch
            if not found.items or found.first <= found.base:
                break
        return [message for page in reversed(pages) for message in page]

    def _messages(self, session_key: str, found: LogSlice, kinds: frozenset[str]) -> Messages:
        messages: Messages = []
        for sequence, item in enumerate(found.items, found.first):
            if not item:  # redacted
                continue
            try:
                message = decode_message(session_key, item)
            except CorruptRecordError:
                self._runtime.note_corrupt("agent message", f"{session_key} #{sequence}")
            else:
                if not kinds or message.message_type in kinds:
                    messages.append(message)
        return messages

    def _session(
        self, session_id: str, digest: str, record: bytes, log: LogSlice
    ) -> ConversationSession:
        try:
            found = decode_conversation(session_id, record)
        except CorruptRecordError:
            self._runtime.note_corrupt("agent conversation", f"{session_id}/{digest}")
            raise
        for message in self._messages(found.session_key, log, frozenset()):
            found.last_activity = message.timestamp
        return found


def _digest(session_key: str) -> str:
    return session_key.rpartition(":")[2]


def _last(digest: str) -> Read:
    return Read(conversation_log(digest), limit=1)


def _session_of(session_key: str) -> str | None:
    """The session of a key, None for one that `create` cannot have returned."""
    try:
        return session_id_of(session_key)
    except InvalidInputError:
        return None


def _kinds(message_types: Iterable[str] | None) -> frozenset[str]:
    if message_types is None:
        return frozenset()
    kinds = listed(message_types, "message_types")
    if isinstance(message_types, str) or not all(isinstance(kind, str) for kind in kinds):
        raise InvalidInputError(f"message_types is a list of types (str), got {message_types!r}")
    return frozenset(kinds)
