"""Long-term memory: the same answers as LangGraph's own store, where both have the feature."""

from __future__ import annotations

import asyncio
from typing import TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore
from support.waiting import until

from aiecs import ContextEngine
from aiecs.core.errors import InvalidInputError, StoreError
from aiecs.domain.context import indexes, item_places
from aiecs.integrations.langgraph import ContextEngineStore

BRIEF = 0.3 / 60  # minutes


@pytest.fixture
def items(engine):
    return ContextEngineStore(engine)


LABELS = st.sampled_from(["a", "b", "users", "Ä/%", "a b"])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k", "k2", "~i", ":x", "a/b", "😀"])
VALUES = st.dictionaries(
    st.sampled_from(["n", "text", "deep", "many"]),
    st.integers(-3, 3)
    | st.sampled_from(["x", "y"])
    | st.lists(st.integers(0, 2), max_size=2)
    | st.dictionaries(st.just("n"), st.integers(0, 2), max_size=1),
    max_size=3,
)
COMPARED = st.dictionaries(st.sampled_from(["$eq", "$ne"]), st.integers(-3, 3), min_size=1)
FILTERS = st.none() | st.dictionaries(
    st.sampled_from(["n", "text", "deep", "many"]),
    COMPARED | st.integers(-3, 3) | st.just([1]) | st.fixed_dictionaries({"n": st.just(1)}),
    max_size=2,
)
PATHS = st.lists(LABELS | st.just("*"), max_size=3).map(tuple)
CONDITIONS = st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), PATHS)
OPS = st.one_of(
    st.tuples(NAMESPACES, KEYS, VALUES | st.none()).map(lambda args: PutOp(*args)),
    st.tuples(NAMESPACES, KEYS, VALUES).map(lambda args: PutOp(*args)),
    st.tuples(NAMESPACES, KEYS).map(lambda args: GetOp(*args)),
    st.tuples(st.lists(LABELS, max_size=2).map(tuple), FILTERS).map(
        lambda args: SearchOp(*args, limit=1000)
    ),
    st.builds(
        ListNamespacesOp,
        st.none() | st.lists(CONDITIONS, max_size=2).map(tuple),
        st.none() | st.integers(1, 3),
        st.integers(0, 5),
        st.integers(0, 2),
    ),
)


def told(result):
    if isinstance(result, list):
        return result if not result or isinstance(result[0], tuple) else set(map(_one, result))
    return None if result is None else _one(result)


def _one(item):
    return (
        item.namespace,
        item.key,
        repr(sorted(item.value.items())),
        item.score if hasattr(item, "score") else None,
    )


def asked(theirs, batch):
    """Reads before puts, as in a batch; a namespace without an item is still listed there."""
    results = []
    for op in batch:
        for namespace in [name for name, held in theirs._data.items() if not held]:
            del theirs._data[namespace]
        results += [None] if isinstance(op, PutOp) else theirs.batch([op])
    theirs.batch([op for op in batch if isinstance(op, PutOp)])
    return results


async def agree(ours, batches):
    theirs = InMemoryStore()
    for batch in batches:
        expected = [told(one) or None for one in asked(theirs, batch)]
        assert [told(one) or None for one in await ours.abatch(batch)] == expected


@given(st.lists(st.lists(OPS, min_size=1, max_size=4), max_size=12))
@settings(max_examples=300, deadline=None)
def test_it_agrees_with_the_store_of_langgraph(batches):
    async def run():
        async with ContextEngine(store="memory://") as engine:
            await agree(ContextEngineStore(engine), batches)

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(5))
async def test_it_does_so_on_every_store(items, seed):
    async def run(batches):
        await agree(items, batches)

    drawn: list = []

    @settings(max_examples=1, database=None, derandomize=False, deadline=None)
    @given(st.lists(st.lists(OPS, min_size=1, max_size=4), min_size=6, max_size=12))
    def draw(batches):
        drawn[:] = batches

    draw()
    await run(drawn)


async def test_numbers_are_compared(items):
    for number in range(6):
        await items.aput(("n",), str(number), {"n": number, "x": str(number)})
    await items.aput(("n",), "none", {"x": "words"})

    async def keys(**wanted):
        return sorted(item.key for item in await items.asearch(("n",), filter=wanted, limit=50))

    assert await keys(n={"$gt": 1, "$lte": 4}) == ["2", "3", "4"]
    assert await keys(x={"$gte": 4}) == ["4", "5"]
    assert await keys(n={"$lt": "2"}) == ["0", "1"]
    assert await keys(n={"$lt": 10**400}) == []
    assert len(await items.asearch(("n",), limit=10**18)) == 7
    with pytest.raises(InvalidInputError, match=r"\$like"):
        await items.asearch(("n",), filter={"x": {"$like": "w"}})


async def test_the_last_changed_come_first_page_by_page(items):
    spaces = [("memories", "ada"), ("memories", "bo"), ("other",)]
    for number in range(60):
        await items.aput(spaces[number % 3], f"{number:02}", {"n": number})
    await items.aput(spaces[0], "00", {"n": 100})

    found = []
    for offset in range(0, 60, 7):
        found += await items.asearch(("memories",), limit=7, offset=offset)
    numbers = [item.value["n"] for item in found]
    assert numbers == [100, *(n for n in range(59, 0, -1) if n % 3 != 2)]
    wanted = await items.asearch((), filter={"n": {"$lt": 3}}, limit=5)
    assert [item.value["n"] for item in wanted] == [2, 1]
    assert await items.asearch((), limit=0) == []
    first = await items.aget(spaces[0], "00")
    assert first.created_at < first.updated_at


