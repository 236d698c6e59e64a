"""`aiecs doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

from aiecs.cli import examine, examine_archive
from aiecs.cli.commands.archive.opening import ArchiveOption
from aiecs.cli.render import Output
from aiecs.cli.running import FAILED, JsonOption, StoreOption, run
from aiecs.cli.target import choose_store
from aiecs.core.interface.finding import Finding

_MARGIN = 18
_STYLES = {"ok": "green", "note": "", "warn": "yellow", "fail": "bold red"}


def doctor(
    store: StoreOption = None, archive: ArchiveOption = None, as_json: JsonOption = False
) -> None:
    """Examine store, archive and installation; exit code 1 if something must be mended."""
    output = Output(as_json=as_json)
    run(_examine(output, store, archive), output)


async def _examine(output: Output, store: str | None, archive: str | None) -> int:
    target = choose_store(store)
    output.remark(f"store: {target.shown} ({target.source})")
    found = [*examine.installation(), examine.settings(), *await examine.store(target)]
    found += await examine_archive.archive(archive, target)
    failed = any(one.level == "fail" for one in found)
    if output.as_json:
        findings = [one._asdict() for one in found]
        output.json({"store": target.shown, "ok": not failed, "findings": findings})
    else:
        _show(output, found)
    return FAILED if failed else 0


def _show(output: Output, found: list[Finding]) -> None:
    for one in found:
        first = f"{one.level:<5}{one.check:<13}"
        output.paragraph(one.detail, first=first, indent=_MARGIN, style=_STYLES[one.level])
        if one.advice:
            output.paragraph(f"-> {one.advice}", indent=_MARGIN)
    bad = sum(one.level == "fail" for one in found)
    doubtful = sum(one.level == "warn" for one in found)
    output.line()
    if bad or doubtful:
        output.line(f"{bad} to mend, {doubtful} to think about", "bold")
    else:
        output.line("all is well", "bold")
