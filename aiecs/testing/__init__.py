"""Contract suites that other people's backends can inherit; needs pytest.

`StoreContract` is what a hot store has to keep.
"""

import pytest

# Before the modules are imported: their asserts then say what they compared.
pytest.register_assert_rewrite("aiecs.testing.store", "aiecs.testing.store_contract")

from aiecs.testing.store.place import ManualClock, Place  # noqa: E402
from aiecs.testing.store_contract import ClockContract, StoreContract  # noqa: E402

__all__ = ["ClockContract", "ManualClock", "Place", "StoreContract"]
