"""The scripts of one store: text and SHA-1 of each shape met so far."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from aiecs.infrastructure.persistence.stores.redis.script import Shape, dynamic_source

_KEPT = 256

# What scripts and reads call, each with arguments enough to find its key. A user who lacks one
# would stop a script half-way; Redis 6 cannot be asked.
_CALLS = (
    "del K|exists K|hdel K f|hget K f|hgetall K|hlen K|hmget K f|hrandfield K 1|hset K f v|llen K"
    "|lrange K 0 0|lset K 0 v|ltrim K 0 0|persist K|pexpireat K 1|rpush K v|time|unlink K"
    "|zadd K 0 m|zcard K|zcount K 0 0|zrange K 0 0|zrem K m|zscore K m|evalsha s 1 K|multi|exec"
)
PERMISSIONS = f"""local lacking={{}}
if redis.acl_check_cmd then for call in string.gmatch('{_CALLS}','[^|]+') do local words={{}}
for word in string.gmatch(call,'%S+') do words[#words+1]=word=='K' and ARGV[1] or word end
if not redis.acl_check_cmd(unpack(words)) then lacking[#lacking+1]=words[1] end end end
return lacking"""


class Script(NamedTuple):
    """A script and the name the server knows it by."""

    sha: str
    text: str


class Scripts:
    """Compiles each shape once. Those of plans stay; of the others the latest ones."""

    def __init__(self) -> None:
        #: The line that every script begins with, "" for none.
        self.opening = ""
        self._by_shape: dict[Shape, Script] = {}
        self._of_plans: dict[str, Script] = {}

    def of(self, shape: Shape) -> Script:
        """The script of a shape of arguments."""
        found = self._by_shape.get(shape)
        if found is None:
            if len(self._by_shape) >= _KEPT:
                self._by_shape.pop(next(iter(self._by_shape)), None)
            found = self._by_shape[shape] = script_of(self.opening + dynamic_source(shape))
        return found

    def add(self, text: str) -> Script:
        """Keep the script of a plan."""
        script = script_of(self.opening + text)
        return self._of_plans.setdefault(script.sha, script)

    def all(self) -> list[Script]:
        """Every script kept; a new connection loads them before anything else."""
        return [*self._of_plans.values(), *self._by_shape.values()]


def script_of(text: str) -> Script:
    """A script under the name that the server gives it."""
    return Script(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), text)
