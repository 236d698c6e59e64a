"""The Lua of each operation: what it does before the writes and what it writes.

`A` are the arguments with the cursor `p`, `K` the keys with the cursor `k`, `o` the number of the
operation, `R` the results, `I` the conditions that held. `g` holds the head's fields with the
cursor `gi`; `wg` and `wb` collect what goes into the group's and the bucket's head at the end.
"""

from __future__ import annotations

from collections.abc import Callable


class Text:
    """Where a key lives decides how its fields are read."""

    def __init__(self, key_class: str) -> None:
        self.key_class = key_class

    def next_key(self) -> str:
        return "" if self.key_class == "h" else "local key=K[k] k=k+1 "

    def field(self) -> str:
        if self.key_class == "h":
            return "gi=gi+1 local v=g[gi] p=p+1 "
        guard = "alive and " if self.key_class == "g" else ""
        return f"{self.next_key()}local v={guard}call('HGET',key,A[p]) p=p+1 "

    def fields(self) -> str:
        count = "local n=num(A[p]) local from=p p=p+1+n "
        if self.key_class == "h":
            return count + "local v={} for i=1,n do v[i]=g[gi+i] or false end gi=gi+n "
        guard = "alive and " if self.key_class == "g" else ""
        read = f"{guard}call('HMGET',key,unpack(A,from+1,from+n)) or {{}}"
        return f"{count}{self.next_key()}local v={read} "

    def flag(self) -> str:
        return {"h": "alive", "g": "alive and call('EXISTS',key)==1"}.get(
            self.key_class, "call('EXISTS',key)==1"
        )

    def command(self, name: str, *args: str) -> str:
        return f"call('{name}',{','.join(('G' if self.key_class == 'h' else 'key', *args))})"


def _require_exists(x: Text) -> str:
    return f"{x.next_key()}if ({x.flag()} or false)~=(A[p]=='1') then return fail(o) end p=p+1"


def _require_equals(x: Text) -> str:
    return (
        f"{x.field()}local want=A[p]=='1' and A[p+1] p=p+2 "
        "if (v or false)~=want then return fail(o,v) end"
    )


def _require_at_most(x: Text) -> str:
    return (
        f"{x.field()}local lim=num(A[p+1]) if A[p]=='n' then lim=lim+now end p=p+2 "
        "if not v then return fail(o) end "
        "local w=int(v) if not w then return {3,o} end "
        "if w>lim then return fail(o,v) end"
    )


def _require_fields(x: Text) -> str:
    return (
        f"{x.fields()}local miss={{}} "
        "for i=1,n do if not v[i] then miss[#miss+1]=A[from+i] end end "
        "if #miss>0 then return fail(o,miss) end"
    )


def _get_all(x: Text) -> str:
    guard = "" if x.key_class == "b" else "alive and "
    return f"{x.next_key()}R[o+1]={guard}{x.command('HGETALL')} or {{}}"


def _put_condition(x: Text) -> str:
    return (
        f"{x.fields()}I[o]=true "
        "for i=1,n do if v[i] then "
        "if A[p]=='a' then return fail(o,v[i]) end I[o]=false break end end p=p+1"
    )


def _incr(x: Text) -> str:
    return (
        f"{x.fields()}local r={{}} "
        "for i=1,n do local w=0 if v[i] then w=int(v[i]) end "
        "if not w then return {3,o} end "
        "local s=w+num(A[p]) p=p+1 "
        "if s>9007199254740991 or s<-9007199254740991 then return fail(o,v[i]) end r[i]=s end "
        "R[o+1]=r"
    )


def _type_check(command: str) -> Callable[[Text], str]:
    return lambda x: "" if x.key_class == "h" else f"{x.next_key()}call('{command}',key)"


# Before the writes: code -> text. `?`-codes are conditions of a Put, `t`-codes check a key's type.
BEFORE: dict[str, Callable[[Text], str]] = {
    "exists": _require_exists,
    "equals": _require_equals,
    "atmost": _require_at_most,
    "fields": _require_fields,
    "before": lambda _: "if now>num(A[p]) then return fail(o,S(now)) end p=p+1",
    "get": lambda x: f"{x.fields()}for i=1,n do v[i]=v[i] or false end R[o+1]=v",
    "getall": _get_all,
    "clock": lambda _: "R[o+1]=now",
    "put?": _put_condition,
    "puts?": _put_condition,
    "incr": _incr,
    "tput": _type_check("HLEN"),
    "tputs": _type_check("HLEN"),
    "thdel": _type_check("HLEN"),
    "tappend": _type_check("LLEN"),
    "tappends": _type_check("LLEN"),
    "ttrim": _type_check("LLEN"),
    "ttruncate": _type_check("LLEN"),
    "tredact": _type_check("LLEN"),
    "tzadd": _type_check("ZCARD"),
    "tzrem": _type_check("ZCARD"),
}


