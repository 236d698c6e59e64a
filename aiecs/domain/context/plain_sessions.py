"""Removing a plain session that is due: most have no agent conversation and no thread.

One batch looks and removes; whatever else there is takes the long way of `groups.retire_session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiecs.core.events import Events
from aiecs.core.interface import store as port
from aiecs.core.keys import session_place, thread_place
from aiecs.domain.context.groups import Retired, session_keys
from aiecs.domain.context.models import DeletionReport

if TYPE_CHECKING:
    from aiecs.domain.context.runtime import Runtime

_NAMESAKE = port.Plan("namesake", port.Get("", ("~i",)), raw=True)
_LOOK = port.Get("", ("u", "st"))
_PLAIN: tuple[port.Op, ...] = (
    *(port.RequireEquals("", field, None) for field in ("cn", "hn", "gone")),
    _LOOK,
)
_DELETES = tuple(port.Delete(key, kind=kind) for kind, key in session_keys())


_EVENTS = Events(wanted=True)


def _plan(name: str, due: port.RequireAtMost, *told: port.Op) -> port.Plan:
    return port.Plan(name, due, *_PLAIN, *_DELETES, port.Delete(""), *told, raw=True)


_LAST = port.RequireAtMost("", "l", port.Arg(0))
_END = port.RequireAtMost("", "~x", port.NOW)
_IDLE = _plan("session idle", _LAST)
_EXPIRED = _plan("session expired", _END)
_IDLE_TOLD = _plan("session idle, told", _LAST, *_EVENTS.planned(port.Arg(1), port.Arg(2)))
_EXPIRED_TOLD = _plan("session expired, told", _END, *_EVENTS.planned(port.Arg(0), port.Arg(1)))
_FOUND = _IDLE.ops.index(_LOOK)
_CONTEXTS = _IDLE.ops.index(port.Delete("t"))
_MESSAGES = _IDLE.ops.index(port.Delete("m", kind="log"))


async def retire_plain(
    runtime: Runtime, session_id: str, idle_before: int | None
) -> Retired | None:
    """Remove a session without write since `idle_before` (microseconds; None: an expired one).

    None: it is not due, or not plain, or somebody else removes it. When the answer was lost with a
    connection, what the session held is not known any more: the engine's totals keep it until
    `recount`.
    """
    ((namesake,),) = await runtime.ask(thread_place(session_id), _NAMESAKE)
    if namesake is not None:
        return None
    told: tuple[Any, ...] = runtime.events.changed(session_id, "expired", {})
    plan, args = _EXPIRED_TOLD if told else _EXPIRED, told
    if idle_before is not None:
        plan, args = _IDLE_TOLD if told else _IDLE, (idle_before, *told)
    try:
        results = await runtime.apply(port.Call(plan, *session_place(session_id), args))
    except port.GroupMissing:
        return Retired(gone=True)
    except (port.GuardFailed, port.CorruptField):
        return None
    if results is None:  # sent again, and applied before
        report = DeletionReport(sessions=1)
        runtime.counters.subtract(report, ended=0)
        return Retired(gone=True, removed=report)
    user, status = results[_FOUND]
    report = DeletionReport(
        sessions=1, messages=results[_MESSAGES], task_contexts=results[_CONTEXTS]
    )
    runtime.counters.subtract(report, ended=int(status is not None))
    return Retired(gone=True, removed=report, user_id=(user or b"").decode(errors="replace"))
