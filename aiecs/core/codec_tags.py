"""Tags: `{"~": [tag, payload]}` for values that JSON does not have."""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from uuid import UUID

import msgspec

from aiecs.core.codec_types import entry_named, entry_of
from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.plain_json import MAX_DEPTH, clean_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from aiecs.core.codec_types import TypeEntry

T = TypeVar("T")

TAG = "~"

# Python prints and reads no integer with more digits than a limit that may be as low as 640.
_LONG_INT_BITS = 2048

_sort_key = msgspec.json.Encoder().encode


class Tagger:
    """Turns one value into plain JSON, tags included; `what` names it in errors."""

    def __init__(self, what: str, max_bytes: int) -> None:
        self.replaced = False
        """Whether a lone surrogate became U+FFFD."""
        self._path: list[Any] = []
        self._room = max_bytes // 2 + 2  # each value takes two bytes with its separator
        self._what = what

    def tag(self, value: Any) -> Any:
        """The plain JSON for `value`; `InvalidInputError` if there is none."""
        kind = type(value)
        self._room -= 1
        if self._room < 0:
            self._refuse("makes the whole too large")
        if value is None or kind is bool:
            return value
        if kind is str:
            text, replaced = clean_text(value)
            self.replaced |= replaced
            return text
        if kind is int:
            return value if value.bit_length() <= _LONG_INT_BITS else {TAG: ["int", hex(value)]}
        if kind is float:
            return value if isfinite(value) else self._refuse(f"is {value}, not a finite number")
        if kind in _SCALARS:
            return self._scalar(value)
        return self._container(value)

    def _scalar(self, value: Any) -> Any:
        name, dump = _SCALARS[type(value)]
        try:
            return {TAG: [name, dump(value)]}
        except InvalidInputError as error:
            return self._refuse(str(error))

    def _container(self, value: Any) -> Any:
        if len(self._path) >= MAX_DEPTH:
            self._refuse(f"is nested more than {MAX_DEPTH} levels deep")
        kind = type(value)
        if kind is list:
            return self._items(value)
        if kind is dict:
            return self._dict(value)
        if kind is tuple:
            return {TAG: ["tuple", self._items(value)]}
        if kind is set or kind is frozenset:
            return {TAG: [kind.__name__, self._set(value)]}
        entry = entry_of(kind)
        return self._registered(entry, value) if entry else self._refuse_class(kind)

    def _items(self, values: Any) -> list[Any]:
        path = self._path
        path.append(0)
        tagged = []
        for path[-1], value in enumerate(values):  # the place, should `tag` refuse
            tagged.append(self.tag(value))
        path.pop()
        return tagged

    def _dict(self, value: dict[Any, Any]) -> Any:
        keys = self._items(value)
        if self.replaced and len(set(map(_sort_key, keys))) < len(keys):
            self._refuse("has keys that differ in lone surrogates only")
        path = self._path
        path.append(None)
        inner = []
        for path[-1], one in value.items():
            inner.append(self.tag(one))
        path.pop()
        if TAG not in keys and all(type(key) is str for key in value):
            return dict(zip(keys, inner, strict=True))
        return {TAG: ["dict", [list(pair) for pair in zip(keys, inner, strict=True)]]}

    def _set(self, value: Any) -> list[Any]:
        tagged = self._items(value)
        if self.replaced and len(set(map(_sort_key, tagged))) < len(tagged):
            self._refuse("has items that differ in lone surrogates only")
        # Equal sets give equal bytes, whatever order they iterate in.
        return sorted(tagged, key=_sort_key)

    def _registered(self, entry: TypeEntry, value: Any) -> Any:
        path = self._path
        path.append(entry.cls.__name__)
        tagged = {TAG: [f"@{entry.name}", self.tag(entry.dump(value))]}
        path.pop()
        return tagged

    def _refuse_class(self, kind: type) -> NoReturn:
        self._refuse(
            f"is a {kind.__module__}.{kind.__qualname__}; for this class to be stored, call "
            f"aiecs.core.codec.register_type({kind.__name__}) wherever it is written or read"
        )

    def _refuse(self, why: str) -> NoReturn:
        place = "".join(f"[{step!r:.60}]" for step in self._path)
        raise InvalidInputError(f"{self._what}{place:.200} {why}")


