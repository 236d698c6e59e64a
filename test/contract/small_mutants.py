"""Small mutants: stores that mistake one operation for another, or answer one wrongly."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

from contract.mutants import MUTANTS, Mutant, bitten_by, retell, rewrite

from aiecs.core.interface import store as port
from aiecs.infrastructure.persistence.stores.semantics import execute

__all__ = ["MUTANTS"]  # all of them: those of the module above, too

# --- logs -----------------------------------------------------------------------------------------


class _RewritesLogs(Mutant):
    """After cutting a log, writes its rest anew with another start or epoch."""

    kinds: tuple[type, ...] = ()

    def start(self, old, new):
        return {}

    async def apply(self, batch, *, timeout=None):
        batch = self.whole(batch)
        cut = [op for op in batch.ops if type(op) in self.kinds]
        if not cut:
            return await super().apply(batch)
        read = batch._replace(ops=(port.Read(cut[0].key),), raw=True)
        (old,) = await super().apply(read)
        results = await super().apply(batch)
        (new,) = await super().apply(read)
        if new.items and new != old:
            key, items = cut[0].key, tuple(new.items)
            start = {"first": new.base, "epoch": int(new.epoch.split(".")[1])}
            ops = (port.Append(key, items, **{**start, **self.start(old, new)}),)
            await super().apply(batch._replace(ops=(port.Delete(key, kind="log"),)))
            await super().apply(batch._replace(ops=ops))
        return results


@bitten_by(
    "test_trim_keeps_the_newest",
    "test_trim_keeps_what_comes_from_a_sequence_on",
    "test_a_batch_may_append_and_then_trim",
)
class TrimRenumbers(_RewritesLogs):
    kinds = (port.Trim,)

    def start(self, old, new):
        return {"first": old.base if old.items else new.next - len(new.items) - 1}


@bitten_by("test_truncate_removes_the_tail_and_starts_an_epoch")
class TruncateKeepsTheEpoch(_RewritesLogs):
    kinds = (port.Truncate,)

    def start(self, old, new):
        return {"epoch": int(old.epoch.split(".")[1])}


@bitten_by("test_redact_blanks_in_place_and_starts_an_epoch")
class RedactKeepsTheEpoch(TruncateKeepsTheEpoch):
    kinds = (port.Redact,)


def _newest_first(op: port.Read, found: port.LogSlice) -> port.LogSlice:
    return found._replace(items=found.items[::-1])


def _trusting(op: port.Read, found: port.LogSlice) -> port.LogSlice:
    return found if op.base is None else found._replace(first=found.first + op.base - found.base)


_ANY_TEXT = "test_any_bytes_come_back_unchanged"
retell("ReadsNewestFirst", port.Read, _newest_first, "test_every_window_of_a_log",
       "test_sequences_are_gapless_over_batches_and_operations")  # fmt: skip
retell("TrustsTheHint", port.Read, _trusting, "test_every_window_of_a_log")
rewrite("ReadsTheOldest", port.Read, lambda op: op._replace(newest=False),
        "test_every_window_of_a_log")  # fmt: skip
rewrite("ReadsOneTooMany", port.Read, lambda op: op._replace(limit=op.limit and op.limit + 1),
        "test_every_window_of_a_log")  # fmt: skip
rewrite("StopsBehindTheStop", port.Read, lambda op: op._replace(stop=op.stop and op.stop + 1),
        "test_every_window_of_a_log")  # fmt: skip
rewrite("LogsStartAtOne", port.Append, lambda op: op._replace(first=op.first or 1),
        "test_a_log_begins_at_the_clock_of_its_creation",
        "test_sequences_rise_over_incarnations")  # fmt: skip
rewrite("ForgetsWhereAnImportBegan", port.Append, lambda op: op._replace(first=None),
        "test_an_imported_log_keeps_its_sequences_and_epoch")  # fmt: skip
rewrite("ForgetsTheImportedEpoch", port.Append, lambda op: op._replace(epoch=0),
        "test_an_imported_log_keeps_its_sequences_and_epoch")  # fmt: skip
rewrite("LeavesOutStamps", port.Append, lambda op: op._replace(stamps=()),
        "test_stamps_stand_in_front_of_every_item", "test_a_call_is_the_batch_that_its_plan_binds",
        "test_a_sweeper_removes_the_remains_and_notes_it_in_one_batch")  # fmt: skip
rewrite("LogsText", port.Append,
        lambda op: op._replace(items=tuple(i.decode(errors="replace").encode() for i in op.items)),
        "test_items_are_any_bytes")  # fmt: skip
retell("EpochsWithoutIncarnation", port.Read,
       lambda op, found: found._replace(epoch=found.epoch[-2:]),
       "test_the_epoch_names_the_incarnation")  # fmt: skip
rewrite("RedactsWithNothing", port.Redact, lambda op: op._replace(item=b""),
        "test_redact_passes_over_what_is_gone_and_counts_once")  # fmt: skip
retell("CountsRedactionsTwice", port.Redact, lambda op, n: n and len(op.sequences),
       "test_redact_passes_over_what_is_gone_and_counts_once")  # fmt: skip


# --- maps -----------------------------------------------------------------------------------------


def _lossy(op: port.Put) -> port.Put:
    return op._replace(
        fields={
            name: value.decode(errors="replace").encode() if type(value) is bytes else value
            for name, value in op.fields.items()
        }
    )


def _own_clock(op: port.Put) -> port.Put:
    now = time.time_ns() // 1000
    return op._replace(
        fields={
            name: b"%d" % (now + value.plus) if type(value) is port.Now else value
            for name, value in op.fields.items()
        }
    )


rewrite("SkipOverwrites", port.Put,
        lambda op: op._replace(if_absent="") if op.if_absent == "skip" and op.key else op,
        "test_skip_leaves_all_fields_alone_when_one_exists",
        "test_a_field_with_an_empty_value_exists")  # fmt: skip
rewrite("AbortSkips", port.Put, lambda op: op._replace(if_absent=op.if_absent and "skip"),
        "test_abort_refuses_the_batch_and_tells_the_value",
        "test_creating_what_exists_is_refused_or_skipped")  # fmt: skip
rewrite("StoresText", port.Put, _lossy, "test_any_bytes_come_back_unchanged")
rewrite("TellsItsOwnTime", port.Put, _own_clock, "test_now_is_the_clock_of_the_batch")
rewrite("TakesResultsOfTheFirst", port.Put,
        lambda op: op._replace(fields={name: port.Result(value.operation)
                                       if type(value) is port.Result else value
                                       for name, value in op.fields.items()}),
        "test_a_put_may_store_what_earlier_operations_returned",
        "test_the_second_item_of_an_append_is_one_further")  # fmt: skip
retell("TellsWhatWasAdded", port.Incr, lambda op, _: list(op.deltas.values()),
       "test_counts_add_up_beside_other_fields", "test_from_bound_to_bound",
       "test_an_integer_that_was_put_can_be_added_to")  # fmt: skip
retell("CountsMembersAsked", port.IndexDelete, lambda op, _: len(op.members),
       "test_delete_counts_the_members_that_existed",
       "test_an_absent_index_is_empty")  # fmt: skip
rewrite("ExpiresLate", port.Expire, lambda op: op._replace(ttl=op.ttl and op.ttl + 1),
        "test_expire_counts_from_the_clock_of_its_batch")  # fmt: skip
retell("CountsWhatWasAsked", port.Delete, lambda op, n: len(op.fields or (1,)),
       "test_delete_counts_the_fields_that_existed",
       "test_deleting_what_is_absent_counts_nothing")  # fmt: skip
retell("EmptyIsAbsent", port.Get,
       lambda op, found: [v or None for v in found] if type(found) is list else found,
       "test_any_bytes_come_back_unchanged")  # fmt: skip
retell("ShowsFieldsInItsOwnOrder", port.Get,
       lambda op, found: sorted(found, key=str) if type(found) is list else found,
       "test_fields_come_in_the_order_asked_for")  # fmt: skip
rewrite("DeletesMapsOnly", port.Delete, lambda op: op._replace(kind="map"),
        "test_delete_removes_a_whole_key_of_its_kind_only",
        "test_a_deleted_log_begins_anew")  # fmt: skip
rewrite("AtMostIsLess", port.RequireAtMost,
        lambda op: op._replace(limit=op.limit - 1) if type(op.limit) is int else op,
        "test_a_guard_that_holds_lets_the_batch_pass")  # fmt: skip
rewrite("EqualsNothingIsEqualsEmpty", port.RequireEquals,
        lambda op: op._replace(value=op.value or None),
        "test_a_guard_that_holds_lets_the_batch_pass",
        "test_a_guard_that_fails_names_itself_and_what_it_found")  # fmt: skip
rewrite("RequiresTheFirstField", port.RequireFields,
        lambda op: op._replace(fields=op.fields[:1]),
        "test_a_guard_that_fails_names_itself_and_what_it_found")  # fmt: skip
rewrite("BeforeIsAlways", port.RequireBefore, lambda op: op._replace(time=port.MAX_INTEGER),
        "test_before_refuses_when_the_clock_has_passed_the_time",
        "test_a_refusal_at_any_position_leaves_nothing_behind")  # fmt: skip
rewrite("KeepsTheFirstExpiry", port.Expire,
        lambda op: op if op.ttl and op.ttl < 7_000_000_000 else op._replace(ttl=3_600_000_000),
        "test_the_last_expire_counts")  # fmt: skip

# --- indexes --------------------------------------------------------------------------------------


@bitten_by("test_a_prefix_is_no_pattern")
class TakesPrefixesForPatterns(Mutant):
    def op(self, op):
        if type(op) is not port.IndexRange or op.prefix is None:
            return op
        return op._replace(prefix="")

    def answer(self, op, result):
        if type(op) is not port.IndexRange or op.prefix is None:
            return result
        return [entry for entry in result if fnmatchcase(entry[0], op.prefix + "*")]


rewrite("DeletesWhateverTheScore", port.IndexDelete, lambda op: op._replace(at_most=None),
        "test_a_conditional_delete_spares_what_has_moved",
        "test_a_conditional_delete_of_score_zero")  # fmt: skip
rewrite("TakesScoreZeroForNone", port.IndexDelete,
        lambda op: op._replace(at_most=op.at_most or None),
        "test_a_conditional_delete_of_score_zero")  # fmt: skip
rewrite("LowersScores", port.IndexPut, lambda op: op._replace(greater=False),
        "test_a_greater_put_never_lowers_a_score")  # fmt: skip
rewrite("NeverLowersScores", port.IndexPut, lambda op: op._replace(greater=True),
        "test_a_score_moves")  # fmt: skip
rewrite("ForgetsTheCursor", port.IndexRange, lambda op: op._replace(cursor=None),
        "test_every_page_by_score", "test_every_page_by_prefix")  # fmt: skip
rewrite("PagesByScoreAlone", port.IndexRange,
        lambda op: op._replace(cursor=op.cursor and ("", op.cursor[1] + 1)),
        "test_a_walk_by_cursor_meets_every_member_once")  # fmt: skip
rewrite("OnlyForward", port.IndexRange, lambda op: op._replace(reverse=False),
        "test_every_page_by_score", "test_every_page_by_prefix")  # fmt: skip
rewrite("ExcludesTheLow", port.IndexRange, lambda op: op._replace(low=op.low and op.low + 1),
        "test_every_page_by_score")  # fmt: skip
rewrite("CountsBehindTheHigh", port.IndexCount,
        lambda op: op._replace(high=op.high and op.high + 1),
        "test_every_count_by_score")  # fmt: skip
rewrite("CountsFromZeroAsFromNowhere", port.IndexCount, lambda op: op._replace(low=op.low or None),
        "test_every_count_by_score")  # fmt: skip
retell("SortsByNameOnly", port.IndexRange, lambda op, found: sorted(found),
       "test_members_come_by_score_then_by_name")  # fmt: skip

# --- names, limits and the rest -------------------------------------------------------------------


@bitten_by("test_groups_do_not_meet", "test_a_deleted_group_takes_no_other_with_it")
class StripsNames(Mutant):
    def ask(self, batch):
        return batch._replace(group=batch.group.strip() or batch.group)


@bitten_by("test_groups_do_not_meet")
class FoldsCase(Mutant):
    def ask(self, batch):
        return batch._replace(group=batch.group.lower())


@bitten_by(
    "test_put_tells_that_it_was_applied_and_keeps_other_fields",
    "test_an_if_absent_put_is_applied_when_no_field_exists",
)
class PutReplacesTheMap(Mutant):
    async def apply(self, batch, *, timeout=None):
        whole = self.whole(batch)
        for op in whole.ops:
            if type(op) is port.Put and op.key:
                self._state.drop("map", f"{whole.bucket}/{whole.group}/{op.key}")
        return await super().apply(whole)


@bitten_by(
    "test_a_bucket_key_needs_no_group",
    "test_a_batch_may_write_its_bucket_beside_its_group",
    "test_guards_on_bucket_keys",
)
class KeepsBucketKeysInGroups(Mutant):
    def op(self, op):
        key = getattr(op, "key", "")
        return op._replace(key=f"own{key}") if key.startswith("_") and self.grouped else op

    def ask(self, batch):
        self.grouped = bool(batch.group)
        return super().ask(batch)


@bitten_by("test_an_incarnation_begins_with_the_clock", "test_incarnations_of_one_moment_differ")
class NamesEveryIncarnationAlike(Mutant):
    def op(self, op):
        if type(op) is port.Put and type(op.fields.get("~i")) is port.NewIncarnation:
            return op._replace(fields={**op.fields, "~i": b"0000000000000001abcd"})
        return op


@bitten_by("test_a_receipt_on_a_batch_that_only_reads_is_without_effect")
class SpendsReceiptsOnReads(Mutant):
    def ask(self, batch):
        extra = (port.Put("_read", {"a": b""}),) if batch.receipt else ()
        return batch._replace(ops=(*batch.ops, *extra))


@bitten_by("test_buckets_do_not_meet", "test_groups_expire_for_themselves")
class KnowsOneBucket(Mutant):
    def ask(self, batch):
        return batch._replace(bucket=7)


@bitten_by(
    "test_a_batch_that_breaks_a_rule_is_refused",
    "test_a_malformed_operation_is_refused",
    "test_a_place_that_cannot_be_is_refused",
    "test_a_receipt_that_cannot_be_is_refused",
    "test_wrong_values_are_refused",
)
class ChecksNothing(Mutant):
    async def apply(self, batch, *, timeout=None):
        return execute(self._state, self.whole(batch))


@bitten_by("test_results_are_the_callers_own")
class AnswersFromACache(Mutant):
    def answer(self, op, result):
        held = self.__dict__.setdefault("held", {})
        return held.setdefault(repr(op), result) if type(op) in (port.Get, port.Read) else result


@bitten_by("test_a_call_is_the_batch_that_its_plan_binds", "test_a_call_without_group")
class CallsWithTheFirstValues(Mutant):
    def whole(self, batch):
        if isinstance(batch, port.Call):
            held = self.__dict__.setdefault("first", {})
            batch = batch._replace(args=held.setdefault(batch.plan, batch.args))
        return super().whole(batch)


@bitten_by(
    "test_a_refusal_at_any_position_leaves_nothing_behind",
    "test_a_guard_that_fails_names_itself_and_what_it_found",
)
class NamesTheWrongOperation(Mutant):
    async def apply(self, batch, *, timeout=None):
        try:
            return await super().apply(batch)
        except port.GuardFailed as error:
            error.operation = min(error.operation, 0)
            raise


@bitten_by(
    "test_a_guard_that_fails_names_itself_and_what_it_found",
    "test_abort_refuses_the_batch_and_tells_the_value",
    "test_the_bounds_are_exact",
)
class FindsNothing(Mutant):
    async def apply(self, batch, *, timeout=None):
        try:
            return await super().apply(batch)
        except port.GuardFailed as error:
            error.found = None
            raise


@bitten_by("test_a_closed_store_takes_nothing")
class NeverCloses(Mutant):
    async def close(self):
        pass