def _put(x: Text, *, special: bool, conditional: bool) -> str:
    value = "val(A[p+1],A[p+2])" if special else "A[p+1]"
    width = 3 if special else 2
    target = "wg" if x.key_class == "h" else "f"
    collect = f"{target}[#{target}+1]=A[p] {target}[#{target}+1]={value}"
    lines = [f"{x.next_key()}local n=num(A[p]) p=p+1 "]
    if target == "f":
        lines.append("local f={} ")
    loop = f"for i=1,n do {collect} p=p+{width} end "
    if target == "f":
        loop += "call('HSET',key,unpack(f)) " + (
            "fresh[#fresh+1]=key " if x.key_class == "g" else ""
        )
    if conditional:
        lines.append(f"if I[o] then {loop} R[o+1]=1 else p=p+{width}*n R[o+1]=0 end")
    else:
        lines.append(f"{loop} R[o+1]=1")
    return "".join(lines)


def _write_incr(x: Text) -> str:
    if x.key_class == "h":
        return "local r=R[o+1] for i=1,#r do wg[#wg+1]=A[p] wg[#wg+1]=S(r[i]) p=p+1 end"
    fresh = "fresh[#fresh+1]=key " if x.key_class == "g" else ""
    return (
        f"{x.next_key()}local r,f=R[o+1],{{}} "
        "for i=1,#r do f[#f+1]=A[p] f[#f+1]=S(r[i]) p=p+1 end "
        f"call('HSET',key,unpack(f)) {fresh}"
    )


def _append(x: Text, *, stamped: bool) -> str:
    head = "wg" if x.key_class == "g" else "wb"
    start = (
        "local key,s,n=K[k],A[p],num(A[p+1]) k=k+1 p=p+2 "
        "local bs=base[s] "
        "if not bs then "
        "if call('LLEN',key)>0 then call('DEL',key) end "
        "bs=A[p+1]~='' and num(A[p+1]) or now base[s]=bs "
        f"{head}[#{head}+1]='~b'..A[p] {head}[#{head}+1]=S(bs) "
        f"if A[p+2]~='0' then {head}[#{head}+1]='~e'..A[p] {head}[#{head}+1]=A[p+2] end "
        + ("fresh[#fresh+1]=key " if x.key_class == "g" else "")
        + "end p=p+3 "
    )
    if not stamped:
        push = "local len=call('RPUSH',key,unpack(A,p,p+n-1)) p=p+n "
    else:
        push = (
            "local f={} for i=1,num(A[p]) do f[i]=val(A[p+1],A[p+2]) p=p+2 end p=p+1 "
            "f=table.concat(f,' ')..'\\n' "
            "local m={} for i=1,n do m[i]=f..A[p] p=p+1 end "
            "local len=call('RPUSH',key,unpack(m)) "
        )
    return start + push + "R[o+1]=bs+len-n"


def _trim(x: Text) -> str:
    head = "wg" if x.key_class == "g" else "wb"
    return (
        "local key,s=K[k],A[p] k=k+1 local bs,cut=base[s],0 "
        "if bs then local len=call('LLEN',key) "
        "cut=A[p+2]=='k' and len-num(A[p+3]) or num(A[p+3])-bs "
        "if cut>len then cut=len end if cut<0 then cut=0 end "
        "if cut>0 then call('LTRIM',key,S(cut),-1) base[s]=bs+cut "
        f"{head}[#{head}+1]='~b'..A[p+1] {head}[#{head}+1]=S(bs+cut) end end "
        "p=p+4 R[o+1]=cut"
    )


def _next_epoch(x: Text) -> str:
    head = "wg" if x.key_class == "g" else "wb"
    return f"{head}[#{head}+1]='~e'..A[p+1] {head}[#{head}+1]=S((epoch[s] or 0)+1) "


