"""Where the primary is that sentinels watch."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from redis.exceptions import RedisError

from aiecs.core.errors import StoreAuthError, StoreUnavailableError
from aiecs.infrastructure.persistence.stores.redis.address import Address
from aiecs.infrastructure.persistence.stores.redis.plain_client import sentinels_of
from aiecs.infrastructure.persistence.stores.redis.target import Target

# As redis-py lists what each sentinel said.
_REFUSED = re.compile(r"\b(Authentication\w*|Authorization|NoPermission)Error\b")


def locator(target: Target, timeout: float) -> Callable[[], Awaitable[Address]]:
    """Asks the sentinels one after the other, each for half of `timeout` (seconds) at most."""
    login = target.login or Address()

    async def locate() -> Address:
        asked = sentinels_of(target, timeout / 2)
        try:
            host, port = await asked.discover_master(target.primary)
        except RedisError as error:
            # Without what it says: it quotes the sentinels' login.
            if _REFUSED.search(str(error)):
                raise StoreAuthError(
                    f"the sentinels at {target.name} refuse the login or a command"
                ) from None
            raise StoreUnavailableError(
                f"no sentinel at {target.name} knows a primary of this name that is up"
            ) from None
        finally:
            for client in asked.sentinels:
                await client.aclose()
        return replace(login, host=str(host), port=int(port))

    return locate
