"""The Lua of the writes to logs: `e.base` and `e.epoch` hold what stood in the head.

`h` is a key class, as in `script_operations`.
"""

from __future__ import annotations

from aiecs.infrastructure.persistence.stores.redis.emit import Emit, Index


def append(e: Emit, h: str, *, stamped: bool) -> None:
    """`Append`."""
    head = "G" if h == "g" else "B"
    key, slot, count, field, first, epoch = (
        e.key(), e.take(), e.count(), e.take(), e.take(), e.take(),
    )  # fmt: skip
    base, length = e.name("x"), e.name("x")
    e.line(f"local {base}={e.base(slot)}")
    e.line(f"if not {base} and call('LLEN',{key})>0 then call('DEL',{key}) end")
    items = _stamped_items(e, count) if stamped else e.span(count)
    e.line(f"local {length}=call('RPUSH',{key},{items})")
    start = f"{first}~='' and {e.number_of(first)} or now"
    e.line(f"if not {base} then {base}={start} {e.base(slot)}={base}")
    e.line(f"call('HSET',{head},'~b'..{field},{base})")
    e.line(f"if {epoch}~='0' then call('HSET',{head},'~e'..{field},{epoch}) end end")
    if h == "g":
        e.line(f"if {length}=={count} then")  # the key was not there, or was emptied before
        e.fresh(h, key)
        e.line("end")
    e.result(f"{base}+{length}-{count}")


def _stamped_items(e: Emit, count: Index) -> str:
    stamps, items = e.name("f"), e.name("m")
    e.line(f"local {stamps}={{}}")
    e.each(e.count(), lambda i: e.line(f"{stamps}[{i}]={e.use('text')}({e.value()})"))
    e.line(f"{stamps}=table.concat({stamps},' ')..'\\n' local {items}={{}}")
    e.each(count, lambda i: e.line(f"{items}[{i}]={stamps}..{e.take()}"))
    return f"unpack({items})"


def trim(e: Emit, h: str) -> None:
    """`Trim`."""
    head = "G" if h == "g" else "B"
    key, slot, field, kind, bound = e.key(), e.take(), e.take(), e.take(), e.take()
    cut = e.name("x")
    e.line(f"local {cut}=0 do local bs={e.base(slot)} if bs then")
    e.line(f"local len=call('LLEN',{key})")
    e.line(f"{cut}={kind}=='k' and len-{e.number_of(bound)} or {e.number_of(bound)}-bs")
    e.line(f"if {cut}>len then {cut}=len end if {cut}<0 then {cut}=0 end")
    e.line(f"if {cut}>0 then call('LTRIM',{key},{cut},-1)")
    e.line(f"{e.base(slot)}=bs+{cut} call('HSET',{head},'~b'..{field},bs+{cut})")
    e.line("end end end")
    e.result(cut)


def truncate(e: Emit, h: str) -> None:
    """`Truncate`."""
    key, slot, field, start, cut = e.key(), e.take(), e.take(), e.take(), e.name("x")
    e.line(f"local {cut}=0 do local bs={e.base(slot)} if bs then")
    e.line(f"local len,keep=call('LLEN',{key}),{e.number_of(start)}-bs if keep<0 then keep=0 end")
    e.line(f"if keep<len then {cut}=len-keep")
    e.line(f"if keep==0 then call('DEL',{key}) else")
    e.line(f"call('LTRIM',{key},0,keep-1) end")
    e.line(_next_epoch(e, h, slot, field))
    e.line("end end end")
    e.result(cut)


def redact(e: Emit, h: str) -> None:
    """`Redact`."""
    key, slot, field, item, count = e.key(), e.take(), e.take(), e.take(), e.count()
    hits = e.name("x")
    sequences = e.texts(count)
    e.line(f"local {hits}=0 do local bs={e.base(slot)} if bs then local len=call('LLEN',{key})")

    def blank(i: Index) -> None:
        e.line(f"do local at=num({sequences(i)})-bs if at>=0 and at<len then")
        e.line(f"call('LSET',{key},at,{item}) {hits}={hits}+1 end end")

    e.each(count, blank)
    e.line(f"if {hits}>0 then")
    e.line(_next_epoch(e, h, slot, field))
    e.line("end end end")
    e.result(hits)


def _next_epoch(e: Emit, h: str, slot: str, field: str) -> str:
    head = "G" if h == "g" else "B"
    return f"call('HSET',{head},'~e'..{field},({e.epoch(slot)} or 0)+1)"


def delete_log(e: Emit, h: str) -> None:
    """`Delete` of a whole log."""
    head = "G" if h == "g" else "B"
    key, count, field = e.key(), e.name("x"), e.take()
    # A key of another type counts as one item; a plain LLEN would fail in mid-batch.
    e.line(f"local {count}=redis.pcall('LLEN',{key}) if type({count})=='table' then {count}=1 end")
    e.line(f"call('UNLINK',{key})")
    e.result(count)
    e.line(f"call('HDEL',{head},'~b'..{field},'~e'..{field})")
