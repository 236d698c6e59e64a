"""`aiecs archive dead`: the events that the archive does not take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiecs.cli.commands.archive.opening import ArchiveOption, open_archive, open_store
from aiecs.cli.render import Output, plural, stamp
from aiecs.cli.running import FAILED, JsonOption, StoreOption, agreed, run
from aiecs.core.clock import from_micros
from aiecs.core.interface.finding import size
from aiecs.infrastructure.persistence.archive import letters, sorting
from aiecs.infrastructure.persistence.archive.opening import destination_in
from aiecs.infrastructure.persistence.archive.sorting import Letter, Wanted

_COLUMNS = ("bucket", "when", "kind", "table", "reason", "size")
_NAMES = ("session", "thread")

TableOption = Annotated[str | None, typer.Option("--table", help="Only those for this table.")]
SessionOption = Annotated[
    str | None, typer.Option("--session", help="Only those of this session or thread.")
]


def list_(
    *,
    table: TableOption = None,
    session: SessionOption = None,
    ids: Annotated[bool, typer.Option("--ids", help="Show sessions and threads, too.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 100,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List events that the archive does not take; what they hold is not shown."""
    output = Output(as_json=as_json)
    run(_list(output, store, Wanted(table, session), ids=ids, limit=limit), output)


async def _list(
    output: Output, store: str | None, wanted: Wanted, *, ids: bool, limit: int
) -> None:
    found, count = [], 0
    async with open_store(store, output) as opened:
        async for one in letters.all_of(opened):
            letter = sorting.describe(one)
            if wanted.holds(letter):
                count += 1
                if not limit or count <= limit:
                    found.append(letter)
    if output.as_json:
        output.json({"dead": count, "letters": [_as_json(one, ids=ids) for one in found]})
    elif found:
        columns = (*_COLUMNS, *(_NAMES if ids else ()))
        output.table(columns, [_row(one, ids=ids) for one in found], optional=("size", "bucket"))
    elif wanted == Wanted():
        output.remark("the archive has taken everything that it was given")
    else:
        output.remark("no event that was set aside matches")
    if count > len(found):
        output.remark(f"{count - len(found):,} more: --limit 0 shows all")


def _row(letter: Letter, *, ids: bool) -> tuple[object, ...]:
    when = stamp(from_micros(letter.time)) if letter.time else "-"
    told = (letter.bucket, when, letter.kind, letter.table or "-", letter.reason, size(letter.size))
    return (*told, letter.session or "-", letter.thread or "-") if ids else told


def _as_json(letter: Letter, *, ids: bool) -> dict[str, Any]:
    told = letter._asdict()
    told["when"] = from_micros(told.pop("time")).isoformat() if letter.time else None
    return {name: value for name, value in told.items() if ids or name not in _NAMES}


def retry(
    *,
    table: TableOption = None,
    session: SessionOption = None,
    store: StoreOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliver them again, once what they were refused for is mended.

    Those that are still refused stay; the exit code is 1 then.
    """
    output = Output(as_json=as_json)
    run(_retry(output, store, archive, Wanted(table, session)), output)


async def _retry(output: Output, store: str | None, url: str | None, wanted: Wanted) -> int:
    async with open_store(store, output) as opened, open_archive(url, output) as archive:
        destination = await destination_in(archive, opened)
        try:
            done = await sorting.retry(opened, destination, wanted)
        finally:
            await destination.close()
    if output.as_json:
        output.json(done._asdict())
    else:
        refused = f", {done.refused:,} still refused" if done.refused else ""
        output.line(f"{plural(done.delivered, 'event')} delivered{refused}")
    return FAILED if done.refused else 0


def drop(
    *,
    table: TableOption = None,
    session: SessionOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove them for good: they will then be in no archive."""
    output = Output(as_json=as_json)
    run(_drop(output, store, Wanted(table, session), yes=yes), output)


async def _drop(output: Output, store: str | None, wanted: Wanted, *, yes: bool) -> int:
    async with open_store(store, output) as opened:
        count = sum([wanted.holds(sorting.describe(one)) async for one in letters.all_of(opened)])
        question = f"Drop {plural(count, 'event')} that no archive has?"
        if count and not yes and not agreed(question, "they would be gone for good"):
            output.remark("nothing was dropped")
            return FAILED
        dropped = await sorting.drop(opened, wanted) if count else 0
    if output.as_json:
        output.json({"dropped": dropped})
    else:
        output.line(f"{plural(dropped, 'event')} dropped")
    return 0
