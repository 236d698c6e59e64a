"""What a process remembers of the threads it works with: bounded, and never trusted for long.

Everything here is checked by the store when it is used: a write that relies on it names the state
of the thread's contents (`Known.state`), which changes with every clean-up and every new life.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from aiecs.domain.context.thread_state.manifests import Manifest
from aiecs.domain.context.thread_state.records import Ref

KEY_BYTES = 16
_BODIES = 64
_NAME_BYTES = 160  # a name in a set and its text, as CPython holds them


@dataclass(slots=True)
class Known:
    """Names that are stored, as long as the thread's contents are in this state.

    `state` is the key of the names, then a count of clean-ups; None: the thread is absent.
    """

    state: bytes | None
    key: bytes
    names: set[str] = field(default_factory=set)


@dataclass(slots=True, frozen=True)
class Held:
    """References of a checkpoint, for those that follow and leave a channel as it is."""

    checkpoint_id: str
    versions: dict[str, Any]
    channels: dict[str, Ref]
    manifests: dict[str, Manifest]


@dataclass(slots=True, frozen=True)
class Sequence:
    """A long value as it was last written or read, by its parts.

    `body` is all of them one behind the other, `ends` where each ends. `sent` is the `Known` that
    has all their names.
    """

    form: str
    key: bytes
    body: bytes
    ends: list[int]
    names: list[str]
    manifest: Manifest
    sent: Known | None = None


class ThreadCache:
    """What is remembered of one thread."""

    __slots__ = ("bodies", "held", "known", "nodes", "sequences")

    def __init__(self, known: Known) -> None:
        self.known = known
        self.held: dict[str, Held] = {}
        self.nodes: dict[str, bytes] = {}
        self.bodies: dict[str, bytes] = {}
        self.sequences: dict[tuple[str, str], Sequence] = {}

    def remember(self, name: str, body: bytes) -> None:
        """Hold a value that is kept whole; the oldest makes room."""
        self.bodies[name] = body
        if len(self.bodies) > _BODIES:
            self.bodies.pop(next(iter(self.bodies)), None)

    def size(self) -> int:
        """About how many bytes this takes."""
        values = sum(map(len, self.bodies.values())) + sum(map(len, self.nodes.values()))
        lists = sum(len(sequence.body) for sequence in self.sequences.values())
        names = len(self.known.names) + len(self.nodes) + len(self.bodies)
        return values + lists + _NAME_BYTES * (names + 16)


class Caches:
    """The threads that were used last, up to about `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads: OrderedDict[str, tuple[ThreadCache, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, thread_id: str) -> ThreadCache | None:
        """What is remembered of a thread."""
        with self._lock:
            entry = self._threads.get(thread_id)
            if entry is None:
                return None
            self._threads.move_to_end(thread_id)
            return entry[0]

    def put(self, thread_id: str, cache: ThreadCache) -> None:
        """Remember a thread, or that what is remembered has grown; others may be forgotten."""
        size = cache.size()
        with self._lock:
            _, before = self._threads.pop(thread_id, (cache, 0))
            self._threads[thread_id] = cache, size
            self._size += size - before
            while self._size > self._most and self._threads:
                _, (_, freed) = self._threads.popitem(last=False)
                self._size -= freed

    def forget(self, thread_id: str) -> None:
        """Remember nothing of a thread."""
        with self._lock:
            _, freed = self._threads.pop(thread_id, (None, 0))
            self._size -= freed
