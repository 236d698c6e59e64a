"""Long values by their parts: cut, kept and put together they are what they were."""

from __future__ import annotations

import random
from typing import Any

import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiecs.core.errors import CorruptRecordError
from aiecs.domain.context.thread_state import parts, records
from aiecs.domain.context.thread_state.manifests import Builder, Manifest, parts_of
from aiecs.domain.context.thread_state.names import (
    member_of,
    name_of,
    names_in,
)
from aiecs.domain.context.thread_state.names import (
    parts_of as parts_of_member,
)

KEY = b"k" * 16
NAMES = st.lists(st.integers(0, 10**6), max_size=400).map(
    lambda numbers: [name_of(b"%d" % number, KEY) for number in numbers]
)


def built(names: list[str], start: Manifest | None = None) -> tuple[Manifest, dict[str, bytes]]:
    builder = Builder(lambda content: name_of(content, KEY), start)
    for name in names:
        builder.add(name)
    return builder.manifest(), dict(builder.new)


@given(NAMES)
def test_a_manifest_tells_the_names_in_order(names):
    manifest, nodes = built(names)

    assert parts_of(manifest, nodes, len(names)) == names
    assert len(manifest.nodes) + len(manifest.parts) <= 32 * (1 + len(manifest.levels))


def test_short_lists_are_read_back_whatever_their_names_are():
    """One name in eight ends a node, a node's own too: chains of them must not get long."""
    for number in range(20_000):
        names = [name_of(b"%d %d" % (number, part), KEY) for part in range(number % 3 + 1)]
        manifest, nodes = built(names)
        assert parts_of(manifest, nodes, len(names)) == names
        assert len(nodes) < len(names)


@given(NAMES, NAMES)
def test_it_grows_as_if_it_had_been_made_at_once(before, after):
    first, nodes = built(before)
    grown, more = built(after, first)
    at_once, every = built(before + after)

    assert grown == at_once
    assert nodes | more == every


@given(NAMES, st.integers(0, 399), st.integers(0, 399))
def test_lists_with_much_in_common_have_nodes_in_common(names, start, stop):
    _, every = built(names)
    rest = names[min(start, len(names)) :]
    _, others = built(rest)

    new = set(others) - set(every)
    assert len(new) <= 8 + len(others) // 2


@given(st.integers(1, 10**6), st.integers(60, 300))
def test_a_lost_or_changed_node_is_told(seed, count):
    chance = random.Random(seed)
    names = [name_of(b"%d %d" % (seed, number), KEY) for number in range(count)]
    manifest, nodes = built(names)
    victim = chance.choice(sorted(nodes))
    content = nodes[victim]
    longer = content[:-1] + b" " + content[1:] if content[:1] == b"&" else content * 2
    for other in (None, b"", b"\xff", content[:-17], f"&{victim}\n".encode(), longer):
        changed = {name: one for name, one in nodes.items() if name != victim}
        if other is not None:
            changed[victim] = other
        with pytest.raises(CorruptRecordError):
            parts_of(manifest, changed, len(names))


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=200)
LEAVES |= st.floats(allow_nan=False) | st.binary(max_size=200)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
KEYS = st.text() | st.integers(-100, 100)


def encoded(value: Any) -> bytes:
    return ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS)


@given(st.lists(st.lists(VALUES, max_size=40), min_size=1, max_size=4))
@settings(max_examples=300)
def test_a_list_is_cut_and_put_together(versions):
    before = None
    for value in versions:
        plain = encoded(value)
        found = parts.cut(parts.LIST, len(value), plain, KEY, before)
        before = found.sequence
        pieces = [parts.part(before, at) for at in range(len(value))]
        assert pieces == [encoded(one) for one in value]
        assert parts.header_of(parts.LIST, len(value)) + b"".join(pieces) == plain
        assert before.names == [name_of(piece, KEY) for piece in pieces]


@given(st.dictionaries(KEYS, VALUES, max_size=30), st.dictionaries(KEYS, VALUES, max_size=30))
def test_a_map_is_cut_and_put_together(first, second):
    before = None
    for value in (first, {**first, **second}, second):
        plain = encoded(value)
        before = parts.cut(parts.MAP, len(value), plain, KEY, before).sequence
        assert parts.header_of(parts.MAP, len(value)) + before.body == plain
        for at, (key, one) in enumerate(value.items()):
            assert parts.part(before, at) == encoded(key) + encoded(one)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 65535, 65536])
@pytest.mark.parametrize("form", [parts.LIST, parts.MAP])
def test_headers_are_those_of_msgpack(form, length):
    value = [0] * length if form == parts.LIST else dict.fromkeys(range(length), 0)
    assert encoded(value).startswith(parts.header_of(form, length))


IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(IDS | st.just(""), IDS, IDS | st.just(""), IDS)
def test_members_are_told_apart(space, name, other_space, other):
    member = member_of(space, name)
    assert parts_of_member(member) == (space, name)
    assert (member == member_of(other_space, other)) == ((space, name) == (other_space, other))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_corrupt(data):
    for read in (records.unpack, records.unpack_writes):
        try:
            read(data)
        except CorruptRecordError:
            continue


def stored_examples() -> list[bytes]:
    names = [name_of(b"%d" % number, KEY) for number in range(8)]
    channels: dict[str, records.Ref] = {
        "small": records.Inline("msgpack", b"12"),
        "whole": records.Whole("msgpack", names[0]),
        "parted": records.Parted("list", 9, (2, 1), "".join(names[:5])),
    }
    checkpoint = records.Checkpoint(
        "parent", 1, "run", "loop", 3, ("later",), channels, "msgpack", b"rest"
    )
    writes = records.Writes("task", "path", (records.Write(0, "small", channels["small"]),))
    return [records.pack(checkpoint, names[5:]), records.pack_writes(writes) * 2]


@given(st.sampled_from(stored_examples()), st.data())
@settings(max_examples=2_000)
def test_a_damaged_record_is_read_or_corrupt(stored, data):
    start = data.draw(st.integers(0, len(stored) - 1))
    stop = data.draw(st.integers(start, min(start + 3, len(stored))))
    damaged = stored[:start] + data.draw(st.binary(max_size=3)) + stored[stop:]
    for read in (records.unpack, records.unpack_writes):
        try:
            read(damaged)
        except CorruptRecordError:
            continue


@given(NAMES)
def test_names_stand_in_a_row(names):
    assert names_in("".join(names)) == names
