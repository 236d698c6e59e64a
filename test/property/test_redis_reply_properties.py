"""Whatever a server sends: calls end with a typed error or an answer, and nothing else breaks."""

from __future__ import annotations

import asyncio
import contextlib

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.redis_starts import serving
from support.redis_store import adding, batch

from aiecs.core.errors import ContextEngineError
from aiecs.core.interface.store import Append, CorruptField, Get, GuardFailed, Read
from aiecs.infrastructure.persistence.stores.redis import RedisStore

WORDS = st.sampled_from(
    [
        *(b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"$3\r\nabc\r\n", b"_\r\n"),
        *(b"*1\r\n:2\r\n", b"*2\r\n:0\r\n:-2\r\n", b"*2\r\n:1\r\n*1\r\n:1\r\n", b"*9\r\n"),
        *(b"-MOVED 1 :1\r\n", b"-NOSCRIPT x\r\n", b"-LOADING\r\n", b"-ERR x\r\n", b"\r\n"),
        *(b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n", b"*2\r\n:1\r\n:1\r\n", b"*3\r\n:1\r\n:1\r\n:1\r\n"),
    ]
)
REPLIES = st.lists(st.one_of(WORDS, st.binary(max_size=20)), max_size=30)
# As a server answers a login and its questions: clock, mode, rights.
GREETING = b"+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n$17\r\ncluster_enabled:0\r\n*0\r\n"
DECLARED = (ContextEngineError, GuardFailed, CorruptField)


@given(replies=REPLIES, greeted=st.booleans(), extra=st.integers(0, 3))
@example(replies=[b":1\r\n"] * 30, greeted=True, extra=0)
@settings(max_examples=80, deadline=None)
def test_any_reply_ends_in_an_answer_or_a_typed_error(replies, greeted, extra):
    async def answer(reader, writer):
        if greeted:
            writer.write(GREETING)
        for reply in replies:
            await asyncio.wait_for(reader.read(1), 0.2)
            writer.write(reply * (extra + 1))
            await writer.drain()
        await reader.read()

    async def story():
        broken = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: broken.append(about))
        async with serving(answer) as port:
            store = RedisStore.from_url(f"redis://127.0.0.1:{port}", timeout=0.15)
            calls = [
                store.ping(),
                store.apply(batch(Get(""), Read("m"))),
                store.apply(batch(Append("m", (b"x",)))),
                store.apply(adding(b"y")),
            ]
            for told in await asyncio.gather(*calls, return_exceptions=True):
                assert not isinstance(told, Exception) or isinstance(told, DECLARED), repr(told)
            with contextlib.suppress(ContextEngineError):
                await store.close()
        assert not broken, broken

    asyncio.run(asyncio.wait_for(story(), 20))
