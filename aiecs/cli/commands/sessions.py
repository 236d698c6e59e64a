"""`aiecs sessions`: which sessions there are."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from aiecs.cli.render import Output, ago
from aiecs.cli.running import JsonOption, StoreOption, open_engine, run
from aiecs.domain.context.models import Page, SessionMetrics

_COLUMNS = (
    "session",
    "user",
    "status",
    "requests",
    "errors",
    "tokens in",
    "tokens out",
    "last activity",
)


def sessions(
    *,
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only active, completed, failed or expired ones.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where the page before ended.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List sessions, the latest activity first."""
    output = Output(as_json=as_json)
    work = _list(output, store, user=user, status=status, limit=limit, cursor=cursor)
    run(work, output)


async def _list(
    output: Output,
    store: str | None,
    *,
    user: str | None,
    status: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    async with open_engine(store, output, must_exist=True) as (engine, target):
        page = await _page(engine, user, status, limit, cursor)
    if output.as_json:
        found = [session.to_dict() for session in page.items]
        output.json({"store": target.shown, "sessions": found, "cursor": page.cursor})
        return
    if page.items:
        output.table(_COLUMNS, map(_row, page.items), optional=_COLUMNS[3:7])
    else:
        output.remark("no sessions" + (" match" if user or status else ""))
    if page.cursor is not None:
        named = target.shown if store else None  # a password does not belong on the screen
        options = {"user": user, "status": status, "limit": limit, "store": named}
        given = "".join(f" --{k} {shlex.quote(str(v))}" for k, v in options.items() if v)
        output.remark(f"more: aiecs sessions{given} --cursor {page.cursor}")


async def _page(
    engine: Any, user: str | None, status: str | None, limit: int, cursor: str | None
) -> Page[SessionMetrics]:
    """A full page: the engine's own ones may be short."""
    found: list[SessionMetrics] = []
    while True:
        page = await engine.list_sessions(user, status, limit - len(found), cursor)
        found += page.items
        cursor = page.cursor
        if cursor is None or len(found) >= limit:
            return Page(found, cursor)


def _row(session: SessionMetrics) -> tuple[object, ...]:
    return (
        session.session_id,
        session.user_id or "-",
        session.status,
        session.request_count,
        session.error_count,
        session.input_tokens,
        session.output_tokens,
        ago(session.last_activity),
    )
