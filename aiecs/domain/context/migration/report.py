"""What a migration tells while it runs, and at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

MOST_TROUBLES = 1_000


class Progress(NamedTuple):
    """How far a migration is: `done` of about `total` groups, which grows while others write."""

    phase: Literal["moving", "comparing"]
    done: int
    total: int


class Trouble(NamedTuple):
    """A group that could not be moved, or that is not the same in both stores."""

    kind: str
    name: str
    reason: str


@dataclass(slots=True)
class MigrationReport:
    """What was done with every session, thread and namespace of items.

    Of each kind the number that was `moved`, `continued` (it was there as it had been), `known` (it
    was there as it is), `newer` (it was moved before and has been written to in the target since:
    it stays so) or `absent` (it expired or was removed meanwhile). `messages`, `checkpoints` and
    `items` are what the target got. `compared` groups were read again from both stores. `troubles`
    are the first 1,000 groups that stay as they were, and why; `troubled` is how many there are.
    """

    sessions: Counter[str] = field(default_factory=Counter)
    threads: Counter[str] = field(default_factory=Counter)
    namespaces: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    checkpoints: int = 0
    items: int = 0
    compared: int = 0
    troubled: int = 0
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the target has everything that the source has, as far as was looked."""
        return not self.troubled

    def note(self, trouble: Trouble) -> None:
        """Keep a trouble."""
        self.troubled += 1
        if len(self.troubles) < MOST_TROUBLES:
            self.troubles.append(trouble)

    def to_dict(self) -> dict[str, Any]:
        """Everything by name."""
        return {
            **{name: dict(getattr(self, name)) for name in ("sessions", "threads", "namespaces")},
            **{name: getattr(self, name) for name in ("messages", "checkpoints", "items")},
            "compared": self.compared,
            "complete": self.complete,
            "troubled": self.troubled,
            "troubles": [one._asdict() for one in self.troubles],
        }
