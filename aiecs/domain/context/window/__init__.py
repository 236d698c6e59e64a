"""The part of a conversation that fits into a model's context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiecs.core.errors import InvalidInputError
from aiecs.domain.context.models import ConversationMessage

if TYPE_CHECKING:
    from aiecs.domain.context.conversations import Conversations

TokenCounter = Callable[[ConversationMessage], int]
"""How many tokens a message takes in the model's context."""

_PAGE = 100
_PER_MESSAGE = 4
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """Messages for a model, oldest first.

    `tokens` is what they take by the counter used; of the session's messages `included` are
    here and `dropped` are not.
    """

    messages: list[ConversationMessage]
    tokens: int
    included: int
    dropped: int


def estimate_tokens(message: ConversationMessage) -> int:
    """A token for every four bytes of text, and four for the message itself.

    Right within a fifth for English; other languages and code take more tokens than that.
    """
    text = len(message.content.encode(errors="replace")) + len(message.name or "")
    if message.tool_calls or message.parts:
        text += len(repr(message.tool_calls or "")) + len(repr(message.parts or ""))
    return _PER_MESSAGE + -(-text // _BYTES_PER_TOKEN)


async def latest_that_fit(
    conversations: Conversations,
    session_id: str,
    max_tokens: int,
    count: TokenCounter = estimate_tokens,
) -> ContextWindow:
    """The newest messages of a session that take `max_tokens` together, without a gap."""
    if type(max_tokens) is not int or max_tokens < 1:
        raise InvalidInputError(f"max_tokens is an int of 1 or more, got {max_tokens!r}")
    chosen: list[ConversationMessage] = []
    tokens = 0
    async for message in _newest_first(conversations, session_id):
        cost = count(message)
        if tokens + cost > max_tokens:
            break
        chosen.append(message)
        tokens += cost
    total = await conversations.length(session_id)
    chosen.reverse()
    return ContextWindow(chosen, tokens, len(chosen), max(0, total - len(chosen)))


async def _newest_first(
    conversations: Conversations, session_id: str
) -> AsyncIterator[ConversationMessage]:
    before: int | None = None
    while True:
        page = await conversations.history(session_id, _PAGE, before=before)
        for message in reversed(page):
            yield message
        if len(page) < _PAGE:
            return
        before = page[0].seq
