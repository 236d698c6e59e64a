"""Every store answers any sequence of batches as the memory store does: results, errors, state."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from support import batches as make
from support.clocks import HandClock

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

BUCKET = 7
EFFORT = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FIND_ONLY = settings(EFFORT, database=None, phases=[Phase.generate], derandomize=True)
_numbers = itertools.count()


class Agreement(RuleBasedStateMachine):
    """Sends each batch to the store under test, then to a memory store at the same moment."""

    movable = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = HandClock()
        self.model = MemoryStore(clock=self.clock)
        self.store = self.runner.run(self.open())
        self.bases: dict[str, dict[str, int]] = {group: {} for group in make.GROUPS}
        self.alive = dict.fromkeys(make.GROUPS, False)

    async def open(self) -> port.Store:
        """The store under test, empty."""
        raise NotImplementedError

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    # --- rules ----------------------------------------------------------------------------------

    @rule(
        group=st.sampled_from(make.GROUPS),
        create=make.CREATE,
        ops=make.WRITING,
        raw=st.sampled_from([False, False, False, True]),
        receipt=make.RECEIPTS,
        by_call=st.booleans(),
    )
    def write(self, *, group, create, ops, raw, receipt, by_call):
        if group and not self.alive[group]:
            ops = [create, *ops]
        by_call = by_call and not raw and receipt is None
        self.send(make.mended(self.batch(group, ops, raw, receipt)), by_call=by_call)
        self.compare(group)

    @rule(group=st.sampled_from(make.GROUPS), ops=make.READING, raw=st.booleans())
    def read(self, group, ops, raw):
        self.send(make.mended(self.batch(group, ops, raw)))

    @rule(group=st.sampled_from(make.GROUPS), ops=make.WILD, raw=st.booleans())
    def try_anything(self, group, ops, raw):
        self.send(self.batch(group, ops, raw))
        self.compare(group)

    @rule(group=st.sampled_from(make.GROUPS[:2]), stamp=st.booleans())
    def remove_group(self, group, stamp):
        event = port.Append("_l", (b"removed",), (port.INCARNATION, port.NOW))
        self.send(self.batch(group, [*_removal(make.GROUPS[0]), *([event] * stamp)], raw=True))
        self.compare(group)

    @precondition(lambda self: self.movable)
    @rule(step=st.sampled_from([0, 1, 2, 5, 10**6, 10**12]))
    def pass_time(self, step):
        self.clock.advance(step)

    # --- both stores ----------------------------------------------------------------------------

    def batch(self, group, ops, raw=False, receipt=None) -> port.Batch:
        bases = {**self.bases[""], **self.bases[group]}
        moved = tuple(make.rebased(op, bases) for op in ops)
        return port.Batch(BUCKET, group, moved, raw, receipt)

    def send(self, batch: port.Batch, *, by_call: bool = False) -> Any:
        """One batch to both; they must answer alike. What they answered."""
        found = self.runner.run(self.ask(self.store, batch, by_call=by_call))
        self.runner.run(self.meet(batch, found))
        expected = self.runner.run(self.ask(self.model, self.twin(batch)))
        assert found == expected, batch
        return found

    async def meet(self, batch: port.Batch, found: Any) -> None:
        """Bring the model to the moment at which the store did it, and to its incarnation."""
        self.incarnation = b"none"
        if type(found) is list and any(
            type(op) is port.Put and "~i" in op.fields for op in batch.ops
        ):
            head = port.Batch(BUCKET, batch.group, (port.Get("", ("~i",)),), raw=True)
            ((self.incarnation,),) = await self.store.apply(head)

    def twin(self, batch: port.Batch) -> port.Batch:
        """The batch with the store's incarnation in the place of a new one."""

        def name(op: Any) -> Any:
            if type(op) is port.Put and "~i" in op.fields:
                return op._replace(fields={**op.fields, "~i": self.incarnation})
            return op

        return batch._replace(ops=tuple(map(name, batch.ops)))

    async def ask(self, store: Any, batch: port.Batch, *, by_call: bool = False) -> Any:
        """Results, or what an error says."""
        whole: Any = batch
        if by_call:
            ops, args = make.opened(batch.ops)
            whole = port.Call(port.Plan("random", *ops), batch.bucket, batch.group, args)
        try:
            return await store.apply(whole)
        except port.GuardFailed as error:
            return type(error), error.operation, self.told(batch, error)
        except port.CorruptField as error:
            return type(error), error.operation
        except InvalidInputError as error:
            return type(error)

    def told(self, batch: port.Batch, error: port.GuardFailed) -> Any:
        """What the refusal found; a clock is compared only where it can be moved."""
        guard = batch.ops[error.operation] if error.operation >= 0 else None
        if type(guard) is port.RequireBefore and not self.movable:
            return type(error.found), error.found > guard.time
        return error.found

    def compare(self, group: str) -> None:
        """All that can be seen of a group and its bucket, as it is and as it reads."""
        for raw in (True, False):
            keys = [key for key in (*make.MAPS, *make.LOGS) if group or key.startswith("_")]
            reads = [
                *(port.Get(key) for key in make.MAPS if key in keys),
                *(port.Read(key) for key in make.LOGS if key in keys),
                *(port.IndexRange(key) for key in make.INDEXES if group or key[0] == "_"),
                port.RequireBefore(port.MAX_INTEGER),
            ]
            found = self.send(port.Batch(BUCKET, group, tuple(reads), raw))
            for read, result in zip(reads, found, strict=False):
                if type(read) is port.Read:
                    owner = "" if read.key.startswith("_") else group
                    self.bases[owner][read.key] = result.base
        self.alive[group] = bool(group) and bool(found[0])


