"""Sessions: created, found, counted, ended; and the way by which everything else writes to one."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any

from aiecs.core.errors import (
    ConflictError,
    InvalidInputError,
    SessionEndedError,
    SessionExistsError,
    SessionNotFoundError,
)
from aiecs.core.ids import check_id, new_session_id
from aiecs.core.interface.store import (
    NEW_INCARNATION,
    NOW,
    Arg,
    Batch,
    Call,
    Clock,
    Delete,
    Expire,
    Get,
    GroupExpired,
    GroupMissing,
    GuardFailed,
    Incr,
    Op,
    Plan,
    Put,
    RequireBefore,
    RequireEquals,
)
from aiecs.core.keys import Place, session_place
from aiecs.domain.context.activity import Activity
from aiecs.domain.context.erasures import not_erased
from aiecs.domain.context.groups import make_room, session_keys
from aiecs.domain.context.indexes import announce_session
from aiecs.domain.context.models import SessionMetrics
from aiecs.domain.context.runtime import REFUSED_BEFORE, Runtime
from aiecs.domain.context.session_record import (
    ARCHIVED,
    NOTHING_ARCHIVED,
    TRIMMED_ARCHIVED,
    check_status,
    metadata_fields,
    read_session,
    told_metadata,
)

_ATTEMPTS = 8
_RENEWED_AT_ONCE = 500
_MAX_SECONDS = 10**9
_HEAD = Plan("session", Get(""))

# A NamedTuple without its constructor, which takes the fields one by one and is twice as slow.
_new = tuple.__new__


@lru_cache(maxsize=16_384)
def _place(session_id: str) -> Place:
    return session_place(check_id(session_id, "session_id"))


def place_of(session_id: str) -> Place:
    """Where a session lives; `InvalidInputError` for what cannot be an id."""
    try:
        return _place(session_id)
    except TypeError:  # not hashable, hence no str
        return session_place(check_id(session_id, "session_id"))


class Sessions:
    """The sessions of one store, under one engine's settings."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._events = runtime.events
        self._activity = Activity(runtime.tasks, self._refresh)
        self._plans: dict[str, Plan] = {}
        closing: list[Op] = [Put("", {"l": NOW})]
        if runtime.session_ttl is not None:
            closing.append(Expire(runtime.session_ttl))
        self._update = tuple(closing)
        if runtime.strict_sessions:
            closing.append(RequireEquals("", "st", None))
        self._closing = tuple(closing)

    # --- writing to a session: for every service ------------------------------------------------

    def prepare(self, name: str, *ops: Op) -> Plan:
        """A plan for `run`: `ops`, then activity and sliding expiry as this engine wants them.

        `Arg(n)` stands for position n of `run`'s `args`; a name stands for one shape only.
        """
        plan = self._plans.get(name)
        if plan is None:
            plan = self._plans.setdefault(name, Plan(name, *ops, *self._closing))
        return plan

    async def run(self, session_id: str, plan: Plan, args: tuple[Any, ...]) -> list[Any] | None:
        """As `apply`, with a plan from `prepare`: the fast way."""
        bucket, group = place_of(session_id)
        call = _new(Call, (plan, bucket, group, args))
        runtime = self._runtime
        try:
            # Not by way of the runtime: a coroutine less, on the path of every message.
            results = await runtime.store.apply(call, timeout=runtime.timeout)
        except GuardFailed as refusal:
            results = await self._settle(refusal, session_id, call, len(plan.ops) - 1)
        self._activity.seen(session_id)
        return results

    async def apply(self, session_id: str, ops: tuple[Op, ...]) -> list[Any] | None:
        """Write to a session in one batch: `ops`, and its activity and sliding expiry.

        Creates an unknown session, unowned. Under `strict_sessions` raises `SessionNotFoundError`
        instead, and `SessionEndedError` for one that has ended. A guard among `ops` that refuses
        raises `GuardFailed`; then nothing is written. The results begin with those of `ops`;
        None when the store had applied the batch before and does not know them any more.
        """
        bucket, group = place_of(session_id)
        batch = Batch(bucket, group, ops + self._closing)
        try:
            results = await self._runtime.apply(batch)
        except GuardFailed as refusal:
            results = await self._settle(refusal, session_id, batch, len(batch.ops) - 1)
        self._activity.seen(session_id)
        return results

    async def read(self, session_id: str, *ops: Op) -> list[Any]:
        """The results of operations that only read; an unknown session reads as empty."""
        return await self._runtime.read(Batch(*place_of(session_id), ops))

    async def _settle(
        self, refusal: GuardFailed, session_id: str, batch: Batch | Call, last: int
    ) -> list[Any] | None:
        """Create the session that a write found missing and write again."""
        strict = self._runtime.strict_sessions
        for _ in range(_ATTEMPTS):
            if refusal.operation == REFUSED_BEFORE:
                pass  # why, the next attempt tells
            elif not isinstance(refusal, GroupMissing):
                if strict and refusal.operation == last:
                    raise SessionEndedError(f"session {session_id!r} has ended") from None
                raise refusal
            elif strict:
                raise SessionNotFoundError(f"session {session_id!r} does not exist") from None
            else:
                await self._create(session_id, "", {}, implicit=True)
            try:
                return await self._runtime.apply(batch)
            except GuardFailed as again:
                refusal = again
        raise _unsettled(session_id)

    # --- creating -------------------------------------------------------------------------------

    async def create(
        self,
        session_id: str | None = None,
        user_id: str = "",
        metadata: dict[str, Any] | None = None,
    ) -> SessionMetrics:
        """Create a session, adopt an unowned one, or return the user's own untouched.

        Without an id it gets a UUIDv7. `SessionExistsError` if the id belongs to another user.
        """
        minted = session_id is None
        session_id = new_session_id() if session_id is None else check_id(session_id, "session_id")
        if user_id != "":
            check_id(user_id, "user_id")
        put, _ = metadata_fields(metadata)
        for _ in range(_ATTEMPTS):
            created = await self._create(session_id, user_id, put, minted=minted)
            session = created or await self.get(session_id)
            if session is None:
                continue
            if session.user_id == user_id:
                return session
            if session.user_id:
                raise SessionExistsError(f"session {session_id!r} belongs to another user")
            await self._adopt(session_id, user_id, put)
        raise _unsettled(session_id)

    async def _create(
        self,
        session_id: str,
        user_id: str,
        put: dict[str, bytes],
        *,
        minted: bool = False,
        implicit: bool = False,
    ) -> SessionMetrics | None:
        """The session if this call created it; None when there is one (or to try again)."""
        bucket, group = place_of(session_id)
        head = {"~i": NEW_INCARNATION, "l": NOW, **put}
        if user_id:
            head["u"] = user_id.encode()
        if minted and self._events.wanted:
            keeps_all = self._runtime.max_messages is None
            head[ARCHIVED] = NOTHING_ARCHIVED if keeps_all else TRIMMED_ARCHIVED
        before = await announce_session(self._runtime, session_id, user_id)
        told = {"user_id": user_id, **told_metadata(put)}
        born = (Put("", head, if_absent="abort"), RequireBefore(before), Clock())
        ops = (*born, *self._update[1:], *self._events.change(session_id, "created", told))
        if implicit and self._events.wanted:
            ops += await not_erased(self._runtime, session_id)
        try:
            results = await self._runtime.apply(Batch(bucket, group, ops))
        except GroupExpired:
            await make_room(self._runtime, session_id)
            return None
        except GuardFailed:
            return None
        self._runtime.counters.add("sessions", 1)
        self._activity.created(session_id)
        if results is None:
            return None
        now = b"%d" % results[2]
        found = {**put, "~i": now, "l": now, "u": user_id.encode()}
        return read_session(self._runtime, session_id, found)

    async def _adopt(self, session_id: str, user_id: str, put: dict[str, bytes]) -> None:
        """Give an unowned session to a user; without effect when it is not unowned any more."""
        before = await announce_session(self._runtime, session_id, user_id)
        fields = {**put, "u": user_id.encode(), "l": NOW}
        guards = (RequireEquals("", "u", None), RequireBefore(before))
        told = self._events.change(
            session_id, "adopted", {"user_id": user_id, **told_metadata(put)}
        )
        ops = (*guards, Put("", fields), *self._update[1:], *told)
        try:
            await self._runtime.apply(Batch(*place_of(session_id), ops))
        except GuardFailed:
            return

    # --- reading and changing -------------------------------------------------------------------

    async def get(self, session_id: str) -> SessionMetrics | None:
        """The session as it is stored; None when there is none."""
        (head,) = await self._runtime.ask(place_of(session_id), _HEAD)
        return read_session(self._runtime, session_id, head) if head else None

    async def update(
        self,
        session_id: str,
        updates: dict[str, Any] | None = None,
        increment_requests: bool = False,
        add_processing_time: float = 0.0,
        mark_error: bool = False,
    ) -> bool:
        """Add to the counters and change status or metadata in one batch; False if unknown.

        `updates` takes `status` and `metadata` (merged by key, None removes one);
        `add_processing_time` is in seconds. `InvalidInputError` for anything else.
        """
        ops, values = _changes(updates)
        deltas = _deltas(increment_requests, add_processing_time, mark_error)
        if not ops:
            return await self._add(session_id, deltas)
        if deltas:
            ops = (*ops, Incr("", deltas))
        told = self._events.change(session_id, "updated", values | deltas)
        return await self._write(session_id, (*ops, *told))

    async def _add(self, session_id: str, deltas: dict[str, int]) -> bool:
        """Add to counters alone: the update of every request, hence by a prepared plan."""
        name = "update:" + ",".join(deltas)
        plan = self._plans.get(name)
        if plan is None:
            open_deltas = {field: Arg(place) for place, field in enumerate(deltas)}
            adding: tuple[Op, ...] = (Incr("", open_deltas),) if deltas else ()
            if deltas:
                adding += self._events.planned(Arg(len(deltas)), Arg(len(deltas) + 1))
            plan = self._plans.setdefault(name, Plan(name, *adding, *self._update))
        args: tuple[Any, ...] = tuple(deltas.values())
        if deltas:
            args += self._events.changed(session_id, "updated", deltas)
        try:
            await self._runtime.apply(Call(plan, *place_of(session_id), args))
        except GroupMissing:
            return False
        self._activity.seen(session_id)
        return True

    async def end(self, session_id: str, status: str = "completed") -> bool:
        """Set the status, `completed` unless told otherwise; False if the session is unknown."""
        ops = _status_ops(check_status(status))
        told = self._events.change(session_id, "ended", {"status": status})
        return await self._write(session_id, (*ops, *told))

    async def _write(self, session_id: str, ops: tuple[Op, ...]) -> bool:
        bucket, group = place_of(session_id)
        try:
            results = await self._runtime.apply(Batch(bucket, group, ops + self._update))
        except GroupMissing:
            return False
        self._activity.seen(session_id)
        if results is not None and ops and type(ops[0]) is Get:
            self._count_ended(results[0][0], ops[1])
        return True

    def _count_ended(self, before: bytes | None, change: Op) -> None:
        if type(change) is Put and before is None:
            self._runtime.counters.add("ended", 1)
        elif type(change) is Delete and before is not None:
            self._runtime.counters.add("ended", -1)

    async def _refresh(self, session_id: str, renew: bool) -> None:
        """Move the session up in its indexes; `renew` the safety net of all its keys as well."""
        ops = (Get("", ("~i", "u")), Get("a"))
        (incarnation, owner), conversations = await self.read(session_id, *ops)
        if incarnation is None:
            return  # deleted since it was written to
        await announce_session(self._runtime, session_id, (owner or b"").decode())
        ttl = self._runtime.session_ttl
        if renew and ttl is not None:
            keys = session_keys(conversations)
            for start in range(0, len(keys), _RENEWED_AT_ONCE):
                expire = Expire(ttl, keys[start : start + _RENEWED_AT_ONCE])
                with suppress(GroupMissing):
                    await self._runtime.apply(Batch(*place_of(session_id), (expire,)))


