"""The engines of commands: one that works as an application's does, and those that only look."""

from __future__ import annotations

from dataclasses import replace

from aiecs.core.archiving import Archiving
from aiecs.core.interface.store import Store
from aiecs.core.settings import Settings
from aiecs.domain.context import ContextEngine as Working

__all__ = ["Looking", "Unarchived", "Working"]


class Looking(Working):
    """Knows the archive, and brings nothing into it."""

    def _open_archive(self, store: Store, settings: Settings) -> Archiving | None:
        return super()._open_archive(store, replace(settings, archive_ship=False))


class Unarchived(Working):
    """Knows no archive, whatever is configured."""

    def _open_archive(self, store: Store, settings: Settings) -> Archiving | None:
        del store, settings
        return None
