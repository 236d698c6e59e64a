"""The archive, as the other services and the application see it."""

from __future__ import annotations

from aiecs.core.archiving import Archiving
from aiecs.core.errors import LifecycleError
from aiecs.core.ids import check_id
from aiecs.core.keys import bucket_of
from aiecs.domain.context.archive_health import ArchiveHealth, issues_of
from aiecs.domain.context.archive_questions import ArchiveQuestions
from aiecs.domain.context.arguments import seconds_of
from aiecs.domain.context.earlier import Earlier
from aiecs.domain.context.groups import read_session
from aiecs.domain.context.runtime import Runtime

NO_ARCHIVE = "there is no archive: give archive=, or set AIECS_ARCHIVE_URL or CLICKHOUSE_ENABLED"


class Cold:
    """The archive of one engine; without one every question ends in `LifecycleError`."""

    def __init__(
        self, runtime: Runtime, archiving: Archiving | None, earlier: Earlier | None = None
    ) -> None:
        self._runtime = runtime
        self._archiving = archiving
        self._earlier = earlier
        self.questions = ArchiveQuestions(self._there)

    @property
    def name(self) -> str:
        """Where the archive is, without secrets; "" without one."""
        return "" if self._archiving is None else self._archiving.name

    async def barrier(self, session_id: str | None, timeout: float) -> None:
        """Wait for the archive. See `ContextEngine.archive_barrier`."""
        seconds, archiving = seconds_of(timeout, "timeout"), self._there()
        if session_id is None:
            await archiving.barrier(None, seconds)
            return
        group = await read_session(self._runtime, check_id(session_id, "session_id"))
        threads = () if group is None else group.threads
        await archiving.barrier({bucket_of(name) for name in (session_id, *threads)}, seconds)

    async def health(self) -> ArchiveHealth:
        """How the archive is doing; a `StoreError` when the store does not tell."""
        if self._archiving is None:
            return ArchiveHealth({}, [])
        state, issues = await self._archiving.state(), []
        gaps, recent = (0, False) if self._earlier is None else self._earlier.gaps
        if recent:
            issues.append("histories were served without what the archive holds of them")
        told = {"name": self._archiving.name, **state._asdict(), "gaps": gaps}
        return ArchiveHealth(told, [*issues_of(state), *issues])

    def _there(self) -> Archiving:
        if self._archiving is None:
            raise LifecycleError(NO_ARCHIVE)
        return self._archiving
