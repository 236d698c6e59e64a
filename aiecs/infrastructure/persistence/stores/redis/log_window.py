"""One `Read` of a log: which list positions to fetch, and whether what came covers the window.

Sequences are positions plus the log's base. Base and end are guessed from the caller's hint and
learnt from the first answer; a wrong guess costs a round trip, never a wrong result.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from aiecs.core.interface import store as port

Command = tuple[Any, ...]


class Span(NamedTuple):
    """List positions `first` to `last`, inclusive, as LRANGE has them (negative: from the end)."""

    first: int
    last: int


class LogWindow:
    """Asks for one window of one log until the answer covers it."""

    def __init__(self, op: port.Read) -> None:
        self._op = op
        self._base = op.base
        self._end: int | None = None
        self._span: Span | None = None
        self._counted = True

    def ask(self, key: str) -> list[Command]:
        """The commands of this round."""
        self._span = self._positions()
        if self._span is None:
            return [("LLEN", key)]
        # What follows a known item tells the end by itself; that is how a tail is continued.
        op = self._op
        open_end = op.start is not None and op.stop is None and self._span.first >= 0
        follows = open_end and (op.newest or not op.limit)
        self._counted = not follows or self._end is not None
        window = ("LRANGE", key, *self._span)
        return [("LLEN", key), window] if self._counted else [window]

    def _positions(self) -> Span | None:
        """None while the base must be learnt, or when nothing can be in the window."""
        op, base = self._op, self._base
        if op.start is None and op.stop is None:
            return self._limited(0, None)
        if base is None:
            return None
        low = 0 if op.start is None else max(0, op.start - base)
        if op.stop is None:
            return self._limited(low, None)
        high = (op.stop if self._end is None else min(op.stop, self._end)) - base
        return self._limited(low, high) if high > low else None

    def _limited(self, low: int, high: int | None) -> Span:
        limit = self._op.limit
        if not limit:
            return Span(low, -1 if high is None else high - 1)
        if not self._op.newest:
            return Span(low, (low + limit if high is None else min(high, low + limit)) - 1)
        if high is None:
            # Behind a known item there is seldom more than the limit: the few that there are, and
            # not as many as allowed from the end, which would mostly be known ones.
            few = low > 0 and self._end is None
            return Span(low, low + limit - 1) if few else Span(-limit, -1)
        return Span(max(low, high - limit), high - 1)

    def take(self, base: int, epoch: str, answers: list[Any]) -> port.LogSlice | None:
        """The result; None when another round is needed."""
        guessed, self._base = self._base, base
        items: list[bytes] = [] if self._span is None else answers[-1]
        if self._counted or self._span is None:
            end = base + int(answers[0])
        elif items and guessed == base and len(items) != self._op.limit:
            end = base + self._span.first + len(items)
        else:
            self._end = base
            return None
        self._end = end
        low, high = self._wanted(base, end)
        if high <= low:
            return port.LogSlice(epoch, base, end, end, [])
        if self._span is None or (self._uses_base() and guessed != base):
            return None
        first = self._span.first
        start = base + (first if first >= 0 else max(0, end - base + first))
        if start > low or start + len(items) < high:
            return None
        return port.LogSlice(epoch, base, end, low, items[low - start : high - start])

    def _uses_base(self) -> bool:
        return self._op.start is not None or self._op.stop is not None

    def _wanted(self, base: int, end: int) -> tuple[int, int]:
        op = self._op
        low = max(base, base if op.start is None else op.start)
        high = min(end, end if op.stop is None else op.stop)
        if op.limit and high - low > op.limit:
            return (high - op.limit, high) if op.newest else (low, low + op.limit)
        return low, high
