"""What may be decoded: nothing but types that an application names, by itself or by its graphs.

`langgraph` collects the types of a graph's state when it compiles it, and offers them to the saver
(`with_allowlist`); but only while its own switch for that is on, which is read from the environment
variable LANGGRAPH_STRICT_MSGPACK when it is imported. Importing this module turns it on. To savers
that are not strict themselves the offer changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from langgraph._internal import _serde
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener

from aiecs.core.errors import ContextEngineError

OnBlocked = Literal["raise", "warn"]

_heard = threading.local()


class BlockedTypeError(ContextEngineError):
    """Stored bytes name a type that is not allowed here; nothing was imported or built of it.

    `types` are (module, name) pairs, as `ContextEngineSaver(allowed_types=…)` takes them.
    """

    def __init__(self, types: list[tuple[str, str]]) -> None:
        names = ", ".join(".".join(pair) for pair in types)
        super().__init__(
            f"a checkpoint holds {names}, which may not be decoded here: compile the graph whose "
            f"state has it with this saver, or allow it by allowed_types={types!r}"
        )
        self.types = types


@contextmanager
def refusing() -> Iterator[None]:
    """Within, what a serializer blocks is raised at the end instead of being handed out raw."""
    blocked: list[tuple[str, str]] = []
    _heard.blocked = blocked
    try:
        yield
    finally:
        _heard.blocked = None
    if blocked:
        raise BlockedTypeError(list(dict.fromkeys(blocked)))


def _listen(event: SerdeEvent) -> None:
    blocked: Any = getattr(_heard, "blocked", None)
    if blocked is not None and event["kind"] in ("msgpack_blocked", "msgpack_method_blocked"):
        blocked.append((event["module"], event["name"]))


register_serde_event_listener(_listen)
vars(_serde)["STRICT_MSGPACK_ENABLED"] = True
