"""Tables and claims of a benchmark, as text or as JSON; where it was measured."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness import Figures, Options


def environment(*packages: str, servers: Sequence[str] = ()) -> str:
    """One line: machine, interpreter, servers and the versions of what is compared."""
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    machine = f"{os.cpu_count()} CPUs ({platform.machine()} {platform.system()}, {load})"
    python = f"Python {platform.python_version()}"
    found = [f"{name} {_version(name)}" for name in packages if name != "sqlite3"]
    if "sqlite3" in packages:
        found.append(f"SQLite {sqlite3.sqlite_version}")
    return ", ".join([machine, python, *servers, *found])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@dataclass
class Claim:
    """A goal and what was measured, by the circumstances it was measured in."""

    what: str
    goal: float
    unit: str
    figures: dict[str, float]
    at_most: bool

    @property
    def reached(self) -> bool:
        pairs = ((found, self.goal) for found in self.figures.values())
        return all(found <= goal if self.at_most else found >= goal for found, goal in pairs)


def at_least(what: str, goal: float, unit: str, figures: dict[str, float]) -> Claim:
    return Claim(what, goal, unit, figures, at_most=False)


def at_most(what: str, goal: float, unit: str, figures: dict[str, float]) -> Claim:
    return Claim(what, goal, unit, figures, at_most=True)


class Report:
    """The tables and claims of one benchmark."""

    def __init__(self, about: str | None, environment: str) -> None:
        self._about = (about or "").strip()
        self._environment = environment
        self._tables: list[dict[str, Any]] = []
        self._claims: list[Claim] = []

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        shown = [[_cell(value) for value in row] for row in rows]
        self._tables.append({"title": name, "columns": list(columns), "rows": shown})

    def sides(self, name: str, found: dict[str, Figures], ours: str) -> None:
        """A table of sides; the last column says how many times as fast `ours` is."""
        columns = ("side", "ops/s", "p50 ms", "p99 ms", "client us", "server us", "ours is")
        rows = []
        for side, f in found.items():
            ratio = "" if side == ours else f"{found[ours].times(f):.1f}x"
            server = f.server_us or "-"
            rows.append((side, round(f.rate), f.p50_ms, f.p99_ms, f.client_us, server, ratio))
        self.table(name, columns, rows)

    def claim(self, claim: Claim) -> None:
        self._claims.append(claim)

    def show(self, options: Options) -> None:
        if options.quick:
            self._environment += "; A QUICK RUN: SMALLER SIZES, ONE SHORT ROUND, NO FIGURES TO CITE"
        print(self._json() if options.as_json else self._text())

    def _json(self) -> str:
        claims = [{**asdict(claim), "reached": claim.reached} for claim in self._claims]
        whole = {"about": self._about, "environment": self._environment}
        return json.dumps({**whole, "tables": self._tables, "claims": claims}, indent=1)

    def _text(self) -> str:
        parts = [self._about, f"Measured on: {self._environment}"]
        parts += [_table(**table) for table in self._tables]
        return "\n\n".join([*parts, "\n".join(map(_claim, self._claims))])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in pairs)
        for row in (columns, *rows)
        if (pairs := list(enumerate(zip(row, widths, strict=True))))
    ]
    return "\n".join([title, *lines])


def _claim(claim: Claim) -> str:
    found = ", ".join(f"{_cell(value)} ({where})" for where, value in claim.figures.items())
    sign = "<=" if claim.at_most else ">="
    verdict = "reached" if claim.reached else "MISSED"
    return f"{verdict}: {claim.what} {sign} {claim.goal:g} {claim.unit}: {found}"
