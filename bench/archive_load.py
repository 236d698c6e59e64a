"""What the archive's benchmarks share: the CPU of a process, and sessions of 50 messages each.

The text is made of sentences of a vocabulary whose words are as unevenly common as those of a
language; a real archive compresses better where its messages repeat each other.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

PER_SESSION, USERS = 50, 1_000
MODELS = ("large", "medium", "small", "mini")
YEAR = 365 * 86_400 * 1_000_000
SEARCHED = "xylophone"  # about one message in a thousand has it
TABLE = "context_conversations"

_SYLLABLES = (
    "ba",
    "con",
    "de",
    "er",
    "fi",
    "gra",
    "in",
    "ka",
    "lo",
    "mu",
    "ne",
    "on",
    "per",
    "qui",
)


class Messages:
    """The same messages at every run, of the year that ends with it."""

    def __init__(self) -> None:
        self._start = time.time_ns() // 1_000 - YEAR
        self._random = random.Random(7)
        words = ["".join(part) for part in itertools.product(_SYLLABLES, repeat=3)]
        self._random.shuffle(words)
        self._words = words
        self._totals = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
        self._sentences = [self._sentence() for _ in range(20_000)]

    def text(self) -> str:
        """Two to eight sentences: about 400 bytes."""
        found = self._random.choices(self._sentences, k=self._random.randint(2, 8))
        if self._random.random() < 0.001:
            found.append(f"The {SEARCHED} again.")
        return " ".join(found)

    def _sentence(self) -> str:
        count = self._random.randint(5, 16)
        words = self._random.choices(self._words, cum_weights=self._totals, k=count)
        return " ".join(words).capitalize() + "."

    def session(self, number: int) -> Iterator[dict[str, Any]]:
        """The rows of a session's messages."""
        begun = self._start + number * 1_600_000_001_237 % YEAR
        for place in range(PER_SESSION):
            yield self._row(number, place, begun + place * 20_000_000)

    def _row(self, session: int, place: int, moment: int) -> dict[str, Any]:
        by_model = place % 2
        model = self._random.choice(MODELS) if by_model else ""
        tokens = self._random.randint(40, 4_000) if by_model else 0
        latency = int(self._random.lognormvariate(7, 0.6)) if by_model else 0
        cost = tokens * 3 / 1_000_000
        error = int(by_model and self._random.random() < 0.02)
        used = {"model": model, "input_tokens": tokens, "latency_ms": latency, "cost_usd": cost}
        return {
            "session_id": f"session-{session:08}",
            "role": "assistant" if by_model else "user",
            "content": self.text(),
            "metadata": json.dumps(used) if by_model else "{}",
            "user_id": f"user-{session % USERS:04}",
            "model": model,
            "input_tokens": tokens,
            "output_tokens": tokens // 4,
            "cost_usd": cost,
            "latency_ms": latency,
            "error": error,
            "incarnation": f"{session:032x}",
            "seq": place + 1,
            "event_id": UUID(int=self._random.getrandbits(128)),
            "created_at": moment,
            "version": session * PER_SESSION + place + 1,
            "store_id": "bench",
        }


def load(archive: Any, count: int, at_once: int = 20_000) -> None:
    """Fill an archive with so many messages."""
    messages = Messages()
    sessions = range(count // PER_SESSION)
    rows = itertools.chain.from_iterable(map(messages.session, sessions))
    for number in itertools.count():
        part = list(itertools.islice(rows, at_once))
        if not part:
            return
        columns = {name: [row[name] for row in part] for name in part[0]}
        archive.insert(TABLE, columns, token=f"load-{number}")


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used so far; 0.0 where the system does not say."""
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
