"""What `aiecs` promises is what it has: no more, no less."""

from __future__ import annotations

import types

import pytest

import aiecs


def test_the_public_names_are_sorted_and_unique():
    assert list(aiecs.__all__) == sorted(set(aiecs.__all__))


def test_every_public_name_can_be_imported():
    missing = [name for name in aiecs.__all__ if not hasattr(aiecs, name)]

    assert missing == []


def test_dir_offers_the_public_names():
    assert set(aiecs.__all__) <= set(dir(aiecs))


def test_nothing_public_is_left_out():
    for name in aiecs.__all__:  # what is loaded late shows itself only once it was asked for
        getattr(aiecs, name)

    public = {
        name
        for name, value in vars(aiecs).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }

    assert public - {"annotations"} <= set(aiecs.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(aiecs, "no_such_name")  # noqa: B009 - a plain access would be a type error
