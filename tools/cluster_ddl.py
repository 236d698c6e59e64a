"""Print the archive's tables for a ClickHouse cluster, made from what the archive itself runs.

docs/how-to/clickhouse-cluster.md says what to do with it.
"""

# ruff: noqa: INP001 - a script

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from aiecs.infrastructure.persistence.archive.tables import Table
    from aiecs.infrastructure.persistence.archive.url import Address

ROOT = Path(__file__).resolve().parent.parent
MACRO = "{cluster}"
#: Of the database whose tables reach all shards.
ALL = "_all"
#: Keeper forgets tokens by age as well, after an hour where nobody says otherwise.
TOKEN_SECONDS = 7 * 24 * 3600

_CLUSTER = re.compile(r"\{[a-z_]+\}|[A-Za-z0-9_.-]+")
_DATABASE = re.compile(r"CREATE DATABASE IF NOT EXISTS `\w+`")
_TABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS `(?P<name>\w+)` (?P<columns>\(.+\)) "
    r"ENGINE = (?P<engine>\w*MergeTree)\((?P<arguments>\w*)\)(?P<rest> .+)"
)
_ALTER = re.compile(r"ALTER TABLE `(?P<name>\w+)` (?P<change>.+)")
_INSERT = re.compile(r"INSERT INTO `(?P<name>\w+)` (?P<rest>.+)")
_PARAMETER = re.compile(r"\{(\w+):\w+\}")
_WINDOW = re.compile(r"\bnon_(replicated_deduplication_window) = (\d+)")


class Recorder:
    """An empty server, for the archive to create its tables on; it notes the statements."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.statements: list[str] = []

    def use(self, _: str) -> None:
        """Nothing: each statement will name its database."""

    def select(self, *_: object) -> list[tuple[Any, ...]]:
        """Nothing is there."""
        return []

    def execute(
        self, statement: str, parameters: Mapping[str, Any] | None = None, **_: object
    ) -> None:
        """Note it, with its parameters in place."""

        def literal(found: re.Match[str]) -> str:
            value = (parameters or {})[found[1]]
            return str(value) if isinstance(value, int) else f"'{value}'"

        self.statements.append(_PARAMETER.sub(literal, statement))


class Layout(NamedTuple):
    """A cluster's name, as its servers' configuration has it, and the archive's database."""

    cluster: str
    database: str

    @property
    def on(self) -> str:
        """Where a statement runs."""
        return f"ON CLUSTER '{self.cluster}'"

    def placed(self, statement: str) -> str:
        """A statement of the archive's, for the cluster; `ValueError` for an unknown kind."""
        forms: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
            (_DATABASE, lambda found: f"{found[0]} {self.on}"),
            (_TABLE, self._replicated),
            (_ALTER, lambda found: self.altered(self.database, found)),
            (_INSERT, lambda found: f"INSERT INTO {self._name(found)} {found['rest']}"),
        )
        for form, made in forms:
            found = form.fullmatch(statement)
            if found:
                return made(found)
        raise ValueError(f"no place on a cluster is known for: {statement}")

    def altered(self, database: str, found: re.Match[str]) -> str:
        """A change of a table, in one of the databases."""
        return f"ALTER TABLE `{database}`.`{found['name']}` {self.on} {found['change']}"

    def _name(self, found: re.Match[str]) -> str:
        return f"`{self.database}`.`{found['name']}`"

    def _replicated(self, found: re.Match[str]) -> str:
        from aiecs.infrastructure.persistence.archive.migrations import MIGRATIONS_TABLE

        # What has been applied is one table for all servers, so that one INSERT tells them all.
        everywhere = found["name"] == MIGRATIONS_TABLE
        shard, replica = ("all", "{shard}-{replica}") if everywhere else ("{shard}", "{replica}")
        arguments = [f"'/clickhouse/tables/{shard}/{{database}}/{{table}}'", f"'{replica}'"]
        arguments += [found["arguments"]] if found["arguments"] else []
        return (
            f"CREATE TABLE IF NOT EXISTS {self._name(found)} {self.on} {found['columns']} "
            f"ENGINE = Replicated{found['engine']}({', '.join(arguments)})"
            f"{_WINDOW.sub(_windows, found['rest'])}"
        )

    def across(self, tables: Sequence[Table], statements: Sequence[str]) -> Iterator[str]:
        """The second database: each table of events once more, over all shards."""
        everything = f"{self.database}{ALL}"
        yield f"CREATE DATABASE IF NOT EXISTS `{everything}` {self.on}"
        for table in tables:
            yield (
                f"CREATE TABLE IF NOT EXISTS `{everything}`.`{table.name}` {self.on} "
                f"AS `{self.database}`.`{table.name}` ENGINE = Distributed('{self.cluster}', "
                f"'{self.database}', '{table.name}', cityHash64(`{shard_column(table)}`))"
            )
        for found in map(_ALTER.fullmatch, statements):
            # Of an older release's table, which the statement above has left as it was.
            if found and found["change"].startswith("ADD COLUMN "):
                yield self.altered(everything, found)


def _windows(found: re.Match[str]) -> str:
    return f"{found[1]} = {found[2]}, {found[1]}_seconds = {TOKEN_SECONDS}"


def shard_column(table: Table) -> str:
    """The id of the session or thread: the first id that takes many values."""
    from aiecs.infrastructure.persistence.archive.tables import Kind

    kinds = {column.name: column.kind for column in table.columns}
    return next(name for name in table.ids if kinds[name] is Kind.ID)


def statements_for(
    layout: Layout,
    *,
    tables: Sequence[Table] | None = None,
    text_index: bool = False,
    ttl_days: int | None = None,
) -> list[str]:
    """All statements in order; each may run again. `tables`: the archive's own unless given."""
    from aiecs.infrastructure.persistence.archive import migrations
    from aiecs.infrastructure.persistence.archive.tables import TABLES
    from aiecs.infrastructure.persistence.archive.url import address_of

    days = "" if ttl_days is None else f"&ttl_days={ttl_days}"
    url = f"clickhouse://nowhere/{layout.database}?text_index={str(text_index).lower()}{days}"
    chosen = tuple(TABLES if tables is None else tables)
    empty: Any = Recorder(address_of(url))
    migrations.migrate(empty, tables=chosen)
    migrations.apply_options(empty, chosen)
    placed = [layout.placed(statement) for statement in empty.statements]
    return [*placed, *layout.across(chosen, empty.statements)]


def _cluster(name: str) -> str:
    if not _CLUSTER.fullmatch(name):
        raise argparse.ArgumentTypeError("a cluster is a plain name, or a macro as {cluster}")
    return name


def main(arguments: list[str]) -> int:
    """Print the statements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cluster", nargs="?", default=MACRO, type=_cluster)
    parser.add_argument("database", nargs="?", default="aiecs")
    parser.add_argument("--text-index", action="store_true", help="as text_index=true in the URL")
    parser.add_argument("--ttl-days", type=int, help="as ttl_days= in the URL")
    given = parser.parse_args(arguments)
    from aiecs.core.errors import InvalidInputError

    layout = Layout(given.cluster, given.database)
    try:
        found = statements_for(layout, text_index=given.text_index, ttl_days=given.ttl_days)
    except InvalidInputError as error:
        parser.error(str(error))
    for statement in found:
        sys.stdout.write(f"{statement};\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
