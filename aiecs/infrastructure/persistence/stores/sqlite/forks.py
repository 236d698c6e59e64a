"""What a fork leaves behind: threads that are gone, and files that SQLite must not touch again.

In a forked child SQLite still counts its parent's connections as its own. It would rely on locks
that the child does not hold, and others could delete the log that it writes to. So a file that
was open during a fork is refused in the child.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from typing import Protocol

File = tuple[int, int]

_PATIENCE = 1.0

_open: Counter[File] = Counter()
_inherited: set[File] = set()


class Descriptor(Protocol):
    """Something that holds a file descriptor."""

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class _Process:
    """This process: how often it has been forked off, and what its children must not inherit."""

    def __init__(self) -> None:
        self.generation = 0
        self.descriptors: weakref.WeakSet[Descriptor] = weakref.WeakSet()
        self._turns: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
        self._stopped: list[threading.Lock] = []
        self._forking = threading.Lock()

    def turn(self) -> threading.Lock:
        """A lock that a thread holds whenever it is inside SQLite.

        A fork waits for it: a child that inherits a mutex of SQLite in locked state hangs as soon
        as it uses SQLite, on whatever file.
        """
        turn = threading.Lock()
        self._turns.add(turn)
        return turn

    def stop(self) -> None:
        """Before a fork: let threads finish their groups, but do not wait for a dead disk."""
        self._forking.acquire()
        self._stopped = [turn for turn in list(self._turns) if turn.acquire(timeout=_PATIENCE)]

    def go_on(self) -> None:
        """After a fork, in the parent."""
        for turn in self._stopped:
            turn.release()
        self._stopped = []
        self._forking.release()

    def forked(self) -> None:
        """After a fork, in the child."""
        self.go_on()
        self.generation += 1
        _inherited.update(file for file, count in _open.items() if count > 0)
        _open.clear()
        # A lock lives as long as any copy of its descriptor: a child must not hold it on for a
        # parent that is killed.
        for descriptor in list(self.descriptors):
            descriptor.close()


process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=process.stop, after_in_parent=process.go_on, after_in_child=process.forked
    )


def opened(file: File) -> bool:
    """Note a new connection to the file; False, and nothing noted, when this process may not."""
    if file in _inherited:
        return False
    _open[file] += 1
    return True


def closed(file: File) -> None:
    """Note the end of a connection."""
    _open[file] -= 1
