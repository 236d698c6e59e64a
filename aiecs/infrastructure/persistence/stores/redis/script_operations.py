"""The Lua of each operation: what it does before the writes, and what it writes.

`h` is a key class: the group's head (`h`), another key of the group (`g`), a key of the bucket
itself (`b`). Reads of a group that is not `alive` see nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from aiecs.core.interface.store import MAX_RECORD_BYTES
from aiecs.infrastructure.persistence.stores.redis import script_logs
from aiecs.infrastructure.persistence.stores.redis.emit import Emit, Index, Unrolled

Values = Callable[[Index], str]


def _key(e: Emit, h: str) -> str:
    return "G" if h == "h" else e.key()


def _seen(h: str, expression: str, otherwise: str = "false") -> str:
    return expression if h == "b" else f"(alive and {expression} or {otherwise})"


def _field(e: Emit, h: str) -> str:
    """The value of one field: head fields were read with the head."""
    if h == "h":
        e.take()
        return e.head_field()
    key, field, value = e.key(), e.take(), e.name("v")
    read = f"call('HGET',{key},{field})"
    e.line(f"local {value}={_seen(h, read)}")
    return value


def _fields(e: Emit, h: str) -> tuple[Index, Values, Values]:
    """How many fields, their values and their names."""
    count = e.count()
    if h == "h":
        names = e.texts(count)
        return count, e.head_fields(count), names
    names = e.texts(count)
    key, values = e.key(), e.name("v")
    listed = _listed(count, names)
    read = f"call('HMGET',{key},{listed})"
    e.line(f"local {values}={_seen(h, read, '{}')}")
    return count, lambda i: f"{values}[{i}]", names


def _listed(count: Index, names: Values) -> str:
    if isinstance(count, int):
        return ",".join(names(i) for i in range(1, count + 1))
    first, last = names("1"), names(count)
    return f"unpack(A,{first[2:-1]},{last[2:-1]})"


# --- before the writes --------------------------------------------------------------------------


def _require_exists(e: Emit, h: str) -> None:
    key = _key(e, h)
    there = {"h": "alive", "g": f"alive and call('EXISTS',{key})==1"}.get(
        h, f"call('EXISTS',{key})==1"
    )
    e.line(f"if ({there} and true or false)~=({e.take()}=='1') then {e.refuse()} end")


def _require_equals(e: Emit, h: str) -> None:
    value = _field(e, h)
    present, wanted = e.take(), e.take()
    e.line(f"if ({value} or false)~=({present}=='1' and {wanted}) then {e.refuse(value)} end")


def _require_at_most(e: Emit, h: str) -> None:
    value = _field(e, h)
    kind, bound, limit, number = e.take(), e.take(), e.name("x"), e.name("x")
    e.line(f"local {limit}={e.number_of(bound)} if {kind}=='n' then {limit}={limit}+now end")
    e.line(f"if not {value} then {e.refuse()} end")
    e.line(f"local {number}={e.use('int')}({value}) if not {number} then {e.corrupt()} end")
    e.line(f"if {number}>{limit} then {e.refuse(value)} end")


def _require_fields(e: Emit, h: str) -> None:
    count, values, names = _fields(e, h)
    missing = e.name("m")
    e.line(f"local {missing}={{}}")
    e.each(
        count,
        lambda i: e.line(f"if not {values(i)} then {missing}[#{missing}+1]={names(i)} end"),
    )
    e.line(f"if #{missing}>0 then {e.refuse(missing)} end")


def _require_before(e: Emit, _: str) -> None:
    e.line(f"if now>{e.number_of(e.take())} then {e.refuse('now')} end")


def _get(e: Emit, h: str) -> None:
    count, values, _ = _fields(e, h)
    found = e.name("r")
    e.line(f"local {found}={{}}")
    e.each(count, lambda i: e.line(f"{found}[{i}]={values(i)} or false"))
    e.result(found)


def _get_all(e: Emit, h: str) -> None:
    e.result(_seen(h, f"call('HGETALL',{_key(e, h)})", "{}"))


def _clock(e: Emit, _: str) -> None:
    e.result("now")


def _put_condition(e: Emit, h: str) -> None:
    count, values, _ = _fields(e, h)
    abort = e.take()
    e.condition("true")

    def look(i: Index) -> None:
        e.line(f"if {values(i)} then if {abort}=='a' then {e.refuse(values(i))} end")
        e.condition("false")
        e.line("end")

    e.each(count, look)


def _extend(e: Emit, h: str) -> None:
    count, values, _ = _fields(e, h)
    joined = e.name("r")
    e.line(f"local {joined}={{}}")
    added = e.texts(count)

    def join(i: Index) -> None:
        e.line(f"{joined}[{i}]=({values(i)} or '')..{added(i)}")
        e.line(f"if #{joined}[{i}]>{MAX_RECORD_BYTES} then {e.refuse()} end")

    e.each(count, join)
    e.counts[joined] = count
    e.result(joined)


def _incr(e: Emit, h: str) -> None:
    count, values, _ = _fields(e, h)
    sums = e.name("r")
    e.line(f"local {sums}={{}}")
    deltas = e.texts(count)

    def add(i: Index) -> None:
        e.line(f"do local w=0 if {values(i)} then w={e.use('int')}({values(i)}) end")
        e.line(f"if not w then {e.corrupt()} end w=w+{e.number_of(deltas(i))}")
        e.line(f"if w>9007199254740991 or w<-9007199254740991 then {e.refuse(values(i))} end")
        e.line(f"{sums}[{i}]=w end")

    e.each(count, add)
    e.counts[sums] = count
    e.result(sums)


def _type_check(command: str) -> Callable[[Emit, str], None]:
    """Refuse a key of another type while nothing is written."""

    def check(e: Emit, _: str) -> None:
        found = f"redis.pcall('{command}',{e.key()})"
        e.line(f"if type({found})=='table' then {e.corrupt()} end")

    return check


# --- the writes ---------------------------------------------------------------------------------


def _put(e: Emit, h: str, *, special: bool, conditional: bool) -> None:
    key, count = _key(e, h), e.count()

    def pair() -> tuple[str, str]:
        field = e.take()
        return field, e.value() if special else e.take()

    if h == "h" and not conditional:
        _collect(e, count, pair)
        e.result("1")
        return
    if not conditional:
        e.line(f"call('HSET',{key},{e.pairs(count, pair)})")
        e.fresh(h, key)
        e.result("1")
        return
    held = e.held()
    e.line(f"if {held} then")
    e.line(f"call('HSET',{key},{e.pairs(count, pair)})")
    e.fresh(h, key)
    e.line("else")
    e.pass_over(count, 3 if special else 2)
    e.line("end")
    e.result(f"({held} and 1 or 0)")


def _collect(e: Emit, count: Index, pair: Callable[[], tuple[str, str]]) -> None:
    if isinstance(e, Unrolled):
        for _ in range(int(count)):
            e.head_write(*pair())
        return
    e.line(f"for _=1,{count} do")
    e.head_write(*pair())
    e.line("end")


def _write_extended(e: Emit, h: str) -> None:
    _write_incr(e, h)
    e.result("1")


def _write_incr(e: Emit, h: str) -> None:
    """Write what was worked out before: the operation's result so far."""
    key, sums = _key(e, h), e.own_result()
    count = e.counts[sums] if isinstance(e, Unrolled) else f"#{sums}"
    names = e.texts(count)
    if h == "h":
        e.each(count, lambda i: e.head_write(names(i), f"{sums}[{i}]"))
        return
    e.each(
        count,
        lambda i: e.line(f"call('HSET',{key},{names(i)},{sums}[{i}])"),
    )
    e.fresh(h, key)


