"""LangGraph's own suite for savers: all of its tests, on every store."""

from __future__ import annotations

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

from aiecs.integrations.langgraph import ContextEngineSaver

COUNTS = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}


async def counts_of(make):
    report = await validate(checkpointer_test(name="ContextEngineSaver")(make))
    failures = [failure for result in report.results.values() for failure in result.failures or ()]
    assert failures == []
    return {name: result.tests_passed for name, result in report.results.items()}


async def test_all_81_of_81(engine):
    async def make():
        yield ContextEngineSaver(engine)

    assert await counts_of(make) == COUNTS
    assert sum(COUNTS.values()) == 81


class Blocking(BaseCheckpointSaver):
    """Awaits nothing: every call is the one that blocks, from within the running loop."""

    def __init__(self, inner):
        super().__init__(serde=inner.serde)
        self.inner = inner

    async def aput(self, *args):
        return self.inner.put(*args)

    async def aput_writes(self, *args, **more):
        self.inner.put_writes(*args, **more)

    async def aget_tuple(self, config):
        return self.inner.get_tuple(config)

    async def alist(self, config, **more):
        for found in self.inner.list(config, **more):
            yield found

    async def adelete_thread(self, thread_id):
        self.inner.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids):
        self.inner.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id, target_thread_id):
        self.inner.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids, *, strategy="keep_latest"):
        self.inner.prune(thread_ids, strategy=strategy)


async def test_all_of_them_by_the_methods_that_block(engine):
    async def make():
        yield Blocking(ContextEngineSaver(engine))

    assert await counts_of(make) == COUNTS
