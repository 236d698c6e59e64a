"""From an open engine to what moves its sessions."""

from __future__ import annotations

from typing import Any, Protocol

from aiecs.domain.context.transfer.exporting import Exporter
from aiecs.domain.context.transfer.importing import Importer, Problem


class _Open(Protocol):
    """An engine."""

    @property
    def _on(self) -> Any: ...


def exporter_of(engine: _Open) -> Exporter:
    """Reads an open engine's store; `LifecycleError` when the engine is not open."""
    return Exporter(engine._on.runtime)


def importer_of(engine: _Open, on_problem: Problem) -> Importer:
    """Writes to an open engine's store; `LifecycleError` when the engine is not open."""
    services = engine._on
    return Importer(services.runtime, services.sessions, on_problem)