def restore(value: Any) -> Any:
    """`value`, fresh from JSON, with every tag turned into what it stands for.

    `CorruptRecordError` for a tag that no `Tagger` writes or that names an unknown class.
    """
    if type(value) is list:
        for i, inner in enumerate(value):
            if type(inner) is dict or type(inner) is list:
                value[i] = restore(inner)
    elif type(value) is dict:
        if TAG in value:
            return _restore_tag(value)
        for name, inner in value.items():
            if type(inner) is dict or type(inner) is list:
                value[name] = restore(inner)
    return value


def _restore_tag(value: dict[str, Any]) -> Any:
    match value:
        case {"~": [str(name), payload], **rest} if not rest:
            load = _loader(name)
        case _:
            raise CorruptRecordError("stored value holds a malformed tag")
    payload = restore(payload)
    try:
        return load(payload)
    except (CorruptRecordError, RecursionError):
        raise
    except Exception as error:  # `load` may be the application's own
        raise CorruptRecordError(f"stored {name:.200} cannot be read") from error


def _loader(name: str) -> Callable[[Any], Any]:
    if not name.startswith("@"):
        if name in _LOADERS:
            return _LOADERS[name]
        raise CorruptRecordError(f"stored value holds the unknown tag {name:.60}")
    entry = entry_named(name[1:])
    if entry is None:
        raise CorruptRecordError(
            f"stored value holds a {name[1:]:.200}, which register_type has not made known"
        )
    return entry.load


def _a(kind: type[T], payload: Any) -> T:
    if type(payload) is kind:
        return payload
    raise CorruptRecordError("stored value holds a malformed tag")


def _dump_bytes(value: bytes | bytearray) -> str:
    return b64encode(value).decode()


def _load_bytes(payload: Any) -> bytes:
    return a2b_base64(_a(str, payload), strict_mode=True)


def _dump_complex(value: complex) -> list[float]:
    if not (isfinite(value.real) and isfinite(value.imag)):
        raise InvalidInputError(f"is {value}, not a finite number")
    return [value.real, value.imag]


def _load_complex(payload: Any) -> complex:
    real, imag = payload
    return complex(_a(float, real), _a(float, imag))


def _dump_datetime(value: datetime) -> Any:
    zone = value.tzinfo
    key = getattr(zone, "key", None) if type(zone).__name__ == "ZoneInfo" else None
    return [value.isoformat(), key, value.fold] if key or value.fold else value.isoformat()


def _load_datetime(payload: Any) -> datetime:
    if type(payload) is str:
        return datetime.fromisoformat(payload)
    text, key, fold = payload
    value = datetime.fromisoformat(text).replace(fold=fold)
    zone = _zone(key) if key in _zone_names() else None
    # A zone that this machine does not know: the offset keeps the instant.
    return value.replace(tzinfo=zone) if zone else value


@cache
def _zone_names() -> frozenset[str]:
    from zoneinfo import available_timezones

    return frozenset(available_timezones())


def _zone(key: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    # Only ever a name from the list: ZoneInfo looks others up as files and as packages.
    return ZoneInfo(key)


def _dump_time(value: time) -> list[Any]:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise InvalidInputError("is a time whose zone has no fixed offset")
    return [value.isoformat(), value.fold]


def _load_time(payload: Any) -> time:
    text, fold = payload
    return time.fromisoformat(text).replace(fold=fold)


def _dump_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _load_dict(payload: list[Any]) -> dict[Any, Any]:
    made = dict(payload)
    if len(made) < len(payload):
        raise CorruptRecordError("stored dict has a key twice")
    return made


_SCALARS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("bytes", _dump_bytes),
    bytearray: ("bytearray", _dump_bytes),
    complex: ("complex", _dump_complex),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
    datetime: ("datetime", _dump_datetime),
    date: ("date", date.isoformat),
    time: ("time", _dump_time),
    timedelta: ("timedelta", _dump_timedelta),
}

_LOADERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda payload: int(_a(str, payload), 16),
    "bytes": _load_bytes,
    "bytearray": lambda payload: bytearray(_load_bytes(payload)),
    "complex": _load_complex,
    "decimal": lambda payload: Decimal(_a(str, payload)),
    "uuid": lambda payload: UUID(_a(str, payload)),
    "datetime": _load_datetime,
    "date": date.fromisoformat,
    "time": _load_time,
    "timedelta": lambda payload: timedelta(*payload),
    "tuple": lambda payload: tuple(_a(list, payload)),
    "set": lambda payload: set(_a(list, payload)),
    "frozenset": lambda payload: frozenset(_a(list, payload)),
    "dict": lambda payload: _load_dict(_a(list, payload)),
}
