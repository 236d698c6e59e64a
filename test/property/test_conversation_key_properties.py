from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiecs.domain.context.conversation_models import conversation_key, session_id_of

ids = st.text(min_size=1, max_size=60) | st.sampled_from(["a", "b", "ab", ":", "a:b", "%3A"])
parties = st.fixed_dictionaries(
    {"id": ids, "type": ids, "role": st.none() | ids},
)
conversations = st.tuples(ids, ids, st.lists(parties, max_size=3))
small = st.sampled_from(["a", "b", "ab", "aa"])
small_parties = st.fixed_dictionaries({"id": small, "type": small, "role": st.none() | small})
small_conversations = st.tuples(small, small, st.lists(small_parties, max_size=3))


def meaning(conversation: tuple) -> tuple:
    session_id, session_type, parties = conversation
    return session_id, session_type, sorted(map(repr, (sorted(p.items()) for p in parties)))


@given(conversations)
def test_the_key_leads_back(conversation: tuple) -> None:
    assert session_id_of(conversation_key(*conversation)) == conversation[0]


@given(small_conversations, small_conversations)
def test_keys_are_equal_exactly_when_their_conversations_are(first: tuple, second: tuple) -> None:
    same_key = conversation_key(*first) == conversation_key(*second)

    assert same_key == (meaning(first) == meaning(second))


@given(conversations, st.randoms())
def test_the_order_of_participants_does_not_count(conversation: tuple, random) -> None:
    session_id, session_type, parties = conversation
    shuffled = list(parties)
    random.shuffle(shuffled)

    assert conversation_key(session_id, session_type, shuffled) == conversation_key(*conversation)
