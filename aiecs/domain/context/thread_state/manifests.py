"""Which parts a long value has, in order, told in few bytes however long it is.

The names of the parts are cut into nodes where the names themselves say so (one in eight, but never
behind the first), the names of nodes into nodes of nodes, and so on: what two lists have in common,
they share as nodes, wherever it stands. A list that grows at its end makes a new node every nine
parts; what is not in a node yet stands in the manifest itself. So a manifest of n parts holds some
9 names for each of its log9(n) levels, and there are fewer nodes than parts. (Content-defined
chunking; as a tree: the prolly trees of Noms and Dolt.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from aiecs.core.errors import CorruptRecordError
from aiecs.domain.context.thread_state.names import names_in

_LAST = frozenset("AIQYgow4")  # 8 of the 64 characters that a name may begin with
_SHORTEST, _LONGEST = 2, 32

Level = tuple[str, ...]


class Node(NamedTuple):
    """A part of a manifest, as it is stored under its name."""

    name: str
    content: bytes


class Manifest(NamedTuple):
    """The names of all parts: the highest nodes first, those of the parts themselves last."""

    levels: tuple[Level, ...] = ((),)

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes, in order."""
        return [name for level in self.levels[:-1] for name in level]

    @property
    def parts(self) -> Level:
        """The names of the parts that are in no node yet."""
        return self.levels[-1]

    def without(self, last: int) -> Manifest | None:
        """That of a list without its last parts; None when some of these are in a node."""
        if not last:
            return self
        loose = self.parts
        if last > len(loose):
            return None
        return Manifest((*self.levels[:-1], loose[: len(loose) - last]))


class Builder:
    """Makes the manifest of a list, part by part; `new` are the nodes that this has made."""

    def __init__(self, name_of: Callable[[bytes], str], start: Manifest | None = None) -> None:
        self._name_of = name_of
        levels = (start or Manifest()).levels
        self._levels = [list(level) for level in reversed(levels)]
        self.new: list[Node] = []

    def add(self, name: str) -> None:
        """The next part."""
        height = 0
        while True:
            if height == len(self._levels):
                self._levels.append([])
            level = self._levels[height]
            level.append(name)
            ends = name[0] in _LAST and len(level) >= _SHORTEST
            if not ends and len(level) < _LONGEST:
                return
            content = content_of(level, height)
            level.clear()
            name = self._name_of(content)
            self.new.append(Node(name, content))
            height += 1

    def manifest(self) -> Manifest:
        """What stands at this moment."""
        return Manifest(tuple(map(tuple, reversed(self._levels))))


def content_of(names: Iterable[str], height: int) -> bytes:
    """What is stored of a node: names of parts, or links to nodes (as `Gather` follows them)."""
    if height == 0:
        return "".join(names).encode()
    return f"&{' '.join(names)}\n".encode()


def children_of(content: bytes) -> tuple[list[str], bool]:
    """The names in a node, and whether they are nodes themselves; `CorruptRecordError` else."""
    try:
        if content[:1] == b"&":
            return content[1:].partition(b"\n")[0].decode().split(" "), True
        return names_in(content.decode()), False
    except UnicodeDecodeError:
        raise CorruptRecordError("a node of a stored list is damaged") from None


def parts_of(manifest: Manifest, nodes: Mapping[str, bytes], length: int) -> list[str]:
    """The names of all parts, which are `length`; `CorruptRecordError` when they are not."""
    found: list[str] = []
    open_ = [name for level in manifest.levels[:-1] for name in level][::-1]
    visited = 0
    while open_ and visited < length:  # fewer nodes than parts; but a planted one may be a circle
        visited += 1
        content = nodes.get(open_.pop())
        if content is None:
            raise CorruptRecordError("a stored list has lost one of its nodes")
        children, inner = children_of(content)
        if inner:
            open_.extend(reversed(children))
        else:
            found.extend(children)
    found.extend(manifest.parts)
    if open_ or len(found) != length:
        raise CorruptRecordError("a stored list is not as long as it was")
    return found
