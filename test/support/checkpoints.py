"""Checkpoints as LangGraph makes them, without a graph."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base.id import uuid6


def checkpoint(values: dict[str, Any], versions: dict[str, Any], step: int = 0) -> dict[str, Any]:
    """A checkpoint of these values."""
    return {
        "v": 4,
        "id": str(uuid6(clock_seq=step)),
        "ts": "2026-11-23T10:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
        "updated_channels": None,
    }


class Run:
    """A thread that grows step by step; `config` names its last checkpoint."""

    def __init__(self, saver: Any, config: dict[str, Any]) -> None:
        self.saver = saver
        self.config = config
        self.versions: dict[str, Any] = {}
        self.steps = 0

    async def step(self, metadata: dict[str, Any] | None = None, /, **changed: Any) -> Any:
        """Store the next checkpoint, in which these channels have changed; its config."""
        values = getattr(self, "values", {}) | changed
        self.values = values
        version = self.saver.get_next_version(max(self.versions.values(), default=None), None)
        new = dict.fromkeys(changed, version)
        self.versions = {**self.versions, **new}
        made = checkpoint(dict(values), dict(self.versions), self.steps)
        told = {"source": "loop", "step": self.steps, "parents": {}, **(metadata or {})}
        self.config = await self.saver.aput(self.config, made, told, new)
        self.steps += 1
        return self.config