def _delete(e: Emit, h: str) -> None:
    e.result(f"call('UNLINK',{_key(e, h)})")
    if h == "h":
        e.line(f"{e.use('gone')}=true")


def _delete_fields(e: Emit, h: str) -> None:
    key, count = _key(e, h), e.count()
    e.result(f"call('HDEL',{key},{e.span(count)})")


def _index_put(e: Emit, h: str) -> None:
    key, count, greater = e.key(), e.count(), e.take()

    def pair() -> tuple[str, str]:
        member = e.take()
        return e.value(), member

    pairs = e.pairs(count, pair)
    e.line(f"if {greater}=='1' then call('ZADD',{key},'GT',{pairs})")
    e.line(f"else call('ZADD',{key},{pairs}) end")
    e.fresh(h, key)
    e.result("1")


def _index_delete(e: Emit, _: str) -> None:
    key, count, most, hits = e.key(), e.count(), e.take(), e.name("x")
    members = e.texts(count)
    e.line(f"local {hits}=0")

    def remove(i: Index) -> None:
        e.line(f"do local s={most}=='' or call('ZSCORE',{key},{members(i)})")
        e.line(f"if s==true or s and num(s)<=num({most}) then")
        e.line(f"{hits}={hits}+call('ZREM',{key},{members(i)}) end end")

    e.each(count, remove)
    e.result(hits)


