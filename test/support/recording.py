"""A permanent backend that keeps what it is called with."""

from __future__ import annotations

import asyncio

from aiecs.core.interface.storage_interface import IPermanentStorageBackend


class Recording(IPermanentStorageBackend):
    """Keeps what it is called with; `answers` come before True."""

    def __init__(self):
        self.calls = []
        self.answers = []

    async def _take(self, *call):
        self.calls.append(call)
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        return answer

    async def initialize(self):
        return await self._take("initialize")

    async def close(self):
        await self._take("close")

    async def append_session_event(self, session_id, event_type, session):
        return await self._take("session", session_id, event_type, session)

    async def append_conversation_message(self, session_id, message):
        return await self._take("message", session_id, message)

    async def append_task_context_snapshot(self, session_id, context):
        return await self._take("context", session_id, context)

    async def append_checkpoint(self, thread_id, checkpoint_id, checkpoint_data, metadata=None):
        return await self._take("checkpoint", thread_id, checkpoint_id, checkpoint_data, metadata)

    async def append_checkpoint_writes(self, thread_id, checkpoint_id, task_id, writes_data):
        return await self._take("writes", thread_id, checkpoint_id, task_id, writes_data)

    async def append_conversation_session(self, session_key, conversation):
        return await self._take("conversation", session_key, conversation)

    def contents(self):
        return [call[2]["content"] for call in self.calls if call[0] == "message"]
