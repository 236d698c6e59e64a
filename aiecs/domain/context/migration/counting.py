"""What a move adds to the totals of the target, and to the report."""

from __future__ import annotations

from collections.abc import Mapping

from aiecs.domain.context.counters import Counters
from aiecs.domain.context.migration.parts import Fields, Group, Part


class Counted:
    """One group's part in it. `counted`: the head of what the totals have of it, else empty."""

    def __init__(
        self, tally: Tally, group: Group, head: Mapping[str, bytes], counted: Mapping[str, bytes]
    ) -> None:
        self.messages = 0
        self.checkpoints = 0
        self.items = 0
        #: How many checkpoints there were of what is counted.
        self.before = 0
        self._tally = tally
        self._group = group
        self._head = head
        self._counted = counted

    def see(self, part: Part) -> None:
        """A part that is moved."""
        if isinstance(part, Fields) and self._group.kind == "thread" and part.key == "d":
            self.checkpoints += len(part.fields)
        elif isinstance(part, Fields) and self._group.kind == "namespace" and part.key == "i":
            self.items += len(part.fields)

    def done(self) -> None:
        """The group stands in the target; what an earlier move left half done was never counted."""
        counters, tally = self._tally.counters, self._tally
        tally.messages += max(0, self.messages)
        tally.checkpoints += self.checkpoints
        tally.items += self.items
        if self.messages:
            counters.add("messages", self.messages)
        if self._group.kind == "session" and "gone" not in self._head:
            ended = ("st" in self._head) - ("st" in self._counted)
            if not self._counted:
                counters.add("sessions", 1)
            if ended:
                counters.add("ended", ended)
        if self._group.kind == "thread" and self.checkpoints != self.before:
            counters.add("checkpoints", self.checkpoints - self.before)


class Tally:
    """Everything that was moved."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self.messages = 0
        self.checkpoints = 0
        self.items = 0

    def of(self, group: Group, head: Mapping[str, bytes], counted: Mapping[str, bytes]) -> Counted:
        """Begin to count a group."""
        return Counted(self, group, head, counted)
