"""What a server says of itself, and what to do about it."""

from __future__ import annotations

import re
from typing import Any

from aiecs.core.interface.finding import Finding, Level, size

Info = dict[str, Any]

#: What to ask a server for `info_of` and `settings_of`; it may refuse the settings.
QUESTIONS: tuple[tuple[Any, ...], ...] = (
    ("INFO",),
    *(
        ("CONFIG", "GET", pattern)
        for pattern in ("aof-load-truncated", "appendfsync", "save", "cluster-require-*")
    ),
)

_MIN_REDIS = (6, 2)
_FLAGS_SINCE = 7
_MIN_VALKEY = (7, 2)
# https://github.com/valkey-io/valkey/pull/4342; 9.1.2 is the first that we have seen mend it.
_MENDS_TORN_TAIL = (9, 1, 2)
_NEARLY_FULL = 0.9
_COVERAGE = "cluster-require-full-coverage"
_GRAVITY: tuple[Level, ...] = ("ok", "note", "warn", "fail")


def findings_of(replies: list[Any]) -> list[Finding]:
    """What the answers to `QUESTIONS` mean."""
    info, *settings = replies
    if not isinstance(info, bytes):
        advice = "allow the user INFO, or ask whoever runs the server"
        return [Finding("server", "note", f"does not say how it is: {info}", advice)]
    told: dict[str, str] = {}
    for reply in settings:
        if isinstance(reply, list):  # hosted servers refuse it in many ways; it only adds detail
            words = [bytes(word).decode() for word in reply]
            told |= dict(zip(words[::2], words[1::2], strict=True))
    return redis_findings(_parsed(info.decode(errors="replace")), told)


def _parsed(info: str) -> Info:
    pairs = (line.partition(":") for line in info.splitlines() if not line.startswith("#"))
    return {name: int(value) if value.isdigit() else value for name, _, value in pairs}


def redis_findings(info: Info, settings: dict[str, str]) -> list[Finding]:
    """What `INFO` says of a server; `settings` is what `CONFIG GET` gave, empty if refused."""
    return [
        server_version(info),
        role(info),
        eviction(info),
        memory(info),
        persistence(info, settings),
        *torn_tail(info, settings),
        *coverage(info, settings),
    ]


def worst(by_server: dict[str, list[Finding]]) -> list[Finding]:
    """Of each check the gravest finding, with the server's name where there are several."""
    found: dict[str, tuple[str, Finding]] = {}
    for name, findings in by_server.items():
        for one in findings:
            known = found.get(one.check)
            if known is None or _GRAVITY.index(one.level) > _GRAVITY.index(known[1].level):
                found[one.check] = (name, one)
    several = len(by_server) > 1
    return [
        one._replace(detail=f"{one.detail} ({name})") if several and one.level != "ok" else one
        for name, one in found.values()
    ]


def server_version(info: Info) -> Finding:
    """Whether the server is new enough."""
    name, text, found = _version(info)
    least = _MIN_VALKEY if name == "Valkey" else _MIN_REDIS
    if not found:
        return Finding("server", "warn", f"{name} of an unknown version")
    if found < least:
        wanted = ".".join(map(str, least))
        return Finding("server", "fail", f"{name} {text}", f"upgrade to {name} {wanted} or newer")
    return Finding("server", "ok", f"{name} {text}")


def _version(info: Info) -> tuple[str, str, tuple[int, ...]]:
    valkey = info.get("server_name") == "valkey" or "valkey_version" in info
    text = str(info.get("valkey_version") or info.get("redis_version") or "")
    numbers = re.match(r"\d+(\.\d+)*", text)
    found = tuple(map(int, numbers[0].split("."))) if numbers else ()
    return "Valkey" if valkey else "Redis", text, found


def even_when_full(info: bytes) -> str:
    """How a script begins that may write when memory is full; "" for servers without flags."""
    found = re.search(rb"^redis_version:(\d+)", info, re.MULTILINE)
    return "#!lua flags=allow-oom\n" if found and int(found[1]) >= _FLAGS_SINCE else ""


