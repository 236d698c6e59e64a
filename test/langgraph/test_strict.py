"""Nothing is decoded that nobody has named, nothing lies open that was to be sealed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict

import ormsgpack
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from pydantic import BaseModel
from support.checkpoints import Run

from aiecs import ContextEngine
from aiecs.core.errors import CorruptRecordError, InvalidInputError, StoreError
from aiecs.core.interface.store import Batch, Get, Put
from aiecs.core.keys import thread_place
from aiecs.integrations.langgraph import BlockedTypeError, ContextEngineSaver

KEY = b"0123456789abcdef"
CANARY = "the canary sings"


class Colour(Enum):
    RED = "red"


class Address(BaseModel):
    street: str


@dataclass
class Person:
    name: str
    address: Address
    colour: Colour = Colour.RED


class State(TypedDict):
    person: Person


def graph_on(saver: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("same", lambda state: {"person": state["person"]})
    builder.add_edge(START, "same")
    return builder.compile(checkpointer=saver)


async def test_types_of_a_graphs_state_are_allowed_when_it_is_compiled(saver, engine, config):
    person = Person("ada", Address(street="s" * 200))
    await graph_on(saver).ainvoke({"person": person}, config)

    later = graph_on(ContextEngineSaver(engine))
    assert (await later.aget_state(config)).values == {"person": person}
    assert later.get_state(config).values == {"person": person}


async def test_other_types_raise_and_are_not_handed_out_as_dicts(saver, engine, config):
    await Run(saver, config).step(people=[Person("ada", Address(street="s" * 200))] * 2)
    here = Person.__module__

    with pytest.raises(BlockedTypeError) as caught:
        await saver.aget_tuple(config)
    assert set(caught.value.types) == {(here, "Person"), (here, "Address"), (here, "Colour")}
    with pytest.raises(BlockedTypeError):
        saver.get_tuple(config)
    with pytest.raises(BlockedTypeError):
        assert [one async for one in saver.alist(config)]

    warned = ContextEngineSaver(engine, on_blocked="warn")
    found = (await warned.aget_tuple(config)).checkpoint["channel_values"]["people"]
    assert found[0]["name"] == "ada"
    allowing = ContextEngineSaver(engine, allowed_types=[Person, Address, (here, "Colour")])
    found = (await allowing.aget_tuple(config)).checkpoint["channel_values"]["people"]
    assert found[1] == Person("ada", Address(street="s" * 200))


async def test_nothing_is_decoded_where_bytes_are_only_moved(saver, config):
    thread = config["configurable"]["thread_id"]
    run = Run(saver, config)
    for number in range(3):
        at = await run.step(person=Person(f"{number}", Address(street="s" * 200)))
        await saver.aput_writes(at, [("person", Person("w", Address(street="t" * 200)))], "task")

    await saver.acopy_thread(thread, "its copy")
    await saver.aprune(["its copy"], keep_last=1)
    await saver.adelete_for_runs(["none"])

    with pytest.raises(BlockedTypeError):
        await saver.aget_tuple({"configurable": {"thread_id": "its copy"}})


def crafted(module: str, name: str, argument: Any) -> bytes:
    inner = ormsgpack.packb((module, name, argument))
    return ormsgpack.packb(ormsgpack.Ext(0, inner))


async def test_bytes_that_somebody_planted_import_and_run_nothing(saver, engine, config):
    await Run(saver, config).step(value="v" * 200)
    place = thread_place(config["configurable"]["thread_id"])
    (stored,) = await engine._on.runtime.read(Batch(*place, (Get("e"),)))
    planted = {name: b"0" + crafted("antigravity", "fly", "now") for name in stored}
    await engine._on.runtime.apply(Batch(*place, (Put("e", planted),)))
    engine._on.records.caches.forget(config["configurable"]["thread_id"])
    imported: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and event == "import":
            imported.append(arguments[0])

    sys.addaudithook(hook)
    with pytest.raises(BlockedTypeError):
        await saver.aget_tuple(config)
    watching[0] = False
    assert "antigravity" not in imported
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("damage", [b"", b"9x", b"2\xff", b"0", b"0\xc1", b"&x\n"])
async def test_damaged_bytes_are_told(saver, engine, config, damage):
    await Run(saver, config).step(value="v" * 200, other=["o" * 100] * 3)
    place = thread_place(config["configurable"]["thread_id"])
    (stored,) = await engine._on.runtime.read(Batch(*place, (Get("e"),)))
    await engine._on.runtime.apply(Batch(*place, (Put("e", dict.fromkeys(stored, damage)),)))
    engine._on.records.caches.forget(config["configurable"]["thread_id"])

    with pytest.raises(CorruptRecordError):
        await saver.aget_tuple(config)


async def test_what_is_sealed_lies_nowhere_open(engine, config):
    serde = EncryptedSerializer.from_pycryptodome_aes(JsonPlusSerializer(), key=KEY)
    saver = ContextEngineSaver(engine, serde=serde)
    run = Run(saver, config)
    for number in range(20):
        songs = [f"{CANARY} {one} " + "x" * 100 for one in range(number + 1)]
        at = await run.step({"secret": CANARY}, songs=songs, short=CANARY, n=number)
        await saver.aput_writes(at, [("songs", [CANARY * 20]), ("short", CANARY)], f"{number}")

    place = thread_place(config["configurable"]["thread_id"])
    maps = await engine._on.runtime.read(
        Batch(*place, tuple(Get(key) for key in ("", "d", "w", "e")))
    )
    assert CANARY.encode() not in b"".join(
        name.encode() + value for found in maps for name, value in found.items()
    )
    assert len(maps[3]) < 20 + 20 + 15  # each song once, each write, some nodes
    engine._on.records.caches.forget(config["configurable"]["thread_id"])
    found = await saver.aget_tuple(config)
    assert found.checkpoint["channel_values"]["songs"] == songs
    assert found.metadata["secret"] == CANARY
    assert [write[2] for write in found.pending_writes] == [[CANARY * 20], CANARY]

    other = EncryptedSerializer.from_pycryptodome_aes(JsonPlusSerializer(), key=KEY[::-1])
    for stranger in (ContextEngineSaver(engine, serde=other), ContextEngineSaver(engine)):
        engine._on.records.caches.forget(config["configurable"]["thread_id"])
        with pytest.raises(CorruptRecordError):
            await stranger.aget_tuple(config)


async def test_nothing_is_pickled(engine, config):
    with pytest.raises(InvalidInputError, match="pickle"):
        ContextEngineSaver(engine, serde=JsonPlusSerializer(pickle_fallback=True))
    saver = ContextEngineSaver(engine)
    with pytest.raises(InvalidInputError, match="cannot be stored"):
        await Run(saver, config).step(value=lambda: 1)
    assert await saver.aget_tuple(config) is None


async def test_a_serializer_of_ones_own_is_taken_as_it_is(engine, config):
    class Words:
        def dumps(self, value: Any) -> bytes:
            return repr(value).encode()

        def loads(self, data: bytes) -> Any:
            import ast

            return ast.literal_eval(data.decode())

    saver = ContextEngineSaver(engine, serde=Words())
    await Run(saver, config).step(value={"a": [1, "x" * 300]}, n=1)

    found = await saver.aget_tuple(config)
    assert found.checkpoint["channel_values"] == {"value": {"a": [1, "x" * 300]}, "n": 1}


async def test_a_server_that_is_down_is_no_empty_thread(servers, config):
    server = servers.start("valkey")
    async with ContextEngine(store=server.url, operation_timeout=1) as engine:
        saver = ContextEngineSaver(engine)
        run = Run(saver, config)
        await run.step(a=1)
        server.kill()
        for call in (saver.aget_tuple(config), run.step(a=2), saver.adelete_thread("t")):
            with pytest.raises(StoreError):
                await call
        with pytest.raises(StoreError):
            saver.get_tuple(config)
        with pytest.raises(StoreError):
            assert [one async for one in saver.alist(config)] == []


def test_importing_it_makes_graphs_offer_their_types():
    script = (
        "import langgraph.graph, aiecs.integrations.langgraph\n"
        "from langgraph._internal import _serde\n"
        "print(_serde.STRICT_MSGPACK_ENABLED)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout == "True\n"
    assert importlib.import_module("langgraph._internal._serde").STRICT_MSGPACK_ENABLED
