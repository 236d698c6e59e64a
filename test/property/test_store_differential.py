"""Every store answers any sequence of batches as the memory store does: results, errors, state."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from contract.all_mutants import MUTANTS
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support import batches as make
from support.agreement import BUCKET, Agreement, removal

from aiecs.core.interface import store as port

EFFORT = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FIND_ONLY = settings(
    EFFORT, max_examples=300, database=None, phases=[Phase.generate], derandomize=True
)
_numbers = itertools.count()


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

    async def meet(self, found):
        if type(found) is list:
            self.clock.now = found[-1]
        else:
            (self.clock.now,) = await self.store.apply(port.Batch(0, "", (port.Clock(),)))

    def teardown(self):
        try:
            self.nothing_is_left()
        finally:
            super().teardown()

    def nothing_is_left(self):
        """What nobody can see any more is gone from the server too."""
        for group in make.GROUPS[:2]:
            self.send(port.Batch(BUCKET, group, tuple(removal(group)), raw=True))
        self.send(port.Batch(BUCKET, "", tuple(removal(""))))
        keys = self.server.command("KEYS", f"{self.own}*").split(b"\r\n")
        assert [key for key in keys[2::2] if not key.endswith(b"}")] == []


def test_sqlite_agrees_with_memory(tmp_path):
    machine = type("Sqlite", (SqliteAgreement,), {"directory": tmp_path})

    run_state_machine_as_test(machine, settings=EFFORT)


def test_redis_agrees_with_memory(server, prefix):
    machine = type("Redis", (RedisAgreement,), {"server": server, "prefix": prefix})

    run_state_machine_as_test(machine, settings=EFFORT)


@pytest.mark.parametrize(
    "mutant",
    ["GetSeesItsOwnBatch", "TrimRenumbers", "TruncateKeepsTheEpoch", "ForgetsToExpire"],
)
def test_the_machine_notices_a_store_that_differs(mutant):
    class BrokenAgreement(Agreement):
        movable = True

        async def open(self):
            return MUTANTS[mutant][0](clock=self.clock)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(BrokenAgreement, settings=FIND_ONLY)
