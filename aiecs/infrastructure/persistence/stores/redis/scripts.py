"""The scripts of one store: text and SHA-1 of each shape met so far."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from aiecs.infrastructure.persistence.stores.redis.script import Shape, dynamic_source


class Script(NamedTuple):
    """A script and the name the server knows it by."""

    sha: str
    text: str


class Scripts:
    """Compiles each shape once."""

    def __init__(self) -> None:
        self._by_shape: dict[object, Script] = {}

    def of(self, shape: Shape) -> Script:
        """The script of a shape of arguments."""
        found = self._by_shape.get(shape)
        return found if found is not None else self.add(shape, dynamic_source(shape))

    def add(self, name: object, text: str) -> Script:
        """Keep a script under a name of its own."""
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        script = self._by_shape[name] = Script(digest, text)
        return script

    def get(self, name: object) -> Script | None:
        """The script kept under a name."""
        return self._by_shape.get(name)

    def all(self) -> list[Script]:
        """Every script so far; a new connection loads them before anything else."""
        return list(self._by_shape.values())