def role(info: Info) -> Finding:
    """Whether the server takes writes."""
    if info.get("role") in ("slave", "replica"):
        primary = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        return Finding(
            "role", "fail", f"a read-only replica of {primary}", f"connect to the primary {primary}"
        )
    return Finding("role", "ok", f"primary with {info.get('connected_slaves', 0)} replicas")


def eviction(info: Info) -> Finding:
    """Whether the server may throw data away."""
    policy, limit = str(info.get("maxmemory_policy", "unknown")), int(info.get("maxmemory", 0))
    if policy == "noeviction":
        return Finding("eviction", "ok", "noeviction: nothing is thrown away")
    advice = "set maxmemory-policy to noeviction: an error is better than a forgotten session"
    if policy == "unknown":
        return Finding("eviction", "note", "the policy is not visible", advice)
    if not limit:
        return Finding("eviction", "warn", f"{policy}, without a memory limit yet", advice)
    return Finding("eviction", "fail", f"{policy}: sessions vanish when memory is full", advice)


def memory(info: Info) -> Finding:
    """How full the server is."""
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not limit:
        return Finding("memory", "ok", f"{size(used)} used, no limit")
    detail = f"{size(used)} of {size(limit)} used"
    if used > limit * _NEARLY_FULL:
        return Finding("memory", "warn", detail, "make room or raise maxmemory before writes fail")
    return Finding("memory", "ok", detail)


def share_of_memory(reply: Any) -> float | None:
    """How much of its memory a server uses, from what `INFO memory` answers; None: not told."""
    if not isinstance(reply, bytes):
        return None
    info = _parsed(reply.decode(errors="replace"))
    room = int(info.get("maxmemory") or info.get("total_system_memory") or 0)
    return int(info.get("used_memory", 0)) / room if room else None


def persistence(info: Info, settings: dict[str, str]) -> Finding:
    """What survives the end of the server."""
    if info.get("loading"):
        return Finding("persistence", "warn", "the server is still loading its data", "wait")
    for name in ("aof_last_write_status", "rdb_last_bgsave_status"):
        if str(info.get(name, "ok")) != "ok":
            return Finding(
                "persistence",
                "fail",
                f"the server could not save ({name} is {info[name]})",
                "look for a full or read-only disk on the server; writes may be refused",
            )
    if info.get("aof_enabled"):
        fsync = settings.get("appendfsync", "")
        lost = {"always": "nothing", "everysec": "the last second", "no": "the last half minute"}
        detail = f"append-only file{f', appendfsync {fsync}' if fsync else ''}"
        if fsync in lost:
            detail += f": a power cut loses {lost[fsync]}"
        return Finding("persistence", "ok", detail)
    advice = "set appendonly yes, unless losing recent sessions is acceptable"
    if "save" in settings and not settings["save"]:
        return Finding("persistence", "warn", "none: a restart loses everything", advice)
    detail = "snapshots only: a crash loses what came after the last one"
    return Finding("persistence", "warn", detail, advice)


def torn_tail(info: Info, settings: dict[str, str]) -> list[Finding]:
    """Whether a crash in the middle of a write may show at the start after the next."""
    name, _, found = _version(info)
    mended = name == "Valkey" and found >= _MENDS_TORN_TAIL
    if not info.get("aof_enabled") or mended or settings.get("aof-load-truncated") == "no":
        return []
    advice = {
        "Redis": "after a crash run redis-check-aof --fix before the start, or BGREWRITEAOF after",
        "Valkey": "upgrade to 9.1.2, or run BGREWRITEAOF after a crash",
    }
    detail = "a write that a crash cut in two may be replayed in part at the second start"
    return [Finding("append-only file", "note", detail, advice[name])]


def coverage(info: Info, settings: dict[str, str]) -> list[Finding]:
    """Whether one failed primary of a cluster stops the others."""
    if not info.get("cluster_enabled") or settings.get(_COVERAGE) != "yes":
        return []
    detail = "while one primary is down, the others answer nothing either"
    advice = f"set {_COVERAGE} no: sessions elsewhere need not suffer"
    return [Finding("cluster", "note", detail, advice)]