def _truncate(x: Text) -> str:
    return (
        "local key,s=K[k],A[p] k=k+1 local bs,cut=base[s],0 "
        "if bs then local len=call('LLEN',key) local keep=num(A[p+2])-bs "
        "if keep<0 then keep=0 end "
        "if keep<len then cut=len-keep "
        "if keep==0 then call('DEL',key) else call('LTRIM',key,0,S(keep-1)) end "
        f"{_next_epoch(x)}end end p=p+3 R[o+1]=cut"
    )


def _redact(x: Text) -> str:
    return (
        "local key,s,n=K[k],A[p],num(A[p+3]) k=k+1 local bs,hit=base[s],0 "
        "if bs then local len=call('LLEN',key) "
        "for i=1,n do local at=num(A[p+3+i])-bs "
        "if at>=0 and at<len then call('LSET',key,S(at),A[p+2]) hit=hit+1 end end "
        f"if hit>0 then {_next_epoch(x)}end end p=p+4+n R[o+1]=hit"
    )


def _delete(x: Text) -> str:
    if x.key_class == "h":
        return "R[o+1]=call('UNLINK',G) gone=true"
    return "R[o+1]=call('UNLINK',K[k]) k=k+1"


def _delete_log(x: Text) -> str:
    head = "G" if x.key_class == "g" else "B"
    return f"R[o+1]=call('UNLINK',K[k]) k=k+1 call('HDEL',{head},'~b'..A[p],'~e'..A[p]) p=p+1"


def _delete_fields(x: Text) -> str:
    read = "local n=num(A[p]) "
    return f"{x.next_key()}{read}R[o+1]={x.command('HDEL', 'unpack(A,p+1,p+n)')} p=p+1+n"


def _index_put(x: Text) -> str:
    fresh = "fresh[#fresh+1]=key " if x.key_class == "g" else ""
    return (
        "local key=K[k] k=k+1 local n,gt=num(A[p]),A[p+1]=='1' p=p+2 local f={} "
        "for i=1,n do f[#f+1]=val(A[p+1],A[p+2]) f[#f+1]=A[p] p=p+3 end "
        "if gt then call('ZADD',key,'GT',unpack(f)) else call('ZADD',key,unpack(f)) end "
        f"{fresh}R[o+1]=1"
    )


def _index_delete(_: Text) -> str:
    return (
        "local key,n,want=K[k],num(A[p]),A[p+1] k=k+1 p=p+2 local hit=0 "
        "if want=='' then hit=call('ZREM',key,unpack(A,p,p+n-1)) else "
        "for i=p,p+n-1 do local s=call('ZSCORE',key,A[i]) "
        "if s and num(s)==num(want) then hit=hit+call('ZREM',key,A[i]) end end end "
        "p=p+n R[o+1]=hit"
    )


def _expire(_: Text) -> str:
    return (
        "local ttl,n=A[p],num(A[p+1]) p=p+2 "
        "if ttl=='' then exp_new=nil exp=nil call('HDEL',G,'~x') call('PERSIST',G) "
        "for i=1,n do call('PERSIST',K[k]) k=k+1 end "
        "else exp_new=now+num(ttl) wg[#wg+1]='~x' wg[#wg+1]=S(exp_new) "
        "if n>0 then call('PEXPIREAT',G,S(math.floor(exp_new/1000)+691200000)) end "
        "for i=1,n do call('PEXPIREAT',K[k],S(math.floor(exp_new/1000)+604800000)) k=k+1 end end "
        "R[o+1]=0"
    )


# The writes: code -> text.
WRITE: dict[str, Callable[[Text], str]] = {
    "put": lambda x: _put(x, special=False, conditional=False),
    "puts": lambda x: _put(x, special=True, conditional=False),
    "put?": lambda x: _put(x, special=False, conditional=True),
    "puts?": lambda x: _put(x, special=True, conditional=True),
    "incr": _write_incr,
    "append": lambda x: _append(x, stamped=False),
    "appends": lambda x: _append(x, stamped=True),
    "trim": _trim,
    "truncate": _truncate,
    "redact": _redact,
    "unlink": _delete,
    "unlinklog": _delete_log,
    "hdel": _delete_fields,
    "zadd": _index_put,
    "zrem": _index_delete,
    "expire": _expire,
}
