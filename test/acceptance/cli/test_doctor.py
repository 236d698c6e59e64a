"""`aiecs doctor`, on files and on real servers."""

from __future__ import annotations

import json
import sqlite3

import pytest
import redis
from support import servers as real
from support.cli import AGENTS, CHATS, SESSIONS, Cli, content


def test_doctor_on_a_file(cli: Cli):
    cli("import", CHATS)

    found = cli.json("doctor")

    assert found["ok"] is True
    checks = {one["check"]: one for one in found["findings"]}
    assert {"version", "settings", "name clash", "reachable", "latency", "persistence"} <= set(
        checks
    )
    assert all(one["level"] in ("ok", "warn") for one in found["findings"])
    assert (cli.directory / "data" / "aiecs" / "aiecs.db").exists()
    out, _ = cli("doctor")
    assert "ok   integrity" in out


def test_doctor_makes_no_file(cli: Cli):
    found = cli.json("doctor", "--store", "sqlite:///a.db")

    assert found["ok"] is True
    assert "not there yet" in next(o["detail"] for o in found["findings"] if o["check"] == "file")
    assert not (cli.directory / "a.db").exists()


def test_doctor_finds_a_damaged_file(cli: Cli):
    cli("import", CHATS, "--store", "sqlite:///a.db")
    file = cli.directory / "a.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(size // 2)
        stream.write(b"\xff" * (size // 4))

    found = cli.json("doctor", "--store", "sqlite:///a.db", code=1)

    assert found["ok"] is False


def test_doctor_says_what_to_do_when_nobody_answers(cli: Cli):
    found = cli.json("doctor", "--store", "redis://localhost:1", code=1)

    failed = [one for one in found["findings"] if one["level"] == "fail"]
    assert [one["check"] for one in failed] == ["reachable"]
    assert "is it running" in failed[0]["advice"]


@pytest.mark.parametrize("name", real.names())
def test_a_server(cli: Cli, servers: real.Servers, name: str):
    server = servers.start(name)
    store = ("--store", server.url)

    cli("import", CHATS, AGENTS, *store)
    exported = cli("export", *store)[0]
    cli("import", "-", "--store", "sqlite:///a.db", stdin=exported.encode())
    assert content(cli("export", "--store", "sqlite:///a.db")[0]) == content(exported)

    checks = {one["check"]: one for one in cli.json("doctor", *store)["findings"]}
    assert checks["server"]["level"] == "ok"
    assert checks["role"]["level"] == "ok"
    assert checks["eviction"]["detail"].startswith("noeviction")
    assert checks["persistence"]["level"] in ("ok", "warn")

    assert cli.json("demo", *store)["same"] is True
    assert cli("export", *store)[0].count('"type":"session"') == SESSIONS + 1


def test_doctor_fails_when_writes_are_refused(cli: Cli, servers: real.Servers):
    server = servers.start("valkey")
    cli("import", CHATS, "--store", server.url)
    server.command("CONFIG", "SET", "maxmemory", "1")

    found = cli.json("doctor", "--store", server.url, code=1)

    (failed,) = (one for one in found["findings"] if one["level"] == "fail")
    assert failed["check"] == "writes"
    assert "StoreFullError" in failed["detail"]
    assert "make room" in failed["advice"]


@pytest.mark.parametrize("name", real.names())
def test_a_user_who_may_not_ask_the_server(cli: Cli, servers: real.Servers, name: str):
    server = servers.start(name)
    with redis.Redis.from_url(server.url) as client:
        client.acl_setuser(
            "app",
            enabled=True,
            passwords=["+hunter2"],
            keys=["*"],
            categories=["+@all", "-@admin", "-@dangerous"],
        )

    store = server.url.replace("://", "://app:hunter2@")
    checks = {one["check"]: one for one in cli.json("doctor", "--store", store)["findings"]}

    assert checks["reachable"]["level"] == "ok"
    assert checks["server"]["level"] == "note"
    assert "hunter2" not in json.dumps(checks)
