"""A state machine that sends the same batches to two stores and holds them together."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support import batches as make
from support.clocks import HandClock

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.memory import MemoryStore

BUCKET = 7


class Agreement(RuleBasedStateMachine):
    """Each batch goes to the store under test, then to a memory store at the same moment."""

    movable = False  # whether both stores look at a clock that is moved by hand

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = HandClock()
        self.model = MemoryStore(clock=self.clock)
        self.store = self.loop.run_until_complete(self.open())
        self.bases: dict[str, dict[str, int]] = {group: {} for group in make.GROUPS}
        self.alive = dict.fromkeys(make.GROUPS, False)
        self.remains = dict.fromkeys(make.GROUPS, False)
        self.last = {"v": 0, "w": 0}
        self.plans: dict[str, port.Plan] = {}

    async def open(self) -> Any:
        """The store under test, empty."""
        raise NotImplementedError

    async def meet(self, found: Any) -> None:
        """Bring the model to the moment at which the store did a batch."""

    def teardown(self) -> None:
        """Close the store."""
        self.loop.run_until_complete(self.store.close())
        self.loop.close()

    # --- rules ----------------------------------------------------------------------------------

    @rule(
        group=st.sampled_from(make.GROUPS),
        mood=st.sampled_from(make.MOODS),
        create=make.CREATE,
        ops=make.WRITING,
        data=st.data(),
    )
    def write(self, group, mood, create, ops, data):
        """Operations that write, in a group that exists or is created on the way."""
        if mood.guarded:
            ops = [*ops[::2], data.draw(make.GUARD), *ops[1::2]]
        if self.remains[group] and not self.alive[group] and not mood.untidy:
            self.send(self.batch(group, removal(group), raw=True))
            self.remains[group] = False
        if group and not self.alive[group]:
            if mood.bare:
                ops = [create, *ops]
            else:
                self.send(make.mended(self.batch(group, [create, *make.FURNITURE])))
                self.compare(group)
        receipt = self.receipt(mood)
        batch = make.mended(self.batch(group, ops, mood.raw, receipt))
        by_call = mood.by_call and not mood.raw and receipt is None
        if self.send(batch, by_call=by_call) is not InvalidInputError and receipt:
            self.last[receipt.writer] = max(self.last[receipt.writer], receipt.n)
        self.compare(group)

    @rule(group=st.sampled_from(make.GROUPS), ops=make.READING, raw=st.booleans(), data=st.data())
    def read(self, group, ops, raw, data):
        """Operations that only read, sometimes under a guard."""
        ops = [*ops, data.draw(make.GUARD)] if len(ops) % 3 == 0 else ops
        self.send(make.mended(self.batch(group, ops, raw)))

    @rule(group=st.sampled_from(make.GROUPS), ops=make.WILD)
    def try_anything(self, group, ops):
        """Batches that break the rules of the port as often as not."""
        self.send(self.batch(group, ops))
        self.compare(group)

    @precondition(lambda self: self.remains != self.alive)
    @rule(group=st.sampled_from(make.GROUPS[:2]), stamp=st.booleans())
    def sweep(self, group, stamp):
        """A group goes as it goes when it has expired, with an event in the same batch."""
        event = port.Append("_l", (b"removed",), (port.INCARNATION, port.NOW))
        self.send(self.batch(group, [*removal(group), *([event] * stamp)], raw=True))
        self.compare(group)

    @precondition(lambda self: self.movable)
    @rule(step=st.sampled_from([0, 1, 2, 5, 10**6, 10**12]))
    def pass_time(self, step):
        """Both stores grow older."""
        self.clock.advance(step)

    # --- both stores ----------------------------------------------------------------------------

    def receipt(self, mood: make.Mood) -> port.Receipt | None:
        """The next receipt of a writer, or one that was used before."""
        if mood.writer is None:
            return None
        return port.Receipt(mood.writer, max(0, self.last[mood.writer] + mood.step))

    def batch(
        self, group: str, ops: Any, raw: bool = False, receipt: port.Receipt | None = None
    ) -> port.Batch:
        """A batch whose small sequences are counted from the beginning of each log."""
        bases = {**self.bases[""], **self.bases[group]}
        moved = tuple(make.rebased(make.homed(op, group), bases) for op in ops)
        return port.Batch(BUCKET, group, moved, raw, receipt)

    def send(self, batch: port.Batch, *, by_call: bool = False) -> Any:
        """One batch to both stores; they must answer alike. What they answered."""
        found, expected = self.loop.run_until_complete(self.both(batch, by_call=by_call))
        assert found == expected, batch
        return found

    async def both(self, batch: port.Batch, *, by_call: bool) -> tuple[Any, Any]:
        """What the store answers, and the model."""
        found = await self.ask(self.store, batch, by_call=by_call)
        await self.meet(found)
        return found, await self.ask(self.model, await self.twin(batch, found))

    async def twin(self, batch: port.Batch, found: Any) -> port.Batch:
        """The batch for the model: with the store's incarnation in the place of a new one."""
        places = [
            number
            for number, op in enumerate(batch.ops)
            if type(op) is port.Put and "~i" in op.fields
        ]
        if not places:
            return batch
        incarnation = b"none"
        if type(found) is list:
            head = port.Batch(BUCKET, batch.group, (port.Get("", ("~i",)),), raw=True)
            (((incarnation),),) = await self.store.apply(head)
        ops: list[Any] = list(batch.ops)
        for number in places:
            fields = {**ops[number].fields, "~i": incarnation}
            ops[number] = ops[number]._replace(fields=fields)
        return batch._replace(ops=tuple(ops))

    async def ask(self, store: Any, batch: port.Batch, *, by_call: bool = False) -> Any:
        """Results, or what an error says."""
        whole: Any = batch
        if by_call:
            ops, args = make.opened(batch.ops)
            plan = self.plans.setdefault(repr(ops), port.Plan("random", *ops))
            whole = port.Call(plan, batch.bucket, batch.group, args)
        try:
            return await store.apply(whole)
        except port.GuardFailed as error:
            return type(error), error.operation, self.told(batch, error)
        except port.CorruptField as error:
            return type(error), error.operation
        except InvalidInputError as error:
            return type(error)

    def told(self, batch: port.Batch, error: port.GuardFailed) -> Any:
        """What the refusal found; a clock is compared only where it is moved by hand."""
        guard = batch.ops[error.operation] if error.operation >= 0 else None
        if type(guard) is port.RequireBefore and not self.movable:
            return type(error.found), error.found > guard.time
        return error.found

    def compare(self, group: str) -> None:
        """All that can be seen of a group and its bucket, as it is and as it reads."""
        found = self.look(group, raw=True)
        head = found[0] if group else {}
        self.remains[group] = self.alive[group] = bool(head)
        if "~x" in head:
            self.alive[group] = bool(self.look(group, raw=False)[0])

    def look(self, group: str, *, raw: bool) -> list[Any]:
        """Every key of a group and its bucket, the head first, then windows and pages."""
        bases = {**self.bases[""], **self.bases[group]}
        reads: list[Any] = [port.Get(key) for key in make.MAPS]
        for key in make.LOGS:
            base = bases.get(key, 0)
            reads += [
                port.Read(key),
                port.Read(key, limit=2, base=base),
                port.Read(key, start=base + 1, limit=1, newest=False, base=base),
                port.Read(key, stop=base + 3, limit=2),
            ]
        for key in make.INDEXES:
            reads += [
                port.IndexRange(key),
                port.IndexRange(key, low=0, limit=2, reverse=True),
                port.IndexRange(key, high=1, cursor=("a", 0)),
                port.IndexCount(key, 0, 2),
            ]
        reads += [
            port.IndexRange(make.NAMES, prefix="a"),
            port.Gather(make.NAMES, ("m",), links="m"),
            port.Gather(make.NAMES, ("m",), reverse=True, limit=1, links="m"),
        ]
        reads = [read for read in reads if group or read.key.startswith("_")]
        found = self.send(port.Batch(BUCKET, group, tuple(reads), raw))
        for read, result in zip(reads, found, strict=False):
            if type(read) is port.Read:
                self.bases["" if read.key.startswith("_") else group][read.key] = result.base
        return found


def removal(group: str) -> list[port.Op]:
    """Everything of a group, the head last; of the bucket itself for ""."""
    kinds: list[tuple[port.Kind, tuple[str, ...]]] = [
        ("index", (*make.INDEXES, make.NAMES)),
        ("log", make.LOGS),
        ("map", make.MAPS[::-1]),
    ]
    return [
        port.Delete(key, kind=kind)
        for kind, keys in kinds
        for key in keys
        if key.startswith("_") != bool(group)
    ]