async def test_items_expire_and_are_prolonged_by_use(items):
    await items.aput(("t",), "brief", {"n": 1}, ttl=BRIEF)
    await items.aput(("t",), "long", {"n": 2}, ttl=1)
    await items.aput(("t",), "kept", {"n": 3})
    await items.aput(("gone",), "brief", {"n": 4}, ttl=BRIEF)

    async def is_gone():
        return await items.aget(("gone",), "brief", refresh_ttl=False) is None

    async def used_until_gone():
        assert await items.aget(("t",), "brief", refresh_ttl=True) is not None
        return await is_gone()

    await until(used_until_gone)
    first, *_ = await items.asearch(("t",), refresh_ttl=False)
    assert first.key == "kept"
    assert await items.alist_namespaces() == [("t",)]
    assert await items.asweep_ttl() == 1

    async def all_gone():
        return await items.aget(("t",), "brief", refresh_ttl=False) is None

    await until(all_gone)
    await items.aput(("t",), "long", {"n": 5})  # without a ttl, it stays
    assert await items.asweep_ttl() == 1
    assert {item.key for item in await items.asearch(("t",))} == {"long", "kept"}


async def test_an_empty_namespace_goes_in_the_end(items, engine, store, monkeypatch):
    monkeypatch.setattr(item_places, "STALE_AFTER", 0)
    monkeypatch.setattr(indexes, "STALE_AFTER", 0)
    await items.aput(("a", "b"), "k", {"n": 1})
    await items.adelete(("a", "b"), "k")
    assert await items.asweep_ttl() == 0
    assert await item_places.Directory(engine._on.runtime).under(("a",)) == []

    await items.aput(("a", "b"), "k", {"n": 2})
    assert [item.value for item in await items.asearch(("a",))] == [{"n": 2}]
    await items.asweep_ttl()
    assert [item.value for item in await items.asearch(("a",))] == [{"n": 2}]


async def test_many_writers_lose_nothing(items):
    await asyncio.gather(
        *(items.aput(("w", str(n % 7)), str(n), {"n": n}) for n in range(200)),
        *(items.asweep_ttl() for _ in range(10)),
    )
    assert len(await items.asearch(("w",), limit=500)) == 200


@pytest.mark.parametrize(
    "op",
    [
        PutOp((), "k", {}),
        PutOp(("a.b",), "k", {}),
        PutOp(("a", ""), "k", {}),
        GetOp(("a", 1), "k"),
        GetOp(("a", "\ud800"), "k"),
    ],
)
async def test_labels_that_there_cannot_be(items, op):
    with pytest.raises(InvalidNamespaceError):
        await items.abatch([PutOp(("before",), "k", {}), op])
    assert await items.alist_namespaces() == []


@pytest.mark.parametrize(
    "op",
    [
        PutOp(("a",), "", {"n": 1}),
        PutOp(("a",), "k" * 2000, {"n": 1}),
        PutOp(("a",), "k", {"n": object()}),
        PutOp(("a",), "k", {"n": "x" * 9_000_000}),
        PutOp(("a",), "k", [1]),
        PutOp(("a",), "k", {}, ttl=-1),
        SearchOp(("a",), limit=-1),
        SearchOp(("a",), filter=[1]),
        ListNamespacesOp(max_depth=0),
        "nonsense",
    ],
)
async def test_what_makes_no_sense(items, op):
    with pytest.raises(InvalidInputError):
        await items.abatch([PutOp(("before",), "k", {}), op])
    assert await items.alist_namespaces() == []


async def test_a_graph_remembers_across_threads(items):
    class State(TypedDict, total=False):
        name: str
        known: str

    def remember(state: State, runtime: Runtime) -> State:
        before = runtime.store.get(("users",), "name")
        runtime.store.put(("users",), "name", {"name": state["name"]})
        return {"known": before.value["name"] if before else ""}

    builder = StateGraph(State)
    builder.add_node("remember", remember)
    builder.add_edge(START, "remember")
    graph = builder.compile(store=items)

    assert (await graph.ainvoke({"name": "Ada"}))["known"] == ""
    assert (await asyncio.to_thread(graph.invoke, {"name": "Bo"}))["known"] == "Ada"


def test_from_a_url_by_both_ways(tmp_path):
    url = f"sqlite:///{tmp_path}/items.db"
    with ContextEngineStore.from_url(url, ttl={"default_ttl": 60}) as items:
        items.put(("a",), "k", {"n": 1})
        assert items.get(("a",), "k").value == {"n": 1}
        assert items.list_namespaces() == [("a",)]
        assert items.sweep_ttl() == 0

    async def again():
        async with ContextEngineStore.from_url(url) as items:
            return (await items.aget(("a",), "k")).value

    assert asyncio.run(again()) == {"n": 1}
    with pytest.raises(InvalidInputError):
        ContextEngineStore.from_url(url, ttl={"default_ttl": 0})


async def test_a_server_that_is_down_is_no_empty_store(servers):
    server = servers.start("valkey")
    async with ContextEngine(store=server.url, operation_timeout=1) as engine:
        items = ContextEngineStore(engine)
        await items.aput(("a",), "k", {"n": 1})
        server.kill()
        for call in (
            items.aget(("a",), "k"),
            items.asearch(("a",)),
            items.alist_namespaces(),
            items.aput(("a",), "k", {}),
            items.adelete(("a",), "k"),
        ):
            with pytest.raises(StoreError):
                await call
