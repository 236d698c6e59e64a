"""What the stored data classes share: lossless dicts, and reading them like dicts."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from datetime import datetime
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, get_args, get_origin
from typing import get_type_hints as type_hints

from aiecs.core.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNSET = object()


class Record:
    """Base of a dataclass that is stored and may gain fields in later versions.

    `record["name"]` and `record.get("name")` read a field in the form it has in
    `to_dict()`: times as ISO 8601 text. Keys that `from_dict` does not know are kept
    beside the fields and come back from `to_dict`; they take no part in equality.
    """

    __slots__ = ("_unknown",)
    _unknown: dict[str, Any]

    always: ClassVar[frozenset[str]] = frozenset()
    """Fields that `to_dict` gives even when they have their default."""

    def to_dict(self) -> dict[str, Any]:
        """A dict that `from_dict` turns back into an equal record.

        Holds the fields of the specification, those that differ from their default,
        and unknown keys. Times are ISO 8601 text; dicts and lists are copies.
        """
        layout = _layout(type(self))
        found: dict[str, Any] = {}
        for name, left_out in layout.left_out:
            value = getattr(self, name)
            if value is not left_out and value != left_out:
                found[name] = value.isoformat() if name in layout.times else copied(value)
        if hasattr(self, "_unknown"):
            found |= copied(self._unknown)
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record that `data` describes; times may be datetimes or ISO 8601 text.

        Takes over the dicts and lists inside `data`. `InvalidInputError` if a field
        is missing or of the wrong type.
        """
        layout = _layout(cls)
        known: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for name, value in data.items():
            if name not in layout.kinds:
                unknown[name] = value
            elif isinstance(value, layout.kinds[name]):
                known[name] = value
            else:
                raise InvalidInputError(f"{cls.__name__}.{name} may not be {type(value).__name__}")
        if not layout.required <= known.keys():
            missing = ", ".join(sorted(layout.required - known.keys()))
            raise InvalidInputError(f"{cls.__name__} lacks {missing}")
        made = cls(**known)
        if unknown:
            made._unknown = unknown
        return made

    @property
    def unknown_fields(self) -> dict[str, Any]:
        """What `from_dict` met and does not know, by name (a copy; empty if nothing)."""
        return dict(getattr(self, "_unknown", {}))

    def __getitem__(self, name: str) -> Any:
        layout = _layout(type(self))
        if name not in layout.kinds:
            return self.unknown_fields[name]
        value = getattr(self, name)
        return value.isoformat() if name in layout.times else value

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def get(self, name: str, default: Any = None) -> Any:
        """The field as `record[name]` gives it, `default` if there is no such name."""
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> list[str]:
        """Every name that `record[name]` accepts, so that `dict(record)` works."""
        return [*_layout(type(self)).kinds, *self.unknown_fields]


class _Layout(NamedTuple):
    kinds: dict[str, tuple[type, ...]]
    times: frozenset[str]
    required: frozenset[str]
    left_out: tuple[tuple[str, Any], ...]


_layouts: dict[type[Record], _Layout] = {}


def _layout(cls: type[Record]) -> _Layout:
    found = _layouts.get(cls)
    return found if found is not None else _layouts.setdefault(cls, _read_layout(cls))


def _read_layout(cls: Any) -> _Layout:
    hints = type_hints(cls)
    every = {field.name: _default(field) for field in fields(cls)}
    required = {name for name, default in every.items() if default is _UNSET}
    return _Layout(
        kinds={name: _kinds(hints[name], default) for name, default in every.items()},
        times=frozenset(name for name in every if hints[name] is datetime),
        required=frozenset(required),
        left_out=tuple((n, _UNSET if n in cls.always else default) for n, default in every.items()),
    )


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return _UNSET if field.default_factory is MISSING else field.default_factory()


def _kinds(hint: Any, default: Any) -> tuple[type, ...]:
    """The types that `from_dict` accepts for a field: its own, and what stands for it in JSON."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds = {object if part is Any else get_origin(part) or part for part in parts}
    if datetime in kinds:
        kinds.add(str)
    if float in kinds:
        kinds.add(int)
    if default is None:
        kinds.add(type(None))
    return tuple(kinds)


def copied(value: Any) -> Any:
    """A copy of nested dicts and lists; everything else inside is shared."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [copied(inner) for inner in value]
    return value