def _expire(e: Emit, _: str) -> None:
    ttl, count = e.take(), e.count()
    e.use("expiry")
    if isinstance(e, Unrolled) and ttl == '""':
        e.line("exp=nil call('HDEL',G,'~x') call('PERSIST',G)")
        e.each(count, lambda _: e.line(f"call('PERSIST',{e.key()})"))
    elif isinstance(e, Unrolled):
        e.line(f"exp=now+{e.number_of(ttl)}")
        e.head_write("'~x'", "exp")
        _renew(e, count)
    else:
        e.line(f"if {ttl}=='' then exp=nil call('HDEL',G,'~x') call('PERSIST',G)")
        e.line(f"for i=1,{count} do call('PERSIST',K[k]) k=k+1 end else")
        e.line(f"exp=now+{e.number_of(ttl)}")
        e.head_write("'~x'", "exp")
        _renew(e, count)
        e.line("end")
    e.result("0")


def _renew(e: Emit, count: Index) -> None:
    """The server's own expiry, days behind ours: the head last, so that it outlives its keys."""
    until = "math.floor(exp/1000)"
    if count == 0:
        return
    e.line(f"if {count}>0 then call('PEXPIREAT',G,{until}+691200000) end")
    e.each(count, lambda _: e.line(f"call('PEXPIREAT',{e.key()},{until}+604800000)"))


Write = Callable[[Emit, str], None]

# Codes that start with `t` check the type of a key; `?` marks the condition of a Put.
BEFORE: dict[str, Write] = {
    "exists": _require_exists,
    "equals": _require_equals,
    "atmost": _require_at_most,
    "fields": _require_fields,
    "before": _require_before,
    "get": _get,
    "getall": _get_all,
    "clock": _clock,
    "put?": _put_condition,
    "puts?": _put_condition,
    "extend": _extend,
    "incr": _incr,
    **{f"t{code}": _type_check("HLEN") for code in ("put", "puts", "hdel")},
    **{
        f"t{code}": _type_check("LLEN")
        for code in ("append", "appends", "trim", "truncate", "redact")
    },
    **{f"t{code}": _type_check("ZCARD") for code in ("zadd", "zrem")},
}
WRITE: dict[str, Write] = {
    "put": lambda e, h: _put(e, h, special=False, conditional=False),
    "puts": lambda e, h: _put(e, h, special=True, conditional=False),
    "put?": lambda e, h: _put(e, h, special=False, conditional=True),
    "puts?": lambda e, h: _put(e, h, special=True, conditional=True),
    "extend": _write_extended,
    "incr": _write_incr,
    "append": lambda e, h: script_logs.append(e, h, stamped=False),
    "appends": lambda e, h: script_logs.append(e, h, stamped=True),
    "trim": script_logs.trim,
    "truncate": script_logs.truncate,
    "redact": script_logs.redact,
    "unlink": _delete,
    "unlinklog": script_logs.delete_log,
    "hdel": _delete_fields,
    "zadd": _index_put,
    "zrem": _index_delete,
    "expire": _expire,
}
