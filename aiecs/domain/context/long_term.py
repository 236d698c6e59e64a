"""From an open engine to its items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiecs.domain.context.items import Items

if TYPE_CHECKING:
    from aiecs.domain.context.context_engine import ContextEngine


def items_of(engine: ContextEngine) -> Items:
    """Those of an open engine; `LifecycleError` when it is not open."""
    return Items(engine._on.runtime)
