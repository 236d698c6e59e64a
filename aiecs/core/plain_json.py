"""Plain JSON: what counts as it, what it is written as, and what text UTF-8 cannot hold."""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec

from aiecs.core.errors import CorruptRecordError, InvalidInputError

MAX_BYTES = 8 * 1024 * 1024
MAX_JSON_BYTES = 1024 * 1024
MAX_DEPTH = 64

_ATOMS = frozenset({str, int, bool, type(None)})
_FLOATS = frozenset({float})
_LONG = 24

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def check_json(value: Any, what: str, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """`value` if it is plain JSON, for metadata and the like; tuples come back as lists.

    `InvalidInputError`, naming the place inside `what`, for anything else: keys that are
    not `str`, floats that are not finite, more than 64 levels, any other class, surely
    more than `max_bytes`. Subclasses of the JSON types (a `StrEnum`, an `OrderedDict`)
    come back as the type itself.
    """
    if is_plain(value, max_bytes=max_bytes):
        return value
    return _PlainCopy(what, max_bytes).of(value, what, 0)


def is_plain(value: Any, *, max_bytes: int = MAX_BYTES, but_key: str | None = None) -> bool:
    """Whether `value` is JSON as it stands, and no dict in it has the key `but_key`.

    Exact types, finite floats, at most 64 levels, and not surely more than `max_bytes`
    (shared containers can make a small object endless JSON).
    """
    # Each value takes two bytes with its separator.
    return _scan([value], MAX_DEPTH, max_bytes // 2 + 2, but_key) >= 0


# Every stored value passes here: one function, one loop, and C loops where they pay.
def _scan(  # noqa: C901, PLR0911, PLR0912
    container: Any, depth: int, room: int, but_key: str | None
) -> int:
    """How much of `room` is left after `container`; negative if it is not plain JSON."""
    size = len(container)
    room -= size
    if room < 0 or depth < 0:
        return -1
    if type(container) is dict:
        if but_key in container:
            return -1
        for key in container:
            if type(key) is not str:
                return -1
        container = container.values()
    if size > _LONG:
        kinds = set(map(type, container))
        if kinds <= _ATOMS:
            return room
        if kinds == _FLOATS:
            return room if all(map(isfinite, container)) else -1
    for value in container:
        kind = type(value)
        if kind is str or kind in _ATOMS:
            continue
        if kind is dict or kind is list:
            room = _scan(value, depth - 1, room, but_key)
            if room < 0:
                return -1
        elif kind is not float or not isfinite(value):
            return -1
    return room


def dump_json(value: Any, what: str = "value") -> tuple[bytes, bool]:
    """The JSON of a value that `check_json` has passed; `load_json` reads it.

    The second part tells whether a lone surrogate was replaced by U+FFFD.
    `InvalidInputError` for an integer of thousands of digits.
    """
    try:
        return _encoder.encode(value), False
    except UnicodeEncodeError:
        return _encoder.encode(_cleaned(value, what)), True
    except ValueError as error:
        raise InvalidInputError(f"{what}: {error}") from None


def load_json(data: bytes) -> Any:
    """The value that `data` is the JSON of; `CorruptRecordError` if it is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptRecordError(f"stored value is not JSON: {error}") from None


def clean_text(text: str) -> tuple[str, bool]:
    """`text` as UTF-8 can hold it, and whether that differs from what was given.

    A high and a low surrogate in a row become the character they mean, a lone one
    becomes U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), True
    return text, False


def _cleaned(value: Any, where: str) -> Any:
    if type(value) is str:
        return clean_text(value)[0]
    if type(value) is list:
        return [_cleaned(inner, where) for inner in value]
    if type(value) is not dict:
        return value
    pairs = [(clean_text(key)[0], _cleaned(inner, where)) for key, inner in value.items()]
    made = dict(pairs)
    if len(made) < len(pairs):
        raise InvalidInputError(f"{where} has keys that differ in lone surrogates only")
    return made


class _PlainCopy:
    """Makes plain JSON of what is nearly that, and names what is not."""

    def __init__(self, what: str, max_bytes: int) -> None:
        self._what = what
        self._max_bytes = max_bytes
        self._room = max_bytes // 2 + 2

    def of(self, value: Any, where: str, depth: int) -> Any:
        """The copy of `value`, which stands at `where` inside `depth` containers."""
        if value is None or isinstance(value, bool):
            return value
        # The methods of the type itself: an Enum member's own __str__ gives its name.
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int.__int__(value)
        if isinstance(value, float) and isfinite(value):
            return float.__float__(value)
        if isinstance(value, (list, tuple, dict)):
            return self._container(value, where, depth)
        why = f"is {value}" if isinstance(value, float) else f"is a {type(value).__name__}"
        raise InvalidInputError(f"{where} {why}, which JSON does not have")

    def _container(self, value: Any, where: str, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            # The place itself is 64 steps long: its beginning is what helps.
            raise InvalidInputError(f"{where:.60} ... is nested more than {MAX_DEPTH} levels deep")
        self._room -= len(value)
        if self._room < 0:
            raise InvalidInputError(f"{self._what} has more than {self._max_bytes} bytes")
        if not isinstance(value, dict):
            return [self.of(one, f"{where}[{i}]", depth + 1) for i, one in enumerate(value)]
        return {
            _text_key(key, where): self.of(one, f"{where}[{key!r:.60}]", depth + 1)
            for key, one in value.items()
        }


def _text_key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise InvalidInputError(f"{where} has the key {key!r:.60}; only str keys are allowed")