def _removal(group: str) -> list[port.Op]:
    keys = [
        *(port.Delete(key) for key in make.MAPS if not key.startswith("_")),
        *(port.Delete(key, kind="log") for key in make.LOGS if not key.startswith("_")),
        *(port.Delete(key, kind="index") for key in make.INDEXES if not key.startswith("_")),
    ]
    return list(reversed(keys)) if group else keys


class SqliteAgreement(Agreement):
    """Both stores look at one clock that is moved by hand."""

    movable = True
    directory: Any

    async def open(self):
        from aiecs.infrastructure.persistence.stores.sqlite import SqliteStore

        path = self.directory / f"{next(_numbers)}.db"
        return SqliteStore(path, timeout=30.0, clock=self.clock)


class RedisAgreement(Agreement):
    """Every batch asks the server for its clock; the memory store then lives at that moment."""

    server: Any
    prefix: str

    async def open(self):
        from aiecs.infrastructure.persistence.stores.redis import RedisStore

        self.own = f"{self.prefix}{next(_numbers)}:"
        return RedisStore.from_url(self.server.url, prefix=self.own, timeout=30.0)

    def send(self, batch, *, by_call=False):
        return super().send(batch._replace(ops=(*batch.ops, port.Clock())), by_call=by_call)

    async def meet(self, batch, found):
        if type(found) is list:
            self.clock.now = found[-1]
        else:
            (self.clock.now,) = await self.store.apply(port.Batch(0, "", (port.Clock(),)))
        await super().meet(batch, found)

    def teardown(self):
        try:
            self.nothing_is_left()
        finally:
            super().teardown()

    def nothing_is_left(self):
        """What nobody can see any more is gone from the server too."""
        for group in make.GROUPS[:2]:
            self.send(port.Batch(BUCKET, group, tuple(_removal(group)), raw=True))
        bucket = [
            *(port.Delete(key) for key in make.MAPS if key.startswith("_")),
            *(port.Delete(key, kind="log") for key in make.LOGS if key.startswith("_")),
            *(port.Delete(key, kind="index") for key in make.INDEXES if key.startswith("_")),
        ]
        self.send(port.Batch(BUCKET, "", tuple(bucket)))
        keys = self.server.command("KEYS", f"{self.own}*").split(b"\r\n")
        assert [key for key in keys[2::2] if not key.endswith(b"}")] == []


def test_sqlite_agrees_with_memory(tmp_path):
    machine = type("Sqlite", (SqliteAgreement,), {"directory": tmp_path})

    run_state_machine_as_test(machine, settings=EFFORT)


def test_redis_agrees_with_memory(server, prefix):
    machine = type("Redis", (RedisAgreement,), {"server": server, "prefix": prefix})

    run_state_machine_as_test(machine, settings=EFFORT)


@pytest.mark.parametrize("broken", ["Trim", "Expire", "IndexDelete"])
def test_the_machine_notices_a_store_that_differs(broken):
    class Broken(MemoryStore):
        async def apply(self, batch, *, timeout=None):
            if isinstance(batch, port.Call):
                batch = port.Batch(batch.bucket, batch.group, batch.plan.bind(batch.args))
            ops = [port.Clock() if type(op).__name__ == broken else op for op in batch.ops]
            return await super().apply(batch._replace(ops=tuple(ops)))

    class BrokenAgreement(Agreement):
        movable = True

        async def open(self):
            return Broken(clock=self.clock)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(BrokenAgreement, settings=FIND_ONLY)