def _status_ops(status: str) -> tuple[Op, ...]:
    change = Delete("", ("st",)) if status == "active" else Put("", {"st": status.encode()})
    return (Get("", ("st",)), change)


def _changes(updates: dict[str, Any] | None) -> tuple[tuple[Op, ...], dict[str, Any]]:
    """The operations, and what an event tells of them."""
    if updates is None:
        return (), {}
    if not isinstance(updates, dict):
        raise InvalidInputError(f"updates is a dict, got {type(updates).__name__}")
    unknown = updates.keys() - {"status", "metadata"}
    if unknown:
        names = ", ".join(sorted(map(repr, unknown)))
        raise InvalidInputError(f"updates takes status and metadata, not {names}")
    ops: tuple[Op, ...] = ()
    values: dict[str, Any] = {}
    if "status" in updates:
        values["status"] = check_status(updates["status"])
        ops = _status_ops(values["status"])
    put, remove = metadata_fields(updates.get("metadata"))
    if put:
        ops = (*ops, Put("", {**put}))
    if remove:
        ops = (*ops, Delete("", remove))
    return ops, values | told_metadata(put, remove)


def _deltas(requests: bool, seconds: float, error: bool) -> dict[str, int]:
    deltas = {"q": int(bool(requests)), "e": int(bool(error)), "t": _micros(seconds)}
    return {name: delta for name, delta in deltas.items() if delta}


def _micros(seconds: float) -> int:
    if type(seconds) not in (int, float) or not 0 <= seconds <= _MAX_SECONDS:  # nor for NaN
        raise InvalidInputError(f"add_processing_time is 0..{_MAX_SECONDS} s, got {seconds!r}")
    return round(seconds * 1_000_000)


def _unsettled(session_id: str) -> ConflictError:
    return ConflictError(f"session {session_id!r} is created and removed all the time")
