"""The cold archive: tables in ClickHouse, on a server or embedded by chDB."""

from aiecs.infrastructure.persistence.archive.clickhouse import ClickHouseArchive

__all__ = ["ClickHouseArchive"]
