"""`aiecs migrate --kind aiecs-2`: what PyPI's aiecs 2.2.0 has kept in Redis, repaired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiecs.cli.opened import Working
from aiecs.cli.render import Output, plural
from aiecs.cli.running import FAILED
from aiecs.cli.target import Target
from aiecs.core.errors import ContextEngineError
from aiecs.domain.context import ContextEngine
from aiecs.domain.context.transfer import SessionRecord, importer_of
from aiecs.integrations.aiecs_2 import Source, opened, place_of

_PATIENCE = 30.0
_LISTED = 1_000

Tell = Callable[[int, int], None]


class OldData:
    """One reading of it. Reading it again changes nothing, and goes on where another ended."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._problems: list[dict[str, str]] = []
        self._count = 0
        self._keys: dict[str, str] = {}

    def _problem(self, where: Any, why: str) -> None:
        self._count += 1
        if len(self._problems) < _LISTED:
            self._problems.append({"where": str(where), "reason": why})
        self._output.error(f"{where}: {why}")

    def _refused(self, where: Any, error: ContextEngineError) -> None:
        self._problem(where, str(error))

    async def bring(self, from_: Target, to: Target, tell: Tell) -> int:
        """The whole command; its exit code."""
        async with (
            opened(from_.url, self._problem, self._keys.__setitem__) as source,
            Working(store=to.url, operation_timeout=_PATIENCE) as engine,
        ):
            counts = await self._import(source, engine, tell)
        if self._output.as_json:
            shown = {"from": from_.shown, "to": to.shown, "kind": "aiecs-2", **counts}
            problems = {"problems": self._count, "listed": self._problems, "keys": self._keys}
            self._output.json({**shown, **problems})
            return FAILED if self._count else 0
        parts = [f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count]
        self._output.line(f"brought {', '.join(parts) or 'nothing'}")
        if self._keys:
            count = plural(len(self._keys), "agent conversation")
            self._output.remark(f"{count} has a new key: --json lists them")
        return FAILED if self._count else 0

    async def _import(self, source: Source, engine: ContextEngine, tell: Tell) -> dict[str, int]:
        total, done = await source.count_sessions(), 0
        tell(0, total)
        async with importer_of(engine, self._refused) as importer:
            async for record in source.records():
                await importer.add(record, place_of(record))
                if isinstance(record, SessionRecord):
                    done += 1
                    tell(done, max(total, done))
        return importer.counts.to_dict()
