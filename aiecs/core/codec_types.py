"""The classes that stored values may hold beside the built-in ones: a closed registry."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum, Flag
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aiecs.core.errors import CorruptRecordError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class TypeEntry(NamedTuple):
    """How one class is stored: `load(dump(value))` equals `value`."""

    cls: type
    name: str
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


_by_class: dict[type, TypeEntry] = {}
_by_name: dict[str, TypeEntry] = {}


def register_type(
    cls: type[T],
    name: str | None = None,
    *,
    dump: Callable[[T], Any] | None = None,
    load: Callable[[Any], T] | None = None,
) -> type[T]:
    """Let `encode` and `decode` handle values of exactly the class `cls`; returns `cls`.

    Dataclasses, pydantic models, enums and named tuples need nothing more; also as a
    decorator: `@register_type`. Their instances are restored field by field: `__init__`,
    `__post_init__` and validators do not run, a field added since gets its default.
    For any other class give `dump` (to a value that can be encoded) and `load` (back).

    `name` is what the stored bytes say; it must stay the same while they exist. Default:
    module and qualified name. `InvalidInputError` if another class has it, or if `cls`
    needs `dump` and `load`.
    """
    if (dump is None) != (load is None):
        raise InvalidInputError("register_type takes dump and load together")
    name = name or _path(cls)
    taken = _by_name.get(name)
    # The same path again is the same class, defined anew (a notebook cell, a reload).
    if taken is not None and taken.cls is not cls and _path(taken.cls) != _path(cls):
        raise InvalidInputError(f"{name!r} is already the name of {_path(taken.cls)}")
    entry = TypeEntry(cls, name, dump, load) if dump and load else _derive(cls, name)
    _by_class[cls] = _by_name[name] = entry
    return cls


def entry_of(cls: type) -> TypeEntry | None:
    """How `cls` is stored, None if it is not registered."""
    return _by_class.get(cls)


def entry_named(name: str) -> TypeEntry | None:
    """The class that stored bytes call `name`, None if it is not registered."""
    return _by_name.get(name)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _derive(cls: Any, name: str) -> TypeEntry:
    if issubclass(cls, Flag):
        return TypeEntry(cls, name, lambda value: value.value, cls)
    if issubclass(cls, Enum):
        return TypeEntry(cls, name, lambda value: value.name, lambda stored: cls[stored])
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return TypeEntry(cls, name, list, lambda stored: cls._make(_a_list(stored)))
    if is_dataclass(cls) and _is_bare(cls):
        return _dataclass_entry(cls, name)
    if hasattr(cls, "__pydantic_fields__"):
        return _pydantic_entry(cls, name)
    raise InvalidInputError(f"register_type needs dump and load for {_path(cls)}")


def _a_list(stored: Any) -> list[Any]:
    if isinstance(stored, list):
        return stored
    raise CorruptRecordError("stored named tuple is no list")


def _is_bare(cls: Any) -> bool:
    """Whether an instance is nothing but its fields (not a dict or an exception as well)."""
    try:
        object.__new__(cls)
    except TypeError:
        return False
    return True


def _dataclass_entry(cls: Any, name: str) -> TypeEntry:
    every = fields(cls)

    def dump(value: Any) -> dict[str, Any]:
        return {field.name: getattr(value, field.name) for field in every}

    def load(stored: dict[str, Any]) -> Any:
        _refuse_unknown(cls, stored, (field.name for field in every))
        made = object.__new__(cls)
        for field in every:
            found = stored[field.name] if field.name in stored else _default(cls, field)
            object.__setattr__(made, field.name, found)
        return made

    return TypeEntry(cls, name, dump, load)


def _default(cls: type, field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    raise CorruptRecordError(f"stored {_path(cls)} lacks {field.name}")


def _pydantic_entry(cls: Any, name: str) -> TypeEntry:
    def dump(value: Any) -> dict[str, Any]:
        state = value.__getstate__()
        known = state["__dict__"]
        return {
            "fields": {field: known[field] for field in cls.__pydantic_fields__ if field in known},
            "set": sorted(state["__pydantic_fields_set__"]),
            "extra": state["__pydantic_extra__"],
            "private": state["__pydantic_private__"],
        }

    def load(stored: dict[str, Any]) -> Any:
        found = dict(stored["fields"])
        _refuse_unknown(cls, found, cls.__pydantic_fields__)
        for field, about in cls.__pydantic_fields__.items():
            if field not in found:
                found[field] = _pydantic_default(cls, field, about, found)
        made = cls.__new__(cls)
        made.__setstate__(
            {
                "__dict__": found,
                "__pydantic_fields_set__": set(stored["set"]),
                "__pydantic_extra__": stored["extra"],
                "__pydantic_private__": stored["private"],
            }
        )
        return made

    return TypeEntry(cls, name, dump, load)


def _pydantic_default(cls: type, field: str, about: Any, others: dict[str, Any]) -> Any:
    if about.is_required():
        raise CorruptRecordError(f"stored {_path(cls)} lacks {field}")
    return about.get_default(call_default_factory=True, validated_data=others)


def _refuse_unknown(cls: type, stored: dict[str, Any], known: Iterable[str]) -> None:
    unknown = stored.keys() - set(known)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise CorruptRecordError(f"{_path(cls)} has no field {names}, which is stored")
