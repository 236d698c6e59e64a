"""What LangGraph's filters ask of a value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from aiecs.core.errors import InvalidInputError

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_KNOWN = {"$eq", "$ne", *_ORDER}


def check(wanted: Mapping[str, Any]) -> None:
    """`InvalidInputError` for what is no filter, and for an operator that there is not."""
    if not isinstance(wanted, Mapping):
        raise InvalidInputError(f"a filter is a dict, got {type(wanted).__name__}")
    for value in wanted.values():
        if isinstance(value, Mapping):
            unknown = [key for key in value if str(key).startswith("$") and key not in _KNOWN]
            if unknown:
                known = ", ".join(sorted(_KNOWN))
                raise InvalidInputError(f"a filter has no operator {unknown[0]}; it has {known}")
            check({key: inner for key, inner in value.items() if not str(key).startswith("$")})


def accepts(value: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether all fields of a filter hold of a value."""
    return all(_holds(value.get(field), asked) for field, asked in wanted.items())


def _holds(found: Any, asked: Any) -> bool:
    if isinstance(asked, Mapping):
        if any(str(key).startswith("$") for key in asked):
            return all(_compares(found, name, other) for name, other in asked.items())
        return isinstance(found, Mapping) and accepts(found, asked)
    if isinstance(asked, list | tuple):
        same_length = isinstance(found, list | tuple) and len(found) == len(asked)
        return same_length and all(map(_holds, found, asked))
    return bool(found == asked)


def _compares(found: Any, name: str, other: Any) -> bool:
    """Numbers are compared as numbers; what is no number is neither above nor below."""
    if name in _ORDER:
        try:
            return _ORDER[name](float(found), float(other))
        except (TypeError, ValueError, OverflowError):
            return False
    return bool(found == other) is (name == "$eq")
