"""Something that works on an engine of its own, which is open within a block."""

from __future__ import annotations

from typing import Generic, TypeVar

from aiecs.domain.context import ContextEngine
from aiecs.integrations.langgraph.loop import portal_of

T = TypeVar("T")


class Owned(Generic[T]):
    """For `async with` and for `with`; gives the thing itself."""

    def __init__(self, thing: T, engine: ContextEngine) -> None:
        self._thing = thing
        self._engine = engine

    async def __aenter__(self) -> T:
        await self._engine.initialize()
        return self._thing

    async def __aexit__(self, *_: object) -> None:
        await self._engine.close()

    def __enter__(self) -> T:
        portal = portal_of(self._engine)
        try:
            portal.call(self._engine.initialize())
        except BaseException:
            portal.end()
            raise
        return self._thing

    def __exit__(self, *_: object) -> None:
        portal = portal_of(self._engine)
        portal.call(self._engine.close())
        portal.end()
