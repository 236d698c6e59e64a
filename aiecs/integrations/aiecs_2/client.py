"""What may be asked of the old server: reads only, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import TimeoutError as NoAnswerError

from aiecs.core.errors import (
    InvalidInputError,
    StoreAuthError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)

Reply = TypeVar("Reply")
Problem = Callable[[str, str], None]
"""Called with where something lies and what is wrong with it; what it holds is not told."""

_PAGE = 100
_KEYS_AT_ONCE = 1_000
_ANSWER_WITHIN = 30.0
_EXPECTED = (
    "the old data lies at redis://, rediss:// (TLS) or unix://, [user:password@]host:port/db"
)
_SCHEMES = {"valkey": "redis", "valkeys": "rediss", "redis+unix": "unix"}


def client_of(url: str) -> Any:
    """A client for a `redis://`, `rediss://` or `unix://` address; the caller closes it.

    `InvalidInputError` for any other address, and for options that redis-py does not know.
    """
    scheme, _, rest = url.partition("://")
    plain = f"{_SCHEMES.get(scheme, scheme)}://{rest}"
    try:
        database = "" if plain.startswith("unix:") else urlsplit(plain).path.strip("/")
        client: Any = Redis.from_url(
            plain,
            decode_responses=False,
            socket_timeout=_ANSWER_WITHIN,
            socket_connect_timeout=_ANSWER_WITHIN,
        )
        client.connection_pool.make_connection()  # does not connect, but takes the options
    except (ValueError, TypeError):
        # Without what it says: it may quote a part of the password.
        raise InvalidInputError(_EXPECTED) from None
    if database and not database.isdigit():  # redis-py would take the first database
        raise InvalidInputError(_EXPECTED)
    return client


class Pages:
    """Reads of one server. `StoreError` when it cannot answer.

    A key that holds another type than 2.2.0 gives it is told to `on_problem` and read as empty.
    """

    def __init__(self, client: Redis, on_problem: Problem) -> None:
        self._client: Any = (
            client  # redis-py's types say that half of its replies may not be awaited
        )
        self._on_problem = on_problem

    async def length(self, key: str) -> int:
        """How many fields a hash has."""
        return await self._of(key, self._client.hlen(key), 0)

    async def fields(self, key: str) -> AsyncGenerator[list[tuple[bytes, bytes]], None]:
        """A hash in pages; what lies in it all the time comes at least once."""
        cursor = 0
        while True:
            asked = self._client.hscan(key, cursor, count=_PAGE)
            cursor, found = await self._of(key, asked, (0, {}))
            if found:
                yield list(found.items())
            if not cursor:
                return

    async def values(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        """Fields of a hash, None for each that is not there."""
        if not names:
            return []
        return await self._of(key, self._client.hmget(key, names), [None] * len(names))

    async def chosen(
        self, key: str, names: Sequence[str]
    ) -> AsyncIterator[tuple[str, bytes | None]]:
        """Fields of a hash in the order of `names`, read in pages."""
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]
            for pair in zip(page, await self.values(key, page), strict=True):
                yield pair

    async def missing(self, key: str, names: Sequence[str]) -> list[str]:
        """Which of the names are no field of a hash."""
        found: list[str] = []
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]
            there = await self._of(key, self._there(key, page), [False] * len(page))
            found += [name for name, known in zip(page, there, strict=True) if not known]
        return found

    async def _there(self, key: str, names: Sequence[str]) -> list[bool]:
        batch = self._client.pipeline(transaction=False)
        for name in names:
            batch.hexists(key, name)
        replies: list[Any] = await batch.execute(raise_on_error=False)
        for failure in replies:
            if isinstance(failure, Exception):  # as the server said it: a pipeline's has the name
                raise failure
        return [bool(reply) for reply in replies]

    async def items(self, key: str) -> list[bytes]:
        """A list as LRANGE gives it, read in pages from its tail, which pushes do not move."""
        pages: list[list[bytes]] = []
        while not pages or pages[-1]:
            stop = -1 - len(pages) * _PAGE
            asked = self._client.lrange(key, stop + 1 - _PAGE, stop)
            pages.append(await self._of(key, asked, []))
        return [item for page in reversed(pages) for item in page]

    async def keys(self) -> AsyncIterator[list[bytes]]:
        """The names of all keys, in pages; some may come twice."""
        cursor = 0
        while True:
            with _told():
                cursor, found = await self._client.scan(cursor, count=_KEYS_AT_ONCE)
            yield found
            if not cursor:
                return

    async def _of(self, key: str, asked: Awaitable[Reply], otherwise: Reply) -> Reply:
        try:
            with _told():
                return await asked
        except ResponseError:
            self._on_problem(key, "is of another type than aiecs 2.2.0 gives it")
            return otherwise


@contextmanager
def _told() -> Iterator[None]:
    """The server's failures in the words of ours; a wrong type stays what it is."""
    try:
        yield
    except (AuthenticationError, NoPermissionError) as error:
        raise StoreAuthError(f"the old server refuses: {error}") from None
    except NoAnswerError:
        raise StoreTimeoutError("the old server did not answer in time") from None
    except ConnectionLostError as error:
        raise StoreUnavailableError(f"the old server cannot be reached: {error}") from None
    except ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            _misconfigured(error)
        raise
    except RedisError as error:
        _misconfigured(error)


def _misconfigured(error: Exception) -> NoReturn:
    raise StoreMisconfiguredError(f"the old server refuses: {error}") from None
