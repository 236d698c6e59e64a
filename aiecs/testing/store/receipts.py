"""Receipts: a batch that is sent twice is applied once."""

# ruff: noqa: D102, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface import store as port
from aiecs.core.interface.store import (
    MAX_INTEGER,
    Append,
    Expire,
    Get,
    Incr,
    Put,
    Receipt,
    RequireEquals,
)
from aiecs.testing.store.place import Place, together

_COUNT = Incr("m", {"n": 1})


class ReceiptContract:
    """`Batch.receipt`."""

    async def test_the_same_receipt_applies_once(self, here: Place) -> None:
        await here.create()

        assert await here.send(_COUNT, receipt=Receipt("w", 5)) == [[1]]
        assert await here.send(_COUNT, receipt=Receipt("w", 5)) is None
        assert await here.send(Put("m", {"x": b"1"}), receipt=Receipt("w", 5)) is None
        assert await here.map() == {"n": b"1"}

    async def test_an_earlier_number_counts_as_applied(self, here: Place) -> None:
        await here.create()
        await here.do(_COUNT, receipt=Receipt("w", 100))

        for n in (0, 1, 9, 99, 100):
            assert await here.send(_COUNT, receipt=Receipt("w", n)) is None
        assert await here.send(_COUNT, receipt=Receipt("w", 101)) == [[2]]

    async def test_numbers_are_compared_as_numbers(self, here: Place) -> None:
        await here.create()

        for n in (9, 10, 99, 100, MAX_INTEGER - 1, MAX_INTEGER):
            assert await here.send(_COUNT, receipt=Receipt("w", n)) is not None
            assert await here.send(_COUNT, receipt=Receipt("w", n)) is None
        assert await here.map() == {"n": b"6"}

    async def test_writers_count_for_themselves(self, here: Place) -> None:
        await here.create()
        writers = ["a", "b", "a ", "A", "é", "a:1", "w", "w:a"]

        for writer in writers:
            assert await here.send(_COUNT, receipt=Receipt(writer, 7)) is not None
        for writer in writers:
            assert await here.send(_COUNT, receipt=Receipt(writer, 7)) is None
        assert await here.map() == {"n": b"%d" % len(writers)}

    async def test_buckets_count_for_themselves_and_groups_do_not(self, here: Place) -> None:
        other, elsewhere = here.at("s:two"), here.at(bucket=8)
        for place in (here, other, elsewhere):
            await place.create()
        await here.do(_COUNT, receipt=Receipt("w", 7))

        assert await elsewhere.send(_COUNT, receipt=Receipt("w", 7)) == [[1]]
        assert await other.send(_COUNT, receipt=Receipt("w", 7)) is None
        assert await here.at("").send(Incr("_m", {"n": 1}), receipt=Receipt("w", 7)) is None

    async def test_batches_without_receipt_are_always_applied(self, here: Place) -> None:
        await here.create()
        await here.do(_COUNT, receipt=Receipt("w", 7))

        assert await here.one(_COUNT) == [2]
        assert await here.one(_COUNT) == [3]

    async def test_a_receipt_on_a_batch_that_only_reads_is_without_effect(
        self, here: Place
    ) -> None:
        await here.create(Put("m", {"n": b"1"}))

        for _ in range(2):
            assert await here.send(Get("m"), receipt=Receipt("w", 7)) == [{"n": b"1"}]
        assert await here.send(_COUNT, receipt=Receipt("w", 7)) == [[2]]

    async def test_a_refused_batch_stays_refused_under_its_receipt(self, here: Place) -> None:
        await here.create(Put("m", {"state": b"old"}))
        guarded = (RequireEquals("m", "state", b"new"), _COUNT)
        first = await here.refused(*guarded, receipt=Receipt("w", 7))
        await here.do(Put("m", {"state": b"new"}))

        again = await here.refused(*guarded, receipt=Receipt("w", 7))

        assert (first.operation, first.found) == (0, b"old")
        assert type(again) is port.GuardFailed
        assert await here.map() == {"state": b"new"}
        assert await here.send(*guarded, receipt=Receipt("w", 8)) == [None, [1]]

    async def test_a_refused_batch_spends_the_earlier_numbers_too(self, here: Place) -> None:
        await here.create()
        await here.refused(RequireEquals("m", "x", b"1"), _COUNT, receipt=Receipt("w", 7))

        assert await here.send(_COUNT, receipt=Receipt("w", 6)) is None
        assert await here.map() == {}

    async def test_refused_and_applied_batches_are_told_apart_later(self, here: Place) -> None:
        await here.create()
        impossible = RequireEquals("m", "x", b"1")
        for n in range(1, 21):
            if n % 2:
                await here.refused(impossible, _COUNT, receipt=Receipt("w", n))
            else:
                await here.do(_COUNT, receipt=Receipt("w", n))

        for n in range(1, 21):
            if n % 2:
                await here.refused(_COUNT, receipt=Receipt("w", n))
            else:
                assert await here.send(_COUNT, receipt=Receipt("w", n)) is None
        assert await here.map() == {"n": b"10"}

    async def test_the_last_thirty_two_refusals_are_remembered(self, here: Place) -> None:
        await here.create()
        for n in range(1, 41):
            await here.refused(RequireEquals("m", "x", b""), _COUNT, receipt=Receipt("w", n))

        for n in range(9, 41):
            await here.refused(_COUNT, receipt=Receipt("w", n))
        assert await here.map() == {}

    async def test_a_batch_to_a_missing_group_stays_refused(self, here: Place) -> None:
        assert type(await here.refused(_COUNT, receipt=Receipt("w", 7))) is port.GroupMissing
        await here.create()

        await here.refused(_COUNT, receipt=Receipt("w", 7))
        assert await here.map() == {}

    @pytest.mark.parametrize("spoil", [b"text", b"%d" % MAX_INTEGER])
    async def test_a_batch_that_met_a_bad_counter_stays_refused(
        self, here: Place, spoil: bytes
    ) -> None:
        await here.create(Put("m", {"n": spoil}))
        with pytest.raises((port.CorruptField, port.GuardFailed)):
            await here.do(_COUNT, receipt=Receipt("w", 7))
        await here.do(Put("m", {"n": b"1"}))

        await here.refused(_COUNT, receipt=Receipt("w", 7))
        assert await here.map() == {"n": b"1"}

    async def test_an_invalid_batch_does_not_spend_its_receipt(self, here: Place) -> None:
        await here.create()
        with pytest.raises(ValueError, match="Trim"):
            await here.do(_COUNT, port.Trim("l"), receipt=Receipt("w", 7))

        assert await here.send(_COUNT, receipt=Receipt("w", 7)) == [[1]]

    async def test_receipts_outlive_the_group(self, here: Place) -> None:
        await here.create()
        await here.do(_COUNT, receipt=Receipt("w", 7))
        await here.do(port.Delete("m"), port.Delete(""))
        await here.create()

        assert await here.send(_COUNT, receipt=Receipt("w", 7)) is None
        assert await here.map() == {}

    async def test_receipts_hold_for_an_expired_group(self, here: Place) -> None:
        await here.create()
        await here.do(_COUNT, receipt=Receipt("w", 7))
        await here.expire()

        assert await here.send(_COUNT, receipt=Receipt("w", 7)) is None

    async def test_receipts_leave_no_trace_in_the_data(self, here: Place) -> None:
        await here.create(Put("m", {"n": b"0"}), Put("_m", {"a": b"1"}))
        before = await here.state()
        await here.do(Put("m", {"n": b"0"}), receipt=Receipt("w", 7))
        await here.refused(RequireEquals("m", "n", b"x"), _COUNT, receipt=Receipt("w", 8))

        assert await here.state() == before

    async def test_a_batch_resent_many_times_at_once_is_applied_once(self, here: Place) -> None:
        await here.create()

        answers = await together(
            *(here.send(_COUNT, Append("l", (b"x",)), receipt=Receipt("w", 7)) for _ in range(20))
        )

        assert sum(answer is not None for answer in answers) == 1
        assert await here.map() == {"n": b"1"}
        assert (await here.log()).items == [b"x"]

    async def test_creation_under_a_receipt(self, here: Place) -> None:
        batch = (
            Put("", {"~i": port.NEW_INCARNATION}, "abort"),
            Append("l", (b"x",)),
            Expire(10**12),
        )

        assert await here.send(*batch, receipt=Receipt("w", 1)) is not None
        incarnation = (await here.map(""))["~i"]
        assert await here.send(*batch, receipt=Receipt("w", 1)) is None
        assert (await here.map(""))["~i"] == incarnation
