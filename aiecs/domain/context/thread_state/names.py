"""Names: of a checkpoint in its thread, and of what it is made of, by its content.

Contents are named by a keyed digest (BLAKE2b, 96 bits) under a key that each thread has for itself:
equal values have equal names within a thread and nowhere else, and nobody without the key can make
two values that meet.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from hashlib import blake2b

from aiecs.core.ids import check_id
from aiecs.core.keys import escape, unescape

NAME_CHARACTERS = 16
_DIGEST_BYTES = 12
_KEY_BYTES = 16
# Neither a field that `field_of` makes nor a member of the other things in the index begins so.
_MARK = "://"
_MAX_NAMESPACE_BYTES = 4096


def new_key() -> bytes:
    """The key of a new thread."""
    return secrets.token_bytes(_KEY_BYTES)


def name_of(content: bytes | memoryview, key: bytes) -> str:
    """The name of a content: 16 ASCII characters."""
    return urlsafe_b64encode(blake2b(content, digest_size=_DIGEST_BYTES, key=key).digest()).decode()


def names_in(joined: str) -> list[str]:
    """Names that stand one behind the other."""
    return [joined[at : at + NAME_CHARACTERS] for at in range(0, len(joined), NAME_CHARACTERS)]


def space_of(namespace: str | None) -> str:
    """What the members of a namespace (None: of all) begin with; their ids follow, in order."""
    if namespace is None:
        return _MARK
    if namespace:
        check_id(namespace, "checkpoint_ns", _MAX_NAMESPACE_BYTES)
    return f"{_MARK}{escape(namespace)}/"


def member_of(namespace: str, checkpoint_id: str) -> str:
    """The member of the index, and field of the maps, that stands for a checkpoint."""
    return space_of(namespace) + check_id(checkpoint_id, "checkpoint_id")


def parts_of(member: str) -> tuple[str, str]:
    """Namespace and checkpoint id of a member."""
    namespace, _, checkpoint_id = member.removeprefix(_MARK).partition("/")
    return unescape(namespace), checkpoint_id
