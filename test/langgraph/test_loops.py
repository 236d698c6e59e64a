"""Savers by themselves, in threads, from several loops, and after the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import servers as real
from support.checkpoints import Run, checkpoint

from aiecs import ContextEngine
from aiecs.core.errors import InvalidInputError, LifecycleError, StoreError
from aiecs.integrations.langgraph import ContextEngineSaver, ContextEngineStore

CONFIG = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


@pytest.fixture(params=["sqlite", *real.names()])
def url(request, servers, prefix, tmp_path, monkeypatch):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/own.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


def test_a_program_without_a_loop(url):
    made = checkpoint({"a": "x" * 300}, {"a": 1})
    with ContextEngineSaver.from_url(url) as saver:
        at = saver.put(CONFIG, made, {"source": "input", "step": -1}, {"a": 1})
        saver.put_writes(at, [("a", 2)], "task")
    with ContextEngineSaver.from_url(url) as saver:
        assert saver.get_tuple(CONFIG).checkpoint == made
        assert [len(one.pending_writes) for one in saver.list(CONFIG)] == [1]
        listing = saver.list(CONFIG)
        assert next(listing).checkpoint["id"] == made["id"]
        listing.close()
        saver.delete_thread("t")
        assert saver.get_tuple(CONFIG) is None
    with pytest.raises(LifecycleError):
        saver.get_tuple(CONFIG)


def test_a_store_that_cannot_be_opened_leaves_no_thread_behind():
    with (
        pytest.raises(StoreError),
        ContextEngineSaver.from_url("redis://127.0.0.1:1/0"),
    ):
        raise AssertionError
    assert "aiecs-langgraph" not in [thread.name for thread in threading.enumerate()]


async def test_with_and_async_with_give_savers_that_do_both(url):
    async with ContextEngineSaver.from_url(url) as saver:
        made = checkpoint({"a": 1}, {"a": 1})
        await saver.aput(CONFIG, made, {}, {"a": 1})
        assert saver.get_tuple(CONFIG).checkpoint == made
        assert (await saver.aget_tuple(CONFIG)).checkpoint == made


async def test_many_threads_and_a_loop_at_once(url):
    async with ContextEngine(store=url, operation_timeout=10) as engine:
        saver = ContextEngineSaver(engine)

        def blocking(number):
            config = {"configurable": {"thread_id": f"t{number}", "checkpoint_ns": ""}}
            for step in range(5):
                made = checkpoint({"a": f"{number} {step} " + "x" * 200}, {"a": step + 1}, step)
                config = saver.put(config, made, {}, {"a": step + 1})
            return saver.get_tuple(config).checkpoint == made

        async def awaiting(number):
            return await asyncio.to_thread(blocking, number)

        with ThreadPoolExecutor(8) as pool:
            loop = asyncio.get_running_loop()
            threads = [loop.run_in_executor(pool, blocking, number) for number in range(8)]
            others = [awaiting(number + 8) for number in range(4)]
            assert all(await asyncio.gather(*threads, *others))
        found = [
            await saver.aget_tuple({"configurable": {"thread_id": f"t{n}"}}) for n in range(12)
        ]
        assert [one.checkpoint["channel_values"]["a"][:4].strip() for one in found] == [
            f"{n} 4" for n in range(12)
        ]


async def test_a_closed_engine_is_told(url):
    engine = ContextEngine(store=url)
    saver = ContextEngineSaver(engine)
    with pytest.raises(LifecycleError):
        await saver.aget_tuple(CONFIG)
    async with engine:
        assert saver.get_tuple(CONFIG) is None
    with pytest.raises(LifecycleError):
        await saver.aget_tuple(CONFIG)
    async with engine:
        assert saver.get_tuple(CONFIG) is None


class Heard:
    def __init__(self):
        self.calls = []

    def operation(self, name, seconds, outcome):
        self.calls.append((name, outcome))


async def test_calls_are_measured_and_observed(store, config):
    heard = Heard()
    async with ContextEngine(store=store, operation_timeout=10, observers=[heard]) as engine:
        saver = ContextEngineSaver(engine)
        at = await Run(saver, config).step(a=1)
        await saver.aput_writes(at, [("a", 2)], "task")
        await saver.aget_tuple(config)
        with pytest.raises(InvalidInputError):
            await saver.aget_tuple({})
        await ContextEngineStore(engine).aput(("a",), "k", {"n": 1})
        measured = (await engine.get_metrics())["operations"]

    names = ["aput", "aput_writes", "aget_tuple", "aget_tuple", "abatch"]
    assert [name for name, _ in heard.calls if name in names] == names
    assert ("aget_tuple", "InvalidInputError") in heard.calls
    assert measured["aget_tuple"]["calls"] == 2


@pytest.mark.parametrize("round_", range(8))
def test_calls_that_meet_the_close_end(round_, url):
    """In a sound state or with the error of a closed engine: none hangs, none leaves a thread."""
    made = checkpoint({"a": "x" * 300}, {"a": 1})
    wrong: list[BaseException] = []

    def call(saver, ready):
        try:
            while True:
                saver.put(CONFIG, made, {}, {"a": 1})
                ready.set()
                list(saver.list(CONFIG, limit=1))
        except (LifecycleError, StoreError):
            pass
        except BaseException as error:  # noqa: BLE001 - told by the test
            wrong.append(error)

    with ContextEngineSaver.from_url(url) as saver:
        readies = [threading.Event() for _ in range(4)]
        threads = [threading.Thread(target=call, args=(saver, ready)) for ready in readies]
        for thread in threads:
            thread.start()
        assert all(ready.wait(20) for ready in readies)
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert "aiecs-langgraph" not in [thread.name for thread in threading.enumerate()]


def test_a_forked_child_does_not_wait_for_the_parents_thread(tmp_path):
    script = f"""
import os, sys
from aiecs.core.errors import ContextEngineError
from aiecs.integrations.langgraph import ContextEngineSaver
with ContextEngineSaver.from_url("sqlite:///{tmp_path}/fork.db") as saver:
    at = {{"configurable": {{"thread_id": "t"}}}}
    assert saver.get_tuple(at) is None
    child = os.fork()
    if child == 0:
        try:
            saver.get_tuple(at)
        except ContextEngineError as error:
            os._exit(7)
        os._exit(8)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "7\n", done.stderr
