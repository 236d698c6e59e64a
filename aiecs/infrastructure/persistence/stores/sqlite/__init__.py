"""The store in one SQLite file: durable, shared by processes of one machine, nothing to install."""

from aiecs.infrastructure.persistence.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
