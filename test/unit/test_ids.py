from __future__ import annotations

import os
import select
import signal
import threading
import time
import uuid

import pytest

from aiecs.core import ids
from aiecs.core.errors import InvalidInputError

FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.mark.parametrize(
    "good", ["a", "x" * 255, "é" * 127, "a:b{c}*..\x00/", "\U0001f600" * 63, " "]
)
def test_check_id_returns_a_good_id_untouched(good: str) -> None:
    assert ids.check_id(good, "session_id") is good


@pytest.mark.parametrize("bad", ["", "x" * 256, "é" * 128, "\ud800", "a\udfff", None, 5, b"a"])
def test_check_id_refuses_and_names_the_argument(bad: object) -> None:
    with pytest.raises(InvalidInputError, match="session_id"):
        ids.check_id(bad, "session_id")


def test_check_id_error_can_be_printed_even_with_a_surrogate() -> None:
    with pytest.raises(InvalidInputError) as caught:
        ids.check_id("\ud800", "session_id")

    str(caught.value).encode()


def test_session_ids_are_uuid7_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests turn the clock forward, and ids never go back.
    monkeypatch.setattr(ids, "_session_ids", ids._SessionIds())
    before = time.time_ns() // 1_000_000
    text = ids.new_session_id()
    after = time.time_ns() // 1_000_000
    parsed = uuid.UUID(text)

    assert str(parsed) == text
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    # The process may have run ahead of the clock by the ids it made in this tick.
    assert before <= parsed.int >> 80 <= after + 1


def test_session_ids_rise_even_when_the_clock_stands_or_steps_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = time.time_ns()
    made = [ids.new_session_id()]
    monkeypatch.setattr(time, "time_ns", lambda: start)
    made += [ids.new_session_id() for _ in range(10_000)]
    monkeypatch.setattr(time, "time_ns", lambda: start - 10**12)
    made += [ids.new_session_id() for _ in range(100)]

    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_session_ids_cannot_be_guessed_from_each_other() -> None:
    tails = {ids.new_session_id()[-15:] for _ in range(2_000)}

    assert len(tails) == 2_000


def test_message_ids_are_unique_ordered_and_short() -> None:
    made = [ids.new_message_id() for _ in range(50_000)]

    assert len(set(made)) == len(made)
    assert made == sorted(made)
    assert {len(m) for m in made} == {33}


def test_ids_are_unique_between_threads() -> None:
    made: list[str] = []

    def work() -> None:
        own = [ids.new_message_id() for _ in range(5_000)]
        own += [ids.new_session_id() for _ in range(1_000)]
        made.extend(own)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == len(set(made)) == 8 * 6_000


@FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_makes_other_ids() -> None:
    ids.new_message_id()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, f"{ids.new_message_id()} {ids.new_session_id()}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        child_message, child_session = answer.read().split()
    os.waitpid(pid, 0)

    assert child_message[:23] != ids.new_message_id()[:23]
    assert child_session != ids.new_session_id()


@FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_while_the_lock_is_held_does_not_hang() -> None:
    reader, writer = os.pipe()
    with ids._session_ids._lock:
        pid = os.fork()
        if pid == 0:
            os.write(writer, ids.new_session_id().encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        answered, _, _ = select.select([answer], [], [], 5)
        if not answered:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

        assert uuid.UUID(answer.read())
