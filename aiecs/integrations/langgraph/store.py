"""LangGraph's long-term memory on an engine's store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from aiecs.core.clock import from_micros
from aiecs.core.errors import InvalidInputError
from aiecs.domain.context import ContextEngine
from aiecs.domain.context import items as domain
from aiecs.domain.context.long_term import items_of
from aiecs.domain.context.observation import Monitor, operation
from aiecs.integrations.langgraph import filters
from aiecs.integrations.langgraph.loop import Portal, portal_while_open
from aiecs.integrations.langgraph.owned import Owned

_MINUTE = 60_000_000
_LONGEST = 60 * 24 * 36_500  # minutes


class ContextEngineStore(BaseStore):
    """Keeps what agents remember beyond a thread in the store of an open `ContextEngine`.

    Items are found by namespace and key, by filters on their values and by listing namespaces; a
    `query` is not looked at, as in `InMemoryStore` without an index: the items last changed come
    first. Values are what JSON can hold, and what `aiecs.core.codec` keeps beside that. Each put is
    atomic; of two in one batch for one key the last counts, and reads of a batch see what was
    there before it. `ttl`: LangGraph's own settings, in minutes; what has expired is never shown,
    and `sweep_ttl` removes it.

    A store that is down raises `StoreError` within the engine's deadline; what cannot be stored
    `InvalidInputError`, before anything is.
    """

    supports_ttl = True

    def __init__(self, engine: ContextEngine, *, ttl: TTLConfig | None = None) -> None:
        self.engine = engine
        self.ttl_config = ttl
        _micros(None if ttl is None else ttl.get("default_ttl"))

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Owned[ContextEngineStore]:
        """A store with an engine of its own on a store's URL, for `async with` and `with`."""
        engine = ContextEngine(store=url)
        return Owned(cls(engine, **options), engine)

    @operation
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The results of operations, in their order."""
        wanted = list(ops)
        puts = {(op.namespace, op.key): op for op in wanted if isinstance(op, PutOp)}
        for op in wanted:
            _check(op)
        ready = [(op, self._record(op)) for op in puts.values()]
        results = await asyncio.gather(*map(self._read, wanted))
        await asyncio.gather(*(self._write(op, record) for op, record in ready))
        return list(results)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """As `abatch`."""
        return self._portal.call(self.abatch(ops))

    async def asweep_ttl(self) -> int:
        """Remove all items that have expired; how many."""
        return await self._items.sweep()

    def sweep_ttl(self) -> int:
        """As `asweep_ttl`."""
        return self._portal.call(self.asweep_ttl())

    @property
    def monitor(self) -> Monitor:
        """What measures the calls: the engine's, so its metrics and observers have them too."""
        return self.engine.monitor

    @property
    def _items(self) -> domain.Items:
        return items_of(self.engine)

    @property
    def _portal(self) -> Portal:
        return portal_while_open(self.engine, lambda: items_of(self.engine))

    async def _read(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            found = await self._items.get(op.namespace, op.key, use=op.refresh_ttl)
            return None if found is None else Item(**_fields(found))
        if isinstance(op, SearchOp):
            return await self._search(op)
        if isinstance(op, ListNamespacesOp):
            return await self._namespaces(op)
        return None

    async def _search(self, op: SearchOp) -> Result:
        accept = partial(_accepts, op.filter) if op.filter else None
        found = await self._items.search(
            op.namespace_prefix, accept, op.limit, op.offset, use=op.refresh_ttl
        )
        return [SearchItem(**_fields(item)) for item in found]

    async def _namespaces(self, op: ListNamespacesOp) -> Result:
        conditions = op.match_conditions or ()
        found = await self._items.namespaces(_common(conditions))
        matching = [name for name in found if all(_matches(one, name) for one in conditions)]
        if op.max_depth is not None:
            matching = sorted({name[: op.max_depth] for name in matching})
        return matching[op.offset : op.offset + op.limit]

    def _record(self, op: PutOp) -> bytes | None:
        """What is to be stored; None for what is to be removed."""
        if op.value is None:
            return None
        return self._items.record(op.key, dict(op.value), _micros(op.ttl))

    async def _write(self, op: PutOp, record: bytes | None) -> None:
        if record is None:
            await self._items.delete(op.namespace, op.key)
        else:
            await self._items.put(op.namespace, op.key, record, _micros(op.ttl))


def _fields(item: domain.Item) -> dict[str, Any]:
    return {
        "namespace": item.namespace,
        "key": item.key,
        "value": item.value,
        "created_at": from_micros(item.created),
        "updated_at": from_micros(item.updated),
    }


def _accepts(wanted: dict[str, Any], value: dict[str, Any]) -> bool:
    return filters.accepts(value, wanted)


def _micros(minutes: float | None) -> int | None:
    if minutes is None:
        return None
    if type(minutes) not in (int, float) or not 0 < minutes <= _LONGEST:
        raise InvalidInputError(f"a ttl is minutes above 0, got {minutes!r}")
    return max(1, round(minutes * _MINUTE))


# --- what is asked for ----------------------------------------------------------------------------


def _check(op: Op) -> None:
    """Before anything is read or written."""
    if isinstance(op, (GetOp, PutOp)):
        _check_labels(op.namespace, "namespace", least=1)
    if isinstance(op, PutOp):
        if op.value is not None and not isinstance(op.value, dict):
            raise InvalidInputError(f"an item's value is a dict, got {type(op.value).__name__}")
        _micros(op.ttl)
    elif isinstance(op, SearchOp):
        _check_labels(op.namespace_prefix, "namespace_prefix")
        _check_page(op.limit, op.offset)
        filters.check({} if op.filter is None else op.filter)
    elif isinstance(op, ListNamespacesOp):
        _check_page(op.limit, op.offset)
        for one in op.match_conditions or ():
            _check_labels(one.path, "path")
            if one.match_type not in ("prefix", "suffix"):
                raise InvalidInputError(f"match_type is prefix or suffix, got {one.match_type!r}")
        if op.max_depth is not None and (type(op.max_depth) is not int or op.max_depth < 1):
            raise InvalidInputError(f"max_depth is 1 or more, got {op.max_depth!r}")
    elif not isinstance(op, GetOp):
        raise InvalidInputError(f"{type(op).__name__} is no operation of a store")


def _check_labels(namespace: Any, what: str, least: int = 0) -> None:
    if not isinstance(namespace, tuple) or len(namespace) < least:
        raise InvalidNamespaceError(
            f"a {what} is a tuple of labels{' and not empty' if least else ''}"
        )
    for label in namespace:
        if not isinstance(label, str) or not label or "." in label or not _is_text(label):
            raise InvalidNamespaceError(f"a label of a {what} is text without '.', got {label!r}")


def _is_text(label: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in label)


def _check_page(limit: Any, offset: Any) -> None:
    for name, value in (("limit", limit), ("offset", offset)):
        if type(value) is not int or value < 0:
            raise InvalidInputError(f"{name} is 0 or more, got {value!r}")


def _common(conditions: Iterable[MatchCondition]) -> tuple[str, ...]:
    """What all namespaces begin with that meet the conditions."""
    for one in conditions:
        if one.match_type == "prefix":
            path = tuple(map(str, one.path))
            return path[: path.index("*")] if "*" in path else path
    return ()


def _matches(one: MatchCondition, namespace: tuple[str, ...]) -> bool:
    path = one.path
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if one.match_type == "prefix" else namespace[-len(path) :]
    return not path or all(asked in ("*", label) for asked, label in zip(path, part, strict=True))
