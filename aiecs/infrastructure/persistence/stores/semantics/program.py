"""The order in which a batch is worked off: what is looked at first, then what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs.core.interface import store as port
from aiecs.core.interface.batch_rules import creates_group, is_mutating
from aiecs.infrastructure.persistence.stores.semantics import gathering, logs, maps
from aiecs.infrastructure.persistence.stores.semantics.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiecs.infrastructure.persistence.stores.semantics.state import State


class Program:
    """What follows from the shape of a batch: which handlers run, in which order.

    `frees`: something is removed, so that a store without room lets it in.
    """

    __slots__ = ("creates", "frees", "mutating", "prepare", "write", "writes_group")

    def __init__(self, ops: tuple[port.Op, ...]) -> None:
        self.mutating = is_mutating(ops)
        self.frees = any(type(op) in _FREEING for op in ops)
        self.creates = creates_group(ops)
        self.writes_group = any(map(_writes_group, ops))
        self.prepare = _steps(ops, _PREPARERS)
        self.write = _steps(ops, _WRITERS)


def program_of(plan: port.Plan) -> Program:
    """The program of every batch that is made from the plan."""
    program: Program | None = plan.notes.get(Program)
    if program is None:
        program = plan.notes[Program] = Program(plan.ops)
    return program


def execute(state: State, batch: port.Batch, program: Program | None = None) -> list[Any] | None:
    """Apply a checked batch; None when its receipt had been seen before."""
    program = program or Program(batch.ops)
    frame = Frame(state, batch)
    receipt = program.mutating and batch.receipt is not None
    if receipt and frame.seen_receipt():
        return None
    if batch.group:
        frame.load_head()
    ops, results = batch.ops, frame.results
    try:
        if program.writes_group and not frame.alive:
            _may_create(frame, program)
        for number, step in program.prepare:
            results[number] = step(frame, ops[number], number)
    except (port.GuardFailed, port.CorruptField):
        if receipt:
            frame.remember_receipt(failed=True)
        raise
    for number, step in program.write:
        results[number] = step(frame, ops[number], number)
    if receipt:
        frame.remember_receipt(failed=False)
    return results


def _may_create(frame: Frame, program: Program) -> None:
    if not frame.batch.group:
        return
    if not program.creates:
        raise port.GroupMissing
    if frame.expired:
        raise port.GroupExpired


def _writes_group(op: port.Op) -> bool:
    if type(op) is port.Expire:
        return True
    return type(op) in _WRITERS and not getattr(op, "key", "_").startswith("_")


def _steps(
    ops: tuple[port.Op, ...], handlers: dict[type, Callable[..., Any]]
) -> tuple[tuple[int, Callable[..., Any]], ...]:
    return tuple(
        (number, handlers[type(op)])
        for number, op in enumerate(ops)
        if type(op) in handlers and not (handlers is _PREPARERS and _unconditional(op))
    )


def _unconditional(op: port.Op) -> bool:
    return type(op) is port.Put and not op.if_absent


_FREEING = frozenset((port.Delete, port.IndexDelete, port.Trim, port.Truncate, port.Redact))
_PREPARERS: dict[type, Callable[..., Any]] = {
    port.Get: maps.get,
    port.Clock: maps.clock,
    port.Read: logs.read,
    port.IndexRange: maps.index_range,
    port.IndexCount: maps.index_count,
    port.RequireExists: maps.require_exists,
    port.RequireEquals: maps.require_equals,
    port.RequireAtMost: maps.require_at_most,
    port.RequireFields: maps.require_fields,
    port.RequireBefore: maps.require_before,
    port.Gather: gathering.gather,
    port.Put: maps.prepare_put,
    port.Extend: maps.prepare_extend,
    port.Incr: maps.prepare_incr,
    port.Append: logs.prepare,
    port.Trim: logs.prepare,
    port.Truncate: logs.prepare,
    port.Redact: logs.prepare,
}
_WRITERS: dict[type, Callable[..., Any]] = {
    port.Put: maps.put,
    port.Extend: maps.extend,
    port.Incr: maps.incr,
    port.Delete: maps.delete,
    port.Append: logs.append,
    port.Trim: logs.trim,
    port.Truncate: logs.truncate,
    port.Redact: logs.redact,
    port.IndexPut: maps.index_put,
    port.IndexDelete: maps.index_delete,
    port.Expire: maps.expire,
}
