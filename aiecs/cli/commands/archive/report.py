"""`aiecs archive report`: what the archive knows, counted, summed up and searched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import typer

from aiecs.cli.commands.archive.opening import ArchiveOption, open_archive
from aiecs.cli.render import Output, one_line, stamp
from aiecs.cli.running import JsonOption, UsageError, run
from aiecs.infrastructure.persistence.archive.reports import REPORTS, Report, Result, run_report

_OPTIONS: Final = {
    "days": "--days",
    "user_id": "--user",
    "session_id": "--session",
    "text": "--text",
    "limit": "--limit",
}


def report(
    *,
    name: Annotated[str | None, typer.Argument(help="Which one; none: list them.")] = None,
    days: Annotated[int | None, typer.Option(help="Today and the days before, in UTC.")] = None,
    user: Annotated[str | None, typer.Option(help="Only sessions of this user.")] = None,
    session: Annotated[
        str | None, typer.Option(help="Only this session, its agents included.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="The words to search for.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many rows.")] = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a report on archived messages; without a name, list the reports.

    What has not been shipped yet is missing. Sessions that were erased are in no report.
    """
    output = Output(as_json=as_json)
    told = {"days": days, "user_id": user, "session_id": session, "text": text, "limit": limit}
    given = {name: value for name, value in told.items() if value is not None}
    run(_list(output, given) if name is None else _show(output, name, given, archive), output)


async def _list(output: Output, given: dict[str, Any]) -> None:
    if given:
        needless = ", ".join(_OPTIONS[one] for one in given)
        raise UsageError(f"{needless}: of which report? one of {', '.join(REPORTS)}")
    if output.as_json:
        output.json({"reports": [_described(report) for report in REPORTS.values()]})
        return
    rows = [(one.name, one.about, " ".join(_taken(one))) for one in REPORTS.values()]
    output.table(("report", "what it shows", "options"), rows)


def _described(report: Report) -> dict[str, Any]:
    return {
        "name": report.name,
        "about": report.about,
        "options": _taken(report),
        "columns": [column._asdict() for column in report.columns],
    }


def _taken(report: Report) -> list[str]:
    return [_OPTIONS[parameter.name] for parameter in report.parameters]


async def _show(output: Output, name: str, given: dict[str, Any], url: str | None) -> None:
    _check(name, given)
    async with open_archive(url, output, must_exist=True) as archive:
        found = await asyncio.to_thread(run_report, archive, name, given)
    names = [column.name for column in found.columns]
    if output.as_json:
        rows = [dict(zip(names, map(_as_json, row), strict=True)) for row in found.rows]
        head = {"archive": archive.name, "report": name, "parameters": found.parameters}
        output.json({**head, "columns": [one._asdict() for one in found.columns], "rows": rows})
        return
    if not found.rows:
        output.remark("nothing in the archive matches")
        return
    output.table(names, [list(map(_as_text, row)) for row in found.rows])
    _plot(output, found, names)


def _check(name: str, given: dict[str, Any]) -> None:
    """In the words of the command line, before anything is opened."""
    if name not in REPORTS:
        raise UsageError(f"there is no report {name!r}; there are {', '.join(REPORTS)}")
    taken = _taken(REPORTS[name])
    needless = [_OPTIONS[one] for one in given if _OPTIONS[one] not in taken]
    if needless:
        raise UsageError(f"{name} has no use for {needless[0]}; it takes {', '.join(taken)}")
    if name == "search" and "text" not in given:
        raise UsageError("search needs --text WORDS")
    REPORTS[name].checked(given)


def _plot(output: Output, found: Result, names: list[str]) -> None:
    if not found.value or len(found.rows) < 2:  # noqa: PLR2004 - one bar compares with nothing
        return
    label = [names.index(name) for name in found.label]
    value = names.index(found.value)
    pairs = [
        (" ".join(_as_text(row[place]) for place in label), float(row[value])) for row in found.rows
    ]
    output.bars(found.value, pairs)


_TEXTS: Final[dict[type, Callable[[Any], str]]] = {
    datetime: stamp,
    float: lambda value: f"{value:.4f}".rstrip("0").rstrip("."),
    Decimal: lambda value: f"{value:.9f}".rstrip("0").rstrip("."),
}


def _as_text(value: Any) -> str:
    return one_line(_TEXTS.get(type(value), str)(value)) or "-"


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, int | float | str) else value.isoformat()
