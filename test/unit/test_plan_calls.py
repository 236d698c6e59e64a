from __future__ import annotations

from typing import Any

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.core.interface import store as port
from aiecs.core.interface.calls import checked

ARG = port.Arg
HOT = port.Plan(
    "hot",
    port.RequireEquals("", "owner", ARG(0)),
    port.Append("m", (ARG(1), b"constant"), (port.NOW,)),
    port.Put("", {"l": port.NOW, "last": ARG(2)}),
    port.Incr("", {"count": ARG(3), "fixed": 1}),
    port.Expire(ARG(4)),
)
GOOD = (b"me", b"item", b"value", 2, 60)


def call(*args: Any, plan: port.Plan = HOT, bucket: Any = 7, group: Any = "g") -> port.Call:
    return port.Call(plan, bucket, group, args)


def seen() -> port.Plan:
    """A plan that has been called before, so that calls take the fast way."""
    plan = port.Plan("seen", *HOT.ops)
    checked(call(*GOOD, plan=plan))
    return plan


def test_bind_fills_every_place():
    assert HOT.bind(GOOD) == (
        port.RequireEquals("", "owner", b"me"),
        port.Append("m", (b"item", b"constant"), (port.NOW,)),
        port.Put("", {"l": port.NOW, "last": b"value"}),
        port.Incr("", {"count": 2, "fixed": 1}),
        port.Expire(60),
    )


def test_bind_gives_operations_of_the_port_and_leaves_the_plan_alone():
    bound = HOT.bind(GOOD)

    assert [type(op) for op in bound] == [type(op) for op in HOT.ops]
    assert HOT.ops[2] == port.Put("", {"l": port.NOW, "last": ARG(2)})
    assert bound[2].fields is not HOT.ops[2].fields


def test_bind_takes_whole_collections():
    plan = port.Plan("whole", port.Append("m", ARG(0)), port.Redact("n", ARG(1), ARG(2)))

    assert plan.bind(((b"1", b"2"), (5,), b"")) == (
        port.Append("m", (b"1", b"2")),
        port.Redact("n", (5,), b""),
    )


def test_a_call_becomes_the_batch_it_stands_for():
    batch, size = checked(call(*GOOD))

    assert batch == port.Batch(7, "g", HOT.bind(GOOD))
    assert size > sum(len(value) for value in GOOD[:3])


@pytest.mark.parametrize("plan", [HOT, seen()], ids=["first", "later"])
@pytest.mark.parametrize(
    "bad",
    [
        call("text", *GOOD[1:]),
        call(b"me", "text", *GOOD[2:]),
        call(b"me", None, *GOOD[2:]),
        call(b"me", b"item", 5, *GOOD[3:]),
        call(*GOOD[:3], b"2", 60),
        call(*GOOD[:3], True, 60),
        call(*GOOD[:3], 2**53, 60),
        call(*GOOD[:4], 0),
        call(*GOOD[:4], 10**16),
        call(*GOOD[:4], 1.5),
        call(*GOOD[:2], port.NOW, 0, 1),
        call(*GOOD[:4]),
        call(*GOOD, bucket=-1),
        call(*GOOD, bucket=16_384),
        call(*GOOD, bucket="7"),
        call(*GOOD, group=""),
        call(*GOOD, group="_g"),
        call(*GOOD, group="a/b"),
        call(*GOOD, group="\ud800"),
        call(*GOOD, group=None),
        call(b"me", b"x" * port.MAX_BATCH_BYTES, *GOOD[2:]),
    ],
)
def test_what_breaks_a_rule_is_refused_on_the_fast_way_too(plan: port.Plan, bad: port.Call):
    with pytest.raises(InvalidInputError):
        checked(bad._replace(plan=plan))


@pytest.mark.parametrize("args", [(None, *GOOD[1:]), (*GOOD[:4], None), GOOD])
def test_what_keeps_the_rules_is_taken_on_the_fast_way_too(args: tuple[Any, ...]):
    batch, _ = checked(call(*args, plan=seen()))

    assert batch.ops == HOT.bind(args)


def test_large_values_are_measured_exactly():
    plan = seen()
    batch, size = checked(call(b"me", b"x" * 2_000_000, *GOOD[2:], plan=plan))

    assert size == checked(batch)[1]


def test_a_value_used_twice_counts_twice():
    plan = port.Plan("twice", *[port.Append("m", (ARG(0),)) for _ in range(18)])
    checked(call(b"small", plan=plan))

    with pytest.raises(InvalidInputError, match="bytes"):
        checked(call(b"x" * 1_000_000, plan=plan))


def test_a_plan_without_group_is_checked_apart_from_one_with():
    plan = port.Plan("bucket", port.Put("_k", {"f": ARG(0)}))

    assert checked(call(b"1", plan=plan, group=""))[0].group == ""
    assert checked(call(b"1", plan=plan, group="g"))[0].group == "g"
    assert checked(call(b"1", plan=plan, group=""))[0].group == ""
