"""Run every benchmark and write what was reached to docs/reference/figures.md.

--results DIR: keep each benchmark's JSON there, and use what is there already.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "figures.md"
BENCHMARKS = (
    "add_message",
    "c_client",
    "load",
    "history",
    "sqlite",
    "memory",
    "cleanup",
    "import_cost",
    "archive_insert",
    "archive_reports",
    "archive_hot_path",
    "langgraph_savers",
    "observers",
    "migration",
)
INTRODUCTION = """# Figures

What ContextEngine costs, measured against the goals it was built for and against other ways to do
the same. Every table is the output of a script in `bench/`; `make bench` repeats all of them on
your machine (`ARGS=--quick`: does it run?). Nothing here is a promise for other hardware:
compare within one table.

How it is measured: real servers on the loopback; the sides take turns in short rounds, figures are
medians of the rounds and ratios medians of the ratios within a round. *Client us* is the CPU time
of the client process per operation, *server us* that of the server by its own account: the figures
to trust on a machine that does other work beside. `8.0x` under *ours is*: ContextEngine had eight
times the rate of that side.
"""
MISSED = """## What was missed, and why

- **A message against the specification's design, and the server's CPU.** A message is six commands
  in one script. A script that runs those commands and nothing else already takes about one and a
  half times the server's time of a transaction of them (*script, same commands* below); looking at
  receipts, expiry and types adds the rest.
- **The client's CPU per message.** Beside sending, it makes an id and a time, encodes JSON, numbers
  the write, keeps it until it is answered, watches deadlines and measures the call. A bare RPUSH
  does none of this.
- **The p99 of 64 tasks.** Client and server share two hyperthreads of one core here, and a message
  costs them some 80 us together: 64 at once take 3 to 5 ms before anything is late.
- **History.** Every reader gets objects of its own. Making 50 is nearly half of a cached read;
  decoding 50 KB of JSON a third of one without the cache, and the peers have to do that too. A
  read by a script would be faster for the client and twice as dear for the server
  ([decision](../decisions/reads.md)).
- **Memory per session.** The entry in the index by last activity is a third of it: 16 shards of
  6,250 members are beyond the server's compact encoding. With a thousand shards they would fit, and
  every listing of all sessions would have to read a thousand.
- **Clean-up.** Each of the 10,000 is one guarded script call and one look for a thread of the same
  name, some 100 to 150 us of client CPU together. What is removed in bulk are the index entries.
- **Rows a second into the archive.** *Delivery* reads, decodes, checks and makes columns of each
  event beside sending them; the insert alone is far above the goal. ClickHouse itself takes as much
  time for a row as all of that.
- **A session out of a million archived messages.** Two questions, for nobody else's messages may
  be shown: which lives are whose, and the messages. Each costs 5 ms for the bridge and the driver
  alone (*SELECT 1*), and they share two hyperthreads with the client. One of them takes 18 to 21
  ms.
- **The path of messages beside an archive.** All four, the application, its shipper, Redis and
  ClickHouse, run on these two hyperthreads. By their CPU a message costs 71 us without an archive
  and 210 to 230 with one, shipping and ClickHouse included: two hyperthreads cannot do 10,000 a
  second of that, nor 0.6 of the rate of a machine that is full already. What the application's own
  thread spends grows from 63 us to 69 (offered) and from 41 to 53 (saturated). With ClickHouse
  dead it pays the append to the outbox alone, and the p99 is that without an archive. Not measured
  for want of such a machine: the same with four cores or more. With 10,000 sessions an event
  lies alone in its outbox, and looking at each costs the shipper three times as much per message.
- **Steps of graphs, 32 at once.** Every saver has LangGraph's serializer make bytes of all 200
  messages at each checkpoint, which takes 1.8 ms: InMemorySaver, which does nothing else, makes 510
  steps a second. Twice the best networked saver would be 590. Leaving messages out that were
  serialized before would trust that nobody has changed them.
- **One aput_writes at a time on SQLite.** A commit of its own for each, on a disk that other work
  shares: the median is below AsyncSqliteSaver's, the mean above it in this run.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as nowhere:
        results = asked.results or Path(nowhere)
        found = {name: _result(name, results, quick=asked.quick) for name in BENCHMARKS}
    PAGE.write_text(_page(found))


def _result(name: str, results: Path, *, quick: bool) -> dict[str, Any]:
    kept = results / f"{name}.json"
    if not kept.exists():
        script = Path(__file__).with_name(f"{name}.py")
        command = [sys.executable, str(script), "--json", *(["--quick"] if quick else [])]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        kept.write_text(done.stdout)
    result: dict[str, Any] = json.loads(kept.read_text())
    return result


def _page(found: dict[str, dict[str, Any]]) -> str:
    parts = [INTRODUCTION, "## Goals and figures\n", _goals(found), MISSED]
    parts += [_section(name, result) for name, result in found.items()]
    return "\n".join(parts)


def _goals(found: dict[str, dict[str, Any]]) -> str:
    lines = ["| what | goal | measured | |", "|---|---|---|---|"]
    for name, result in found.items():
        for claim in result["claims"]:
            sign = "at most" if claim["at_most"] else "at least"
            goal = f"{sign} {claim['goal']:g} {claim['unit']}"
            what = f"[{claim['what']}](#{name.replace('_', '-')})"
            verdict = "reached" if claim["reached"] else "**missed**"
            lines.append(f"| {what} | {goal} | {_measured(claim['figures'])} | {verdict} |")
    return "\n".join(lines) + "\n"


def _measured(figures: dict[str, float]) -> str:
    return "; ".join(
        f"{_short(value)} ({where})" if where else _short(value) for where, value in figures.items()
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _section(name: str, result: dict[str, Any]) -> str:
    first, _, rest = result["about"].partition("\n\n")
    parts = [
        f"## {name.replace('_', '-')}\n\n{first}\n\n{rest}\n",
        f"Measured on: {result['environment']}.\n",
    ]
    parts += [_table(table) for table in result["tables"]]
    return "\n".join(parts)


def _table(table: dict[str, Any]) -> str:
    columns = table["columns"]
    aligned = ["---", *["--:"] * (len(columns) - 1)]
    rows = [columns, aligned, *table["rows"]]
    return f"{table['title']}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    main()
