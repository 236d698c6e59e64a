"""Mutants that let values grow wrongly, or read wrongly what is gathered."""

from __future__ import annotations

from contract.mutants import MUTANTS, Mutant, bitten_by

from aiecs.core.interface import store as port

__all__ = ["MUTANTS"]


@bitten_by("test_what_is_added_stands_at_the_end", "test_of_many_at_once_none_is_lost")
class ExtendsNothing(Mutant):
    def op(self, op):
        return port.Put(op.key, op.fields) if type(op) is port.Extend else op


class _Gathers(Mutant):
    def answer(self, op, result):
        return self.twist(op, result) if type(op) is port.Gather else result


@bitten_by(
    "test_links_are_followed_to_their_end_each_once", "test_a_thousand_members_and_their_links"
)
class FollowsNoLinks(_Gathers):
    def twist(self, op, result):
        return result._replace(linked={})


@bitten_by("test_what_is_known_is_neither_fetched_nor_followed")
class FetchesWhatIsKnown(Mutant):
    def op(self, op):
        return op._replace(known=()) if type(op) is port.Gather else op


@bitten_by("test_members_by_their_beginning_in_either_direction")
class GathersInOneDirection(Mutant):
    def op(self, op):
        return op._replace(reverse=False) if type(op) is port.Gather else op


@bitten_by("test_page_by_page_nothing_is_left_out_or_twice")
class GathersTheLastMemberAgain(_Gathers):
    def twist(self, op, result):
        again = [op.after] if op.after and len(result.members) < op.limit else []
        return result._replace(members=again + result.members)


@bitten_by("test_given_members_need_not_be_in_the_index")
class GathersEachMemberOnce(Mutant):
    def op(self, op):
        if type(op) is port.Gather and op.members:
            return op._replace(members=tuple(dict.fromkeys(op.members)))
        return op
