"""Logs: appended to, cut at either end, blanked in place."""

# ruff: noqa: D102, PLR2004, S101 - a test's name says what it holds
from __future__ import annotations

import pytest

from aiecs.core.interface.store import (
    INCARNATION,
    MAX_INTEGER,
    NOW,
    Append,
    Clock,
    Delete,
    Incr,
    LogSlice,
    Put,
    Read,
    Redact,
    Result,
    Trim,
    Truncate,
    now_plus,
)
from aiecs.testing.store.place import Place, numbered

_TEN = numbered(10)
_ABSENT = LogSlice("", 0, 0, 0, [])


class LogContract:
    """`Append`, `Trim`, `Truncate`, `Redact`, and what `Read` shows of them."""

    # --- append ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["l", "_l"])
    async def test_an_absent_log_is_empty_and_without_epoch(self, here: Place, key: str) -> None:
        await here.create()

        assert await here.log(key) == _ABSENT
        assert await here.do(Trim(key, keep=0), Put("m", {"a": b"1"})) == [0, True]
        assert await here.do(Truncate(key, 0), Redact("k", (1, 2))) == [0, 0]
        assert await here.log(key) == _ABSENT

    async def test_a_log_begins_at_the_clock_of_its_creation(self, here: Place) -> None:
        await here.create()

        first, now = await here.do(Append("l", (b"a", b"b")), Clock())

        assert first == now
        slice_ = await here.log()
        assert slice_[1:] == (first, first + 2, first, [b"a", b"b"])

    async def test_sequences_are_gapless_over_batches_and_operations(self, here: Place) -> None:
        await here.create()
        first = await here.one(Append("l", numbered(3, "a")))

        assert await here.do(Append("l", (b"b",)), Append("l", numbered(2, "c"))) == [
            first + 3,
            first + 4,
        ]
        assert await here.one(Append("l", (b"d",))) == first + 6
        assert (await here.log()).items == [*numbered(3, "a"), b"b", *numbered(2, "c"), b"d"]

    async def test_logs_of_a_group_count_for_themselves(self, here: Place) -> None:
        await here.create()
        ((first,), _) = (await here.do(Append("l", _TEN)), await here.do(Append("k", (b"x",))))

        results = await here.do(Append("l", (b"y",)), Append("k", (b"z",)), Append("_l", (b"o",)))

        assert results[0] == first + 10
        assert results[1] == (await here.log("k")).base + 1
        assert [(await here.log(key)).items[-1] for key in ("l", "k", "_l")] == [b"y", b"z", b"o"]

    @pytest.mark.parametrize("item", [b"", b"\x00\xff", b"\r\n", b"x" * 200_000], ids=len)
    async def test_items_are_any_bytes(self, here: Place, item: bytes) -> None:
        await here.create(Append("l", (item, item)))

        assert (await here.log()).items == [item, item]

    async def test_a_thousand_items_at_once(self, here: Place) -> None:
        items = numbered(1000)
        await here.create(Append("l", items))

        assert (await here.log()).items == list(items)

    async def test_sequences_rise_over_incarnations(self, here: Place) -> None:
        await here.create(Append("l", _TEN))
        old = await here.log()
        await here.do(Delete("l", kind="log"), Delete(""))
        await here.wait_until(old.next)

        await here.create(Append("l", (b"new",)))
        new = await here.log()

        assert new.base >= old.next
        assert new.epoch != old.epoch
        assert new.items == [b"new"]

    async def test_a_deleted_log_begins_anew(self, here: Place) -> None:
        await here.create(Append("l", _TEN))
        old = await here.log()
        assert await here.one(Delete("l", kind="log")) == len(_TEN)
        assert await here.log() == _ABSENT
        await here.wait_until(old.next)

        assert await here.one(Append("l", (b"new",))) >= old.next

    async def test_what_a_deleted_head_left_behind_never_comes_back(self, here: Place) -> None:
        await here.create(Append("l", _TEN))
        await here.do(Delete(""))
        await here.create(Append("l", (b"new",)))

        slice_ = await here.log()
        assert (slice_.items, slice_.next - slice_.base) == ([b"new"], 1)

    async def test_the_epoch_names_the_incarnation(self, here: Place) -> None:
        incarnation = await here.create(Append("l", (b"x",)), Append("_l", (b"x",)))

        assert (await here.log()).epoch == f"{incarnation.decode()}.0"
        assert (await here.log("_l")).epoch == "0.0"

    # --- import ---------------------------------------------------------------------------------

    async def test_an_imported_log_keeps_its_sequences_and_epoch(self, here: Place) -> None:
        await here.do(Put("", {"~i": b"0000000000000042ab"}, "abort"))

        assert await here.one(Append("l", (b"a", b"b"), first=500, epoch=7)) == 500
        assert await here.log() == LogSlice("0000000000000042ab.7", 500, 502, 500, [b"a", b"b"])
        assert await here.one(Append("l", (b"c",))) == 502

    async def test_the_start_of_a_log_that_exists_is_not_changed(self, here: Place) -> None:
        await here.create(Append("l", (b"a",), first=500, epoch=7))

        assert await here.one(Append("l", (b"b",), first=9, epoch=1)) == 501
        slice_ = await here.log()
        assert (slice_.base, slice_.epoch[-2:], slice_.items) == (500, ".7", [b"a", b"b"])

    async def test_sequences_may_begin_near_the_last_integer(self, here: Place) -> None:
        first = MAX_INTEGER - 10**15
        await here.create(Append("l", (b"a", b"b"), first=first))

        assert (await here.one(Read("l", start=first + 1))).items == [b"b"]
        assert (await here.log())[1:4] == (first, first + 2, first)

    # --- stamps ---------------------------------------------------------------------------------

    async def test_stamps_stand_in_front_of_every_item(self, here: Place) -> None:
        incarnation = await here.create(Put("m", {"n": b"6"}))

        first, _, now, _ = await here.do(
            Append("l", (b"message",)),
            Incr("m", {"o": 1, "n": 1}),
            Clock(),
            Append(
                "_l",
                (b"x", b"a b\nc", b""),
                (Result(0), Result(1, 1), NOW, now_plus(3), INCARNATION),
            ),
        )

        front = b"%d 7 %d %d %s\n" % (first, now, now + 3, incarnation)
        assert (await here.log("_l")).items == [front + b"x", front + b"a b\nc", front]

    async def test_bytes_stand_among_stamps_as_they_are(self, here: Place) -> None:
        incarnation = await here.create(
            Append("_l", (b"x", b"y"), (b"", INCARNATION, b'["m", "\xc3\xa9"]'))
        )

        front = b' %s ["m", "\xc3\xa9"]\n' % incarnation
        assert (await here.log("_l")).items == [front + b"x", front + b"y"]

    async def test_a_stamp_tells_the_incarnation_that_its_batch_creates(self, here: Place) -> None:
        incarnation = await here.create(Append("_l", (b"created",), (INCARNATION,)))

        assert (await here.log("_l")).items == [incarnation + b"\ncreated"]

    async def test_a_stamp_tells_the_incarnation_that_its_batch_deletes(self, here: Place) -> None:
        incarnation = await here.create()
        await here.do(Delete(""), Append("_l", (b"deleted",), (INCARNATION,)))

        assert (await here.log("_l")).items == [incarnation + b"\ndeleted"]

    # --- trim -----------------------------------------------------------------------------------

    @pytest.mark.parametrize(("keep", "removed"), [(3, 7), (0, 10), (10, 0), (11, 0), (1000, 0)])
    async def test_trim_keeps_the_newest(self, here: Place, keep: int, removed: int) -> None:
        await here.create(Append("l", _TEN))
        old = await here.log()

        assert await here.one(Trim("l", keep=keep)) == removed
        assert await here.log() == LogSlice(
            old.epoch, old.base + removed, old.next, old.base + removed, list(_TEN[removed:])
        )

    @pytest.mark.parametrize(("offset", "removed"), [(-5, 0), (0, 0), (4, 4), (10, 10), (99, 10)])
    async def test_trim_keeps_what_comes_from_a_sequence_on(
        self, here: Place, offset: int, removed: int
    ) -> None:
        await here.create(Append("l", _TEN))
        old = await here.log()

        assert await here.one(Trim("l", before=old.base + offset)) == removed
        assert await here.log() == LogSlice(
            old.epoch, old.base + removed, old.next, old.base + removed, list(_TEN[removed:])
        )

    @pytest.mark.parametrize("key", ["l", "_l"])
    async def test_sequences_go_on_behind_a_trim(self, here: Place, key: str) -> None:
        await here.create(Append(key, _TEN))
        old = await here.log(key)
        await here.do(Trim(key, keep=2))

        assert await here.one(Append(key, (b"x",))) == old.next
        await here.do(Trim(key, keep=0))
        assert await here.one(Append(key, (b"y",))) == old.next + 1
        assert await here.log(key) == LogSlice(
            old.epoch, old.next + 1, old.next + 2, old.next + 1, [b"y"]
        )

    async def test_a_batch_may_append_and_then_trim(self, here: Place) -> None:
        await here.create()

        first, second, removed = await here.do(
            Append("l", _TEN), Append("l", (b"x",)), Trim("l", keep=2)
        )

        assert (second, removed) == (first + 10, 9)
        assert (await here.log())[1:] == (first + 9, first + 11, first + 9, [_TEN[9], b"x"])

    # --- truncate -------------------------------------------------------------------------------

    @pytest.mark.parametrize(("offset", "left"), [(9, 9), (4, 4), (0, 0), (-7, 0)])
    async def test_truncate_removes_the_tail_and_starts_an_epoch(
        self, here: Place, offset: int, left: int
    ) -> None:
        incarnation = await here.create(Append("l", _TEN))
        old = await here.log()

        assert await here.one(Truncate("l", old.base + offset)) == 10 - left
        new = await here.log()
        assert (new.items, new.base, new.next) == (list(_TEN[:left]), old.base, old.base + left)
        assert new.epoch == f"{incarnation.decode()}.1"

    @pytest.mark.parametrize("offset", [10, 11, 1000])
    async def test_truncate_behind_the_end_changes_nothing(self, here: Place, offset: int) -> None:
        await here.create(Append("l", _TEN))
        old = await here.log()

        assert await here.one(Truncate("l", old.base + offset)) == 0
        assert await here.log() == old

    async def test_truncated_sequences_are_given_again_in_the_new_epoch(self, here: Place) -> None:
        await here.create(Append("l", _TEN))
        old = await here.log()
        await here.do(Truncate("l", old.base + 4))

        assert await here.one(Append("l", (b"new",))) == old.base + 4
        await here.do(Truncate("l", old.base))
        assert await here.one(Append("l", (b"newer",))) == old.base
        new = await here.log()
        assert (new.items, new.epoch[-2:]) == ([b"newer"], ".2")

    # --- redact ---------------------------------------------------------------------------------

    async def test_redact_blanks_in_place_and_starts_an_epoch(self, here: Place) -> None:
        incarnation = await here.create(Append("l", _TEN))
        old = await here.log()

        hit = await here.one(Redact("l", (old.base + 8, old.base + 2)))

        new = await here.log()
        expected = [b"" if n in (2, 8) else item for n, item in enumerate(_TEN)]
        assert (hit, new.items) == (2, expected)
        assert (new.base, new.next, new.epoch) == (old.base, old.next, f"{incarnation.decode()}.1")

    async def test_redact_passes_over_what_is_gone_and_counts_once(self, here: Place) -> None:
        await here.create(Append("l", _TEN), Trim("l", keep=5))
        log = await here.log()
        sequences = (log.base - 1, log.base, log.base, log.next - 1, log.next, 0)

        assert await here.one(Redact("l", sequences, b"gone")) == 2
        assert (await here.log()).items == [b"gone", *_TEN[6:9], b"gone"]

    async def test_redacting_nothing_keeps_the_epoch(self, here: Place) -> None:
        await here.create(Append("l", _TEN))
        old = await here.log()

        assert await here.one(Redact("l", (old.next, old.base - 1))) == 0
        assert await here.log() == old

    async def test_bucket_logs_can_be_cut_and_blanked_too(self, here: Place) -> None:
        bucket = here.at("")
        first = await bucket.one(Append("_l", _TEN))

        assert await bucket.one(Redact("_l", (first + 1,))) == 1
        assert await bucket.one(Truncate("_l", first + 3)) == 7
        assert await bucket.one(Trim("_l", before=first + 1)) == 1
        assert await bucket.log("_l") == LogSlice(
            "0.2", first + 1, first + 3, first + 1, [b"", _TEN[2]]
        )
