"""Logins that are wrong or may do too little: told apart from every other failure, and by name."""

from __future__ import annotations

import pytest
from support import servers as real
from support.redis_starts import start
from support.redis_store import adding, batch, creating, items, opened

from aiecs.core.errors import StoreAuthError
from aiecs.core.interface.store import Get
from aiecs.infrastructure.persistence.stores.redis import RedisStore

NEEDED = (
    "+time +multi +exec +eval +evalsha +exists +hget +hmget +hset +hdel +hlen +hgetall +hrandfield"
    " +rpush +llen +lrange +del +ltrim +lset +unlink +zadd +zrem +zscore +zcard +zcount +zrange"
    " +pexpireat +persist"
)


@pytest.fixture(scope="module", params=real.names())
def guarded(request, pytestconfig):
    """A server with a password, and users of different rights."""
    with real.running() as servers:
        server = servers.start(request.param)
        users = {
            "reader": "+@read +@connection +eval +evalsha +time ~*",
            "elsewhere": "+@all ~other:*",
            "nothing": "",
            "no-unlink": "+@all -unlink ~*",
            "no-eval": "+@all -eval -evalsha ~*",
            "lean": f"+@connection +script|load {NEEDED} ~lean:*",
            "minimal": f"+ping +select +auth {NEEDED} ~minimal:*",
        }
        for user, rights in users.items():
            made = server.command("ACL", "SETUSER", user, "on", ">secret", "-@all", *rights.split())
            assert made == b"+OK\r\n"
        assert server.command("CONFIG", "SET", "requirepass", "right") == b"+OK\r\n"
        yield server


@pytest.mark.parametrize(
    "login",
    [
        ":wrong@",
        "",
        "nobody:secret@",
        "reader:secret@",
        "elsewhere:secret@",
        "nothing:secret@",
        "no-unlink:secret@",
        "no-eval:secret@",
    ],
)
async def test_wrong_credentials_and_missing_rights(guarded, login):
    error = await start(f"redis://{login}127.0.0.1:{guarded.port}/0")
    assert type(error) is StoreAuthError
    assert not error.retryable
    assert "secret" not in str(error)
    assert "wrong" not in str(error)


async def test_what_a_user_lacks_is_named(guarded):
    error = await start(f"redis://no-unlink:secret@127.0.0.1:{guarded.port}/0")
    assert "unlink" in str(error)


async def test_a_password_where_none_is_wanted(server):
    assert type(await start(f"redis://:secret@127.0.0.1:{server.port}/0")) is StoreAuthError


@pytest.mark.parametrize("user", ["lean", "minimal"])
async def test_a_user_with_no_more_than_is_needed(guarded, user):
    """No administration, no KEYS, no INFO; the second not even CLIENT or SCRIPT."""
    url = f"redis://{user}:secret@127.0.0.1:{guarded.port}/0"
    async with opened(url, f"{user}:") as store:
        await store.apply(creating())
        await store.apply(adding(b"x"))
        assert await items(store) == [b"x"]
        written, _ = await store.apply(batch(Get("", ("l",)), Get("m")))
        assert int(written[0])


async def test_rights_taken_away_in_use(guarded, prefix):
    guarded_user = ("ACL", "SETUSER", "brief", "on", ">secret", "+@all", "~*")
    await admin(guarded, *guarded_user)
    async with opened(f"redis://brief:secret@127.0.0.1:{guarded.port}/0", prefix) as store:
        await store.apply(creating())
        await admin(guarded, "ACL", "SETUSER", "brief", "-evalsha", "-eval", "-hmget", "-multi")
        for call in (adding(b"x"), batch(Get("", ("l",)))):
            with pytest.raises(StoreAuthError) as caught:
                await store.apply(call)
            assert caught.value.outcome == "not_applied"
        await admin(guarded, "ACL", "SETUSER", "brief", "+@all")
        await store.apply(adding(b"y"))
        assert await items(store) == [b"y"]


async def admin(server, *words):
    store = RedisStore.from_url(f"redis://:right@127.0.0.1:{server.port}/0")
    await store.command(*words)
    await store.close()
