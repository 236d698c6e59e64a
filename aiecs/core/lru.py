"""A bounded table: what was used least recently makes room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class SizedLru(Generic[K, V]):
    """Values within a bound of sizes. Safe from any thread."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._lock = threading.Lock()
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0

    def get(self, key: K) -> V | None:
        """The value held for a key, None for none."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
        return found[0]

    def hold(self, key: K, value: V | None, size: int = 1) -> None:
        """Hold this value (None: no longer any); one above an eighth of the bound is not held."""
        with self._lock:
            old = self._held.pop(key, None)
            if old is not None:
                self._size -= old[1]
            if value is None or size > self._max_size // 8:
                return
            self._held[key] = (value, size)
            self._size += size
            while self._size > self._max_size:
                self._size -= self._held.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
            self._size = 0
