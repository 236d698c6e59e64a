"""`aiecs history`: what was said in a session."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from aiecs.cli.render import Output, one_line, plural, stamp
from aiecs.cli.running import CommandError, JsonOption, StoreOption, open_engine, run
from aiecs.domain.context.models import ConversationMessage

_ARGUMENTS_SHOWN = 200


def history(
    *,
    session: Annotated[str, typer.Argument(help="The session's id.")],
    limit: Annotated[int, typer.Option(min=0, help="The latest so many messages; 0 for all.")] = 50,
    before: Annotated[int | None, typer.Option(help="Only messages before this seq.")] = None,
    after: Annotated[int | None, typer.Option(help="Only messages after this seq.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the messages of a session, oldest first."""
    output = Output(as_json=as_json)
    work = _show(output, store, session, limit=limit, before=before, after=after)
    run(work, output)


async def _show(
    output: Output,
    store: str | None,
    session_id: str,
    *,
    limit: int,
    before: int | None,
    after: int | None,
) -> None:
    async with open_engine(store, output, must_exist=True) as (engine, target):
        session = await engine.get_session(session_id)
        if session is None:
            raise CommandError(
                f"there is no session {session_id!r} in {target.shown}; `aiecs sessions` lists them"
            )
        messages = await engine.get_conversation_history(
            session_id, limit or None, before=before, after=after
        )
    if output.as_json:
        found = [message.to_dict() for message in messages]
        output.json({"session": session.to_dict(), "messages": found})
        return
    show_messages(output, messages)
    if limit and len(messages) == limit and after is None:
        output.remark(f"the latest {plural(limit, 'message')}; --limit 0 shows all")


def show_messages(output: Output, messages: list[ConversationMessage], indent: int = 0) -> None:
    """Messages as a person reads them."""
    for message in messages:
        name = f" ({one_line(message.name)})" if message.name else ""
        heading = f"{one_line(message.role)}{name}"
        output.line(f"{' ' * indent}{heading}  {stamp(message.timestamp)}  #{message.seq}", "bold")
        margin = indent + 2
        output.paragraph(message.content, indent=margin)
        for call in message.tool_calls or []:
            first = f"{' ' * margin}-> "
            output.paragraph(call_text(call), first=first, indent=len(first), style="cyan")
        others = sum(not _is_text(part) for part in message.parts or [])
        if others:
            output.paragraph(
                f"+ {plural(others, 'part')} other than text", indent=margin, style="dim"
            )


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("text"), str))


def call_text(call: Any) -> str:
    """A tool call on one line."""
    function = call.get("function", call) if isinstance(call, dict) else call
    if not isinstance(function, dict):
        return one_line(function)
    arguments = function.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    text = one_line(f"{function.get('name', '?')}({arguments})")
    return text if len(text) <= _ARGUMENTS_SHOWN else text[: _ARGUMENTS_SHOWN - 3] + "..."
