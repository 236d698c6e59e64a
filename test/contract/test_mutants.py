"""The contract bites: a store that is broken on purpose fails the tests that cover its fault."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from contract.all_mutants import MUTANTS

from aiecs.infrastructure.persistence.stores.memory import MemoryStore
from aiecs.testing import Place, StoreContract


def cases(name: str) -> Iterator[dict[str, Any]]:
    """The arguments of every case of a test of the contract."""
    marks = [
        mark
        for mark in getattr(getattr(StoreContract, name), "pytestmark", [])
        if mark.name == "parametrize"
    ]
    for values in product(*(mark.args[1] for mark in marks)):
        found: dict[str, Any] = {}
        for mark, value in zip(marks, values, strict=True):
            names = mark.args[0]
            many = isinstance(names, tuple)
            found |= zip(names, value, strict=True) if many else {names: value}
        yield found


async def run(name: str, store: MemoryStore, arguments: dict[str, Any]) -> None:
    """Run one case of a test of the contract on a store."""
    suite = StoreContract()
    test = getattr(suite, name)
    given = {"store": store, "here": Place(store)}
    wanted = inspect.signature(test).parameters
    await test(**{key: value for key, value in given.items() if key in wanted}, **arguments)


async def bites(name: str, kind: type[MemoryStore]) -> bool:
    """Whether at least one case of the test fails."""
    for arguments in cases(name):
        try:
            await run(name, kind(), arguments)
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - any of them fails a test
            return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_the_contract_catches(mutant):
    kind, tests = MUTANTS[mutant]

    assert {test: await bites(test, kind) for test in tests} == dict.fromkeys(tests, True)


async def test_the_healthy_store_passes_what_the_mutants_fail():
    tests = sorted({test for _, tests in MUTANTS.values() for test in tests})

    assert [test for test in tests if await bites(test, MemoryStore)] == []
