"""`aiecs erase-user` and `aiecs export-user`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from aiecs.cli.commands.cleanup import told
from aiecs.cli.formats import export as lines
from aiecs.cli.render import Output, plural
from aiecs.cli.running import (
    FAILED,
    JsonOption,
    StoreOption,
    agreed,
    open_engine,
    run,
)
from aiecs.core.clock import utcnow
from aiecs.core.keys import unescape
from aiecs.domain.context import ContextEngine, DeletionReport
from aiecs.domain.context.transfer import ItemRecord, SessionRecord, exporter_of

_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND

NamespaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        metavar="LABEL/LABEL",
        help="Items of long-term memory that are the user's too: all whose namespace begins so.",
    ),
]
UserArgument = Annotated[str, typer.Argument(help="The user's id.")]


def _labels(namespaces: list[str] | None) -> list[tuple[str, ...]]:
    """`users/ann`, with `%2F` for a slash in a label."""
    return [tuple(map(unescape, one.split("/"))) for one in namespaces or ()]


def erase_user(
    *,
    user: UserArgument,
    namespace: NamespaceOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    scrub: Annotated[
        bool,
        typer.Option(
            help="Then rewrite a SQLite file, so that not even deleted bytes are left in it."
        ),
    ] = True,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove everything of a user: sessions with all that is in them, here and in the archive.

    Says what was found and removed. It can be interrupted, and goes on when it is called again; the
    exit code is 1 while something is left to do, because the archive does not answer.
    """
    output = Output(as_json=as_json)
    run(_erase(output, store, user, _labels(namespace), yes=yes, scrub=scrub), output)


async def _erase(
    output: Output,
    store: str | None,
    user: str,
    namespaces: list[tuple[str, ...]],
    *,
    yes: bool,
    scrub: bool,
) -> int:
    async with open_engine(store, output, must_exist=True, bulk=True) as (engine, target):
        question = f"Remove everything of user {user!r} from {target.shown} for good?"
        if not yes and not agreed(question, "it would be gone for good"):
            output.remark("nothing was removed")
            return FAILED
        with output.working("removing"):
            report = await engine.delete_user(user, namespaces=namespaces)
        scrubbed = False
        if scrub and target.file is not None:
            with output.working("rewriting the file"):
                scrubbed = await engine.scrub()
    _report(output, target.shown, report, scrubbed=scrubbed)
    return 0 if report.complete else FAILED


def _report(output: Output, shown: str, report: DeletionReport, *, scrubbed: bool) -> None:
    if output.as_json:
        output.json({"store": shown, "scrubbed": scrubbed, **report.to_dict()})
        return
    output.line(f"removed {told(report)}" + ("; the file was rewritten" if scrubbed else ""))
    if not report.complete:
        output.remark("the archive is not done: whoever ships goes on; call again to make sure")


def export_user(
    *,
    user: UserArgument,
    file: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to: one JSON per line.")
    ],
    namespace: NamespaceOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everything that is kept of a user into a file, the archive's part too.

    The file appears when it is complete. An export that was interrupted goes on behind the last
    session that was complete.
    """
    output = Output(as_json=as_json)
    if file.exists():
        raise typer.BadParameter(f"{file} is there already: name another file, or remove it")
    run(_export(output, store, user, file.absolute(), _labels(namespace)), output)


class _Partial:
    """A file on its way: beside it stand the sessions that are complete, and where each ends."""

    def __init__(self, file: Path, user: str, store: str) -> None:
        self._file = file
        self._path = file.with_name(f".{file.name}.part")
        self._journal = file.with_name(f".{file.name}.done")
        self._whose = [user, store]
        self.counts: Counter[str] = Counter()
        self.done: set[str] = set()

    def open(self) -> None:
        """Begin, or go on where an earlier export of the same user ended."""
        end = 0
        for entry in self._entries():
            end, self.counts = entry["end"], Counter(entry["counts"])
            self.done.add(entry["session"])
        self._stream = os.fdopen(os.open(self._path, _APPENDING, 0o600), "ab")
        self._stream.truncate(end)
        flags = _APPENDING if end else _APPENDING | os.O_TRUNC
        self._written = os.fdopen(os.open(self._journal, flags, 0o600), "a", encoding="utf-8")
        if not end:
            self.write(lines.header_line(utcnow()))

    def _entries(self) -> Iterator[dict[str, Any]]:
        if not (self._path.exists() and self._journal.exists()):
            return
        size = self._path.stat().st_size
        for line in self._journal.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # cut off in the middle
                return
            if entry["of"] != self._whose or entry["end"] > size:
                return
            yield entry

    def write(self, line: str) -> None:
        """A line of the export."""
        self._stream.write(line.encode())

    def complete(self, session: str) -> None:
        """All of that session stands in the file."""
        self._stream.flush()
        end = self._stream.tell()
        entry = {"of": self._whose, "session": session, "end": end, "counts": self.counts}
        self._written.write(json.dumps(entry) + "\n")
        self._written.flush()

    def finish(self) -> None:
        """The file takes its name."""
        self.write(lines.end_line(self.counts.total()))
        self.close()
        self._path.replace(self._file)
        self._journal.unlink()

    def close(self) -> None:
        """Leave what there is for the next time."""
        self._stream.close()
        self._written.close()


async def _export(
    output: Output,
    store: str | None,
    user: str,
    file: Path,
    namespaces: list[tuple[str, ...]],
) -> int:
    async with open_engine(store, output, must_exist=True, bulk=True, ships=False) as (
        engine,
        target,
    ):
        partial = _Partial(file, user, target.shown)
        partial.open()
        if partial.done:
            output.remark(f"going on behind {plural(len(partial.done), 'session')}")
        try:
            with output.working("exporting"):
                await _write(engine, user, namespaces, partial)
            partial.finish()
        finally:
            partial.close()
        corrupt = exporter_of(engine).corrupt
    counts = dict(partial.counts)
    if output.as_json:
        output.json({"store": target.shown, "file": str(file), **counts, "left_out": corrupt})
    else:
        held = ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "nothing"
        output.line(f"exported {held}")
    if corrupt:
        output.error(f"{plural(corrupt, 'record')} could not be decoded and had to be left out")
    return FAILED if corrupt else 0


async def _write(
    engine: ContextEngine, user: str, namespaces: list[tuple[str, ...]], partial: _Partial
) -> None:
    current = ""
    async for record in engine.export_user(user, namespaces=namespaces, skip=partial.done):
        if current and isinstance(record, (SessionRecord, ItemRecord)):
            partial.complete(current)
            current = ""
        if isinstance(record, SessionRecord):
            current = record.session.session_id
        line = lines.record_line(record)
        partial.counts[json.loads(line)["type"]] += 1
        partial.write(line)
    if current:
        partial.complete(current)
