"""`aiecs archive dead`: events that a real archive refuses, listed, delivered again, dropped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import servers as real
from support.archiving import heal, messages, poison, texts, write
from support.cli import Calls, Processes
from support.clickhouse import NOWHERE, Database

SAID = ["one", "poison 1", "two", "poison 2"]
REASON = "context_conversations: ClickHouse says 469 VIOLATED_CONSTRAINT"


@pytest.fixture(autouse=True)
def shipped_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_ARCHIVE_SHIP", "false")


@pytest.fixture(params=["sqlite", *real.names()])
def store(request, servers, prefix, tmp_path, monkeypatch) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.strip(":"))
    return servers.shared(request.param).url


class Dead:
    """A store whose archive has refused two messages in each of the sessions s and t."""

    def __init__(self, cli: Calls, store: str, url: str) -> None:
        self.cli, self.url = cli, url
        self.store = ("--store", store)
        self.places = (*self.store, "--archive", url)
        poison(url)
        asyncio.run(write(store, url, SAID, "s", "t"))
        cli("archive", "ship", "--once", *self.places, code=1)

    def letters(self, *options: str) -> list[dict[str, Any]]:
        return self.cli.json("archive", "dead", "list", *self.store, *options)["letters"]

    def sessions(self) -> list[str]:
        return [one["session"] for one in self.letters("--ids")]


@pytest.fixture
def dead(cli: Calls, store: str, archive_database: Database) -> Dead:
    return Dead(cli, store, archive_database.url())


@pytest.fixture
def on_file(cli: Calls, tmp_path, archive_database: Database) -> Dead:
    return Dead(cli, f"sqlite:///{tmp_path}/store.db", archive_database.url())


def test_a_list_shows_what_and_why_but_no_content(on_file: Dead):
    out, err = on_file.cli("archive", "dead", "list", *on_file.store)

    head, *rows = [line.split("\t") for line in out.splitlines()]
    assert head == ["bucket", "when", "kind", "table", "reason", "size"]
    assert [row[2:5] for row in rows] == [["message", "context_conversations", REASON]] * 4
    assert "poison" not in out + err
    assert [one["session"] for one in on_file.letters("--ids", "--session", "t")] == ["t", "t"]
    (one, *_) = on_file.letters()
    assert {"session", "thread"}.isdisjoint(one), "only when they are asked for"
    assert on_file.letters("--table", "context_sessions") == []
    _, err = on_file.cli("archive", "dead", "list", *on_file.store, "--session", "nobody")
    assert err.splitlines()[-1] == "no event that was set aside matches"
    out, err = on_file.cli("archive", "dead", "list", *on_file.store, "--ids", "--limit", "1")
    assert out.splitlines()[0].endswith("size\tsession\tthread")
    assert "3 more: --limit 0 shows all" in err


def test_what_was_mended_arrives_as_the_events_that_they_are(dead: Dead):
    heal(dead.url)

    out, _ = dead.cli("archive", "dead", "retry", *dead.places, "--session", "t")
    assert out == "2 events delivered\n"
    assert dead.sessions() == ["s", "s"]
    found = dead.cli.json("archive", "dead", "retry", *dead.places)
    assert found == {"delivered": 2, "refused": 0}

    rows = messages(dead.url)
    assert sorted(rows) == sorted({(text, session, number) for text, session, number in rows})
    assert sorted((text, session) for text, session, _ in rows) == sorted(
        (text, session) for text in SAID for session in "st"
    )
    assert len({number for *_, number in rows}) == len(rows) == 8
    assert dead.letters() == []


def test_what_is_still_refused_stays(on_file: Dead):
    before = on_file.letters("--ids")

    out, _ = on_file.cli("archive", "dead", "retry", *on_file.places, code=1)

    assert out == "0 events delivered, 4 still refused\n"
    assert on_file.letters("--ids") == before


def test_an_archive_that_is_down_changes_nothing(on_file: Dead):
    before = on_file.letters("--ids")

    where = (*on_file.store, "--archive", NOWHERE)
    out, err = on_file.cli("archive", "dead", "retry", *where, code=1)

    assert (out, "cannot be reached" in err) == ("", True)
    assert on_file.letters("--ids") == before


def test_a_lost_reply_costs_nothing(on_file: Dead, clickhouse_bridge):
    heal(on_file.url)
    clickhouse_bridge.fault("lose_reply")
    on_file.cli("archive", "dead", "retry", *on_file.places, code=1)
    assert len(on_file.letters()) == 4, "they may be in, but nobody has said so"

    on_file.cli("archive", "dead", "retry", *on_file.places)

    assert sorted(texts(on_file.url)) == sorted(SAID * 2)
    assert on_file.letters() == []


def test_dropping_is_asked_for_and_counted(on_file: Dead):
    _, err = on_file.cli("archive", "dead", "drop", *on_file.store, code=1)
    assert "--yes says that this is meant" in err
    assert len(on_file.letters()) == 4

    out, _ = on_file.cli("archive", "dead", "drop", *on_file.store, "--session", "s", "-y")
    assert out == "2 events dropped\n"
    assert on_file.sessions() == ["t", "t"]
    narrow = ("--table", "context_sessions", "--yes")
    assert on_file.cli.json("archive", "dead", "drop", *on_file.store, *narrow) == {"dropped": 0}
    on_file.cli("archive", "dead", "drop", *on_file.store, "--yes")
    assert on_file.letters() == []
    _, err = on_file.cli("archive", "dead", "list", *on_file.store)
    assert "has taken everything" in err


def test_on_a_terminal_dropping_is_a_question(on_file: Dead, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr("aiecs.cli.running.is_asked", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text) or len(asked) > 1)

    on_file.cli("archive", "dead", "drop", *on_file.store, code=1)
    assert len(on_file.letters()) == 4
    on_file.cli("archive", "dead", "drop", *on_file.store, "--session", "s")

    assert asked == [f"Drop {count} events that no archive has?" for count in (4, 2)]
    assert on_file.sessions() == ["t", "t"]


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [(b"y\n", 0, 0), (b"n\n", 1, 4), (b"\x04", 130, 4), (b"", 130, 4)],
    ids=["yes", "no", "Ctrl-D", "Ctrl-C"],
)
def test_what_is_answered_on_a_terminal_counts(on_file: Dead, answer: bytes, code: int, left: int):
    terminal = Processes(on_file.cli.directory)
    question = b"Drop 4 events that no archive has? [y/N]: "

    found, shown = terminal.answered(
        "archive", "dead", "drop", *on_file.store, question=question, answer=answer
    )

    assert (found, len(on_file.letters())) == (code, left), shown
    assert "Abort" not in shown
    if not left:  # and where there is nothing to drop, nobody is asked
        out, _ = on_file.cli("archive", "dead", "drop", *on_file.store)
        assert out == "0 events dropped\n"
