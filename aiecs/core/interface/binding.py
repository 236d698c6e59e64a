"""Filling the values of a call into the operations of a plan, prepared once per plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiecs.core.interface.operations import Arg

if TYPE_CHECKING:
    from aiecs.core.interface.operations import Op

Binder = Callable[[Sequence[Any]], tuple["Op", ...]]
_Filler = Callable[[Sequence[Any]], Any]


def binder(ops: tuple[Op, ...]) -> Binder:
    """A function that gives `ops` with every `Arg` replaced by the value at its position."""
    holes = _holes(list(enumerate(ops)))

    def bind(args: Sequence[Any]) -> tuple[Op, ...]:
        bound = list(ops)
        for number, fill in holes:
            bound[number] = fill(args)
        return tuple(bound)

    return bind


def _holes(parts: list[tuple[Any, Any]]) -> list[tuple[Any, _Filler]]:
    """Where values are to be filled in; whatever holds no `Arg` is left out, to be shared."""
    fillers = [(place, _filler(value)) for place, value in parts]
    return [(place, fill) for place, fill in fillers if fill is not None]


def _filler(value: Any) -> _Filler | None:
    if type(value) is Arg:
        position = value.position
        return lambda args: args[position]
    if isinstance(value, tuple):
        return _tuple_filler(value)
    if type(value) is dict:
        return _dict_filler(value)
    return None


def _tuple_filler(value: tuple[Any, ...]) -> _Filler | None:
    holes = _holes(list(enumerate(value)))
    if not holes:
        return None
    kind = type(value)
    parts = list(value)

    def fill(args: Sequence[Any]) -> Any:
        copy = parts.copy()
        for index, part in holes:
            copy[index] = part(args)
        # Not the constructor: that of a NamedTuple takes its fields one by one and is slower.
        return tuple.__new__(kind, copy)

    return fill


def _dict_filler(value: dict[str, Any]) -> _Filler | None:
    holes = _holes(list(value.items()))
    if not holes:
        return None

    def fill(args: Sequence[Any]) -> Any:
        copy = value.copy()
        for name, part in holes:
            copy[name] = part(args)
        return copy

    return fill
