"""`aiecs archive status`, and what the doctor says of an archive."""

from __future__ import annotations

import asyncio

import pytest
from support.archiving import poison, write
from support.cli import CHATS, Calls
from support.clickhouse import NOWHERE, ClickHouses, Database
from support.embedded import begin

from aiecs.infrastructure.persistence.archive.connection import connect
from aiecs.infrastructure.persistence.archive.looking import look_at
from aiecs.infrastructure.persistence.archive.tables import LATEST
from aiecs.infrastructure.persistence.archive.url import address_of


@pytest.fixture(autouse=True)
def shipped_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_ARCHIVE_SHIP", "false")


@pytest.fixture
def store(tmp_path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


def status(cli: Calls, store: str, url: str, code: int = 0):
    return cli.json("archive", "status", "--store", store, "--archive", url, code=code)


def test_what_waits_is_told_until_it_is_shipped(cli: Calls, store: str, archive_database: Database):
    url = archive_database.url()
    poison(url)
    asyncio.run(write(store, url, ["one", "poison", "two"]))

    found = status(cli, store, url, code=1)
    assert found["issues"] == ["nobody ships what waits: `aiecs archive ship` does"]
    assert (found["waiting"], found["dead"], found["groups_shipped"]) == (4, 0, 0)
    assert found["size"] > 0

    cli("archive", "ship", "--once", "--store", store, "--archive", url, code=1)
    found = status(cli, store, url, code=1)
    assert found["issues"] == ["1 events are set aside: the archive does not take them"]
    assert (found["waiting"], found["size"], found["dead"]) == (0, 0, 1)

    cli("archive", "dead", "drop", "--yes", "--store", store)
    found = status(cli, store, url)
    assert (found["degraded"], found["issues"]) == (False, [])
    out, err = cli("archive", "status", "--store", store, "--archive", url)
    assert out.splitlines()[-1] == "all is well"
    assert f"archive: {url} (--archive)" in err


def test_an_archive_that_cannot_be_used(
    cli: Calls, store: str, clickhouses: ClickHouses, archive_database: Database
):
    asyncio.run(write(store, archive_database.url(), []))
    url = NOWHERE.replace("//", "//ada:hunter2@")
    out, err = cli("archive", "status", "--store", store, "--archive", url, code=1)
    assert "-> the archive does not answer: " in out
    assert "hunter2" not in out + err

    locked = clickhouses.start(password="hunter2")
    wrong = locked.url.replace("hunter2", "hunter3")
    (issue,) = status(cli, store, wrong, code=1)["issues"]
    assert issue.startswith("the archive needs help: ")
    locked.close()


def test_looking_changes_nothing(archive_database: Database, tmp_path):
    address = address_of(archive_database.url())

    assert look_at(address).schema == 0
    server = connect(address_of(archive_database.url().rpartition("/")[0]))
    query = "SELECT count() FROM system.databases WHERE name = {name:String}"
    assert server.select(query, {"name": archive_database.name}) == [(0,)]
    server.close()
    assert look_at(address_of(f"chdb:///{tmp_path}/none")) is None
    assert list(tmp_path.iterdir()) == []


def archive_finding(cli: Calls, code: int, url: str) -> dict[str, str]:
    out, err = cli("doctor", code=code, AIECS_ARCHIVE_URL=url)
    assert "hunter" not in out + err
    with cli.monkeypatch.context() as patch:
        patch.setenv("AIECS_ARCHIVE_URL", url)
        found = cli.json("doctor", code=code)["findings"]
    (one,) = [one for one in found if one["check"] == "archive"]
    return one


def test_the_doctor_examines_the_archive(
    cli: Calls, clickhouses: ClickHouses, archive_database: Database
):
    url = archive_database.url()
    cli("import", CHATS)
    assert all(one["check"] != "archive" for one in cli.json("doctor")["findings"])

    found = archive_finding(cli, 0, url)
    assert (found["level"], "no tables yet" in found["detail"]) == ("note", True)
    assert look_at(address_of(url)).schema == 0, "the doctor changes nothing"

    poison(url)
    found = archive_finding(cli, 0, url)
    assert found["level"] == "ok"
    assert found["detail"].startswith(f"{url}: ClickHouse ")
    assert found["detail"].endswith(f"schema {LATEST}")

    found = archive_finding(cli, 1, NOWHERE)
    assert (found["level"], "is it running" in found["advice"]) == ("fail", True)
    locked = clickhouses.start(password="hunter2")
    found = archive_finding(cli, 1, locked.url.replace("hunter2", "hunter3"))
    assert "check the user and the password" in found["advice"]
    locked.close()


def test_the_doctor_on_tables_of_others(cli: Calls, archive_database: Database):
    connection = archive_database.connect()
    connection.execute("CREATE TABLE context_sessions (a Int8) ENGINE = Memory")
    connection.close()

    found = archive_finding(cli, 1, archive_database.url())

    assert "did not make" in found["detail"]


def test_the_doctor_sees_what_waits_and_what_was_set_aside(
    cli: Calls, store: str, archive_database: Database
):
    url = archive_database.url()
    poison(url)
    asyncio.run(write(store, url, ["one", "poison"]))

    def outbox() -> list[str]:
        found = cli.json("doctor", "--store", store, "--archive", url)["findings"]
        assert [one["level"] for one in found if one["check"] == "archive"] == ["ok"]
        return [one["detail"] for one in found if one["check"] == "outbox"]

    assert outbox() == ["nobody ships what waits: `aiecs archive ship` does"]
    cli("archive", "ship", "--once", "--store", store, "--archive", url, code=1)
    assert outbox() == ["1 events are set aside: the archive does not take them"]


def test_an_embedded_archive_that_an_application_has_open(cli: Calls, store: str, tmp_path):
    url = f"chdb:///{tmp_path}/archive"
    asyncio.run(write(store, NOWHERE, ["one"]))
    with begin("hold", url) as application:
        assert application.stdout is not None
        assert application.stdout.readline() == "open\n"

        found = cli.json("doctor", "--store", store, "--archive", url)
        about = [one["detail"] for one in found["findings"] if one["check"] == "archive"]
        assert (found["ok"], about) == (
            True, ["embedded; another process has it open: not looked into"]
        )  # fmt: skip
        out, _ = cli("archive", "status", "--store", store, "--archive", url, code=1)
        assert "another process has this embedded archive open" in out.splitlines()[-1]
        _, err = cli("archive", "report", "messages", "--archive", url, code=1)
        assert "error: " in err
        assert "is the address right" not in err
        application.communicate("\n", timeout=60)


def test_a_directory_that_is_not_there_is_not_called_well(cli: Calls, store: str, tmp_path):
    cli("import", CHATS, "--store", store)
    out, _ = cli("archive", "status", "--store", store, "--archive", f"chdb:///{tmp_path}/none")
    assert out.splitlines()[-1].endswith("is not there yet; it will be made")
