"""Stores that are broken on purpose, each in one way, with the tests that have to notice.

All of them change what a healthy memory store is asked or what it answers, so they stay true
when its insides are rewritten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

MUTANTS: dict[str, tuple[type[Mutant], tuple[str, ...]]] = {}


class Mutant(MemoryStore):
    """A memory store behind a twist."""

    def ask(self, batch: port.Batch) -> port.Batch:
        """What the healthy store is asked instead."""
        return batch._replace(ops=tuple(map(self.op, batch.ops)))

    def op(self, op: port.Op) -> port.Op:
        """What one operation becomes."""
        return op

    def answer(self, op: port.Op, result: Any) -> Any:
        """What the caller is told instead of a result."""
        return result

    async def apply(self, batch: Any, *, timeout: float | None = None) -> list[Any] | None:
        whole = self.whole(batch)
        results = await super().apply(self.ask(whole), timeout=timeout)
        return results and list(map(self.answer, whole.ops, results))

    def whole(self, batch: Any) -> port.Batch:
        """The batch that a call stands for."""
        if isinstance(batch, port.Call):
            return port.Batch(batch.bucket, batch.group, batch.plan.bind(batch.args))
        return batch


def bitten_by(*tests: str) -> Callable[[type[Mutant]], type[Mutant]]:
    """Register a mutant with the tests that have to fail on it."""

    def register(kind: type[Mutant]) -> type[Mutant]:
        MUTANTS[kind.__name__] = (kind, tests)
        return kind

    return register


def rewrite(name: str, kind: type, change: Callable[[Any], Any], *tests: str) -> None:
    """Register a mutant that mistakes operations of one kind for others."""

    def op(_: Mutant, op: Any) -> Any:
        return change(op) if type(op) is kind else op

    bitten_by(*tests)(type(name, (Mutant,), {"op": op}))


def retell(name: str, kind: type, change: Callable[[Any, Any], Any], *tests: str) -> None:
    """Register a mutant that answers operations of one kind wrongly."""

    def answer(_: Mutant, op: Any, result: Any) -> Any:
        return change(op, result) if type(op) is kind else result

    bitten_by(*tests)(type(name, (Mutant,), {"answer": answer}))


def _writes(op: port.Op) -> bool:
    return type(op) in port.WRITES


# --- one batch is not one ------------------------------------------------------------------------


@bitten_by("test_readers_never_see_half_a_batch")
class AwaitsBetweenWrites(Mutant):
    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        middle = len(batch.ops) // 2
        if not all(map(_writes, batch.ops)) or middle == 0:
            return await super().apply(batch)
        first = await super().apply(batch._replace(ops=batch.ops[:middle]))
        await asyncio.sleep(0)
        return first + await super().apply(batch._replace(ops=batch.ops[middle:]))


@bitten_by("test_readers_never_see_half_a_batch")
class AwaitsBetweenReads(Mutant):
    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        if any(map(_writes, batch.ops)):
            return await super().apply(batch)
        results = []
        for op in batch.ops:
            results += await super().apply(batch._replace(ops=(op,)))
            await asyncio.sleep(0)
        return results


@bitten_by(
    "test_guards_see_the_state_before_the_batch",
    "test_a_guard_behind_the_writes_refuses_all_of_them",
    "test_a_refusal_at_any_position_leaves_nothing_behind",
)
class GuardsAfterWrites(Mutant):
    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        clock = port.Clock()
        unguarded = [clock if type(op) in port.GUARDS else op for op in batch.ops]
        results = await super().apply(batch._replace(ops=tuple(unguarded)))
        guards = [op if type(op) in port.GUARDS else clock for op in batch.ops]
        await super().apply(batch._replace(ops=tuple(guards)))
        return results


@bitten_by("test_guards_and_writes_are_one", "test_one_of_many_creates_the_group")
class ChecksThenWrites(Mutant):
    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        if not all(_writes(op) or type(op) in port.GUARDS for op in batch.ops):
            return await super().apply(batch)
        guards = tuple(op for op in batch.ops if type(op) in port.GUARDS)
        there = await super().apply(batch._replace(ops=(port.Get(""), *guards)))
        await asyncio.sleep(0)
        if not there[0] and type(batch.ops[0]) is port.Put and "~i" in batch.ops[0].fields:
            forced = batch.ops[0]._replace(fields={"again": b""}, if_absent="")
            self._state.map_put(f"{batch.bucket}/{batch.group}", {"~i": b"1"})
            batch = batch._replace(ops=(forced, *batch.ops[1:]))
        free = [port.Clock() if type(op) in port.GUARDS else op for op in batch.ops]
        return await super().apply(batch._replace(ops=tuple(free)))


@bitten_by("test_no_increment_is_lost")
class ReadsThenWritesCounters(Mutant):
    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        values = []
        for op in batch.ops:
            if type(op) is port.Incr:
                (old,) = await super().apply(batch._replace(ops=(port.Get(op.key),)))
                values.append([int(old.get(f, 0)) + d for f, d in op.deltas.items()])
        await asyncio.sleep(0)
        told = iter(values)
        results = await super().apply(batch._replace(ops=tuple(self._puts(batch.ops, values))))
        return [
            next(told) if type(op) is port.Incr else r
            for op, r in zip(batch.ops, results, strict=True)
        ]

    def _puts(self, ops, values):
        counts = iter(values)
        for op in ops:
            if type(op) is port.Incr:
                fields = dict(zip(op.deltas, next(counts), strict=True))
                yield port.Put(op.key, {name: b"%d" % value for name, value in fields.items()})
            else:
                yield op


@bitten_by("test_get_sees_the_state_before_its_batch")
class GetSeesItsOwnBatch(Mutant):
    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        results = await super().apply(batch)
        reads = [op if type(op) is port.Get else port.Clock() for op in batch.ops]
        again = await super().apply(batch._replace(ops=tuple(reads), receipt=None))
        return results and [
            b if type(op) is port.Get else a
            for op, a, b in zip(batch.ops, results, again, strict=True)
        ]


@bitten_by(
    "test_a_value_that_is_no_integer_is_left_alone",
    "test_a_corrupt_field_at_any_position_leaves_nothing_behind",
)
class StartsSpoiltCountersAnew(Mutant):
    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        try:
            return await super().apply(batch)
        except port.CorruptField as error:
            op = batch.ops[error.operation]
            names = tuple(op.deltas) if type(op) is port.Incr else (op.field,)
            await super().apply(batch._replace(ops=(port.Delete(op.key, names),)))
            return await super().apply(batch)


# --- groups ---------------------------------------------------------------------------------------


@bitten_by(
    "test_an_expired_group_reads_as_absent",
    "test_writing_to_an_expired_group_is_refused",
    "test_groups_expire_for_themselves",
)
class ForgetsToExpire(Mutant):
    def ask(self, batch):
        return batch._replace(raw=True)


@bitten_by("test_raw_sees_an_expired_group_as_it_is", "test_raw_may_bring_an_expired_group_back")
class IgnoresRaw(Mutant):
    def ask(self, batch):
        return batch._replace(raw=False)


@bitten_by("test_creating_over_an_expired_group_is_refused")
class CreatesOverRemains(Mutant):
    async def apply(self, batch, *, timeout=None):
        try:
            return await super().apply(batch)
        except port.GroupExpired:
            whole = self.whole(batch)
            await super().apply(whole._replace(ops=(port.Delete(""),), raw=True))
            return await super().apply(batch)


@bitten_by("test_writing_to_an_absent_group_is_refused")
class CreatesWhatIsMissing(Mutant):
    async def apply(self, batch, *, timeout=None):
        try:
            return await super().apply(batch)
        except port.GroupMissing:
            create = port.Put("", {"~i": port.NEW_INCARNATION}, "abort")
            await super().apply(self.whole(batch)._replace(ops=(create,)))
            return await super().apply(batch)


# --- receipts -------------------------------------------------------------------------------------


@bitten_by(
    "test_the_same_receipt_applies_once", "test_a_batch_resent_many_times_at_once_is_applied_once"
)
class IgnoresReceipts(Mutant):
    def ask(self, batch):
        return batch._replace(receipt=None)


class _OwnLedger(Mutant):
    """Keeps the last number of each writer itself, once a batch has been applied."""

    def __init__(self):
        super().__init__()
        self.last = {}

    def writer(self, batch):
        return batch.bucket, batch.receipt.writer

    def seen(self, n, last):
        return n <= last

    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        if batch.receipt is None or not any(map(_writes, batch.ops)):
            return await super().apply(batch)
        writer, n = self.writer(batch), batch.receipt.n
        if writer in self.last and self.seen(n, self.last[writer]):
            return None
        results = await super().apply(batch._replace(receipt=None))
        self.last[writer] = n
        return results


@bitten_by(
    "test_a_refused_batch_stays_refused_under_its_receipt",
    "test_a_refused_batch_spends_the_earlier_numbers_too",
    "test_a_batch_to_a_missing_group_stays_refused",
)
class ForgetsRefusals(_OwnLedger):
    pass


@bitten_by("test_numbers_are_compared_as_numbers")
class ComparesReceiptsAsText(_OwnLedger):
    def seen(self, n, last):
        return str(n) <= str(last)


@bitten_by("test_an_earlier_number_counts_as_applied")
class KnowsOnlyTheLastReceipt(_OwnLedger):
    def seen(self, n, last):
        return n == last


@bitten_by("test_buckets_count_for_themselves_and_groups_do_not")
class KeepsReceiptsPerGroup(_OwnLedger):
    def writer(self, batch):
        return batch.bucket, batch.group, batch.receipt.writer


@bitten_by("test_buckets_count_for_themselves_and_groups_do_not")
class SharesReceiptsBetweenBuckets(_OwnLedger):
    def writer(self, batch):
        return batch.receipt.writer


@bitten_by("test_writers_count_for_themselves")
class SharesReceiptsBetweenWriters(_OwnLedger):
    def writer(self, batch):
        return batch.bucket
