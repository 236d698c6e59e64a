"""Settings from the environment: read, checked, explained, and never shown when secret."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from support.settings import SECRET, load

from aiecs.core.errors import InvalidInputError
from aiecs.core.settings import Secret, Settings, load_settings, settings_table

if TYPE_CHECKING:
    from pathlib import Path

DEFAULTS = {
    "AIECS_STORE_URL": None,
    "AIECS_ARCHIVE_URL": None,
    "AIECS_ARCHIVE_SHIP": True,
    "AIECS_ARCHIVE_OUTBOX_BYTES": 1024**3,
    "AIECS_ARCHIVE_OUTBOX_SECONDS": 0.0,
    "AIECS_ARCHIVE_WHEN_FULL": "refuse",
    "AIECS_ARCHIVE_READ_TIMEOUT": 0.25,
    "AIECS_KEY_PREFIX": "ce",
    "AIECS_SESSION_TTL": 86_400,
    "AIECS_CHECKPOINT_TTL": 604_800,
    "AIECS_OPERATION_TIMEOUT": 1.0,
    "AIECS_MAX_MESSAGES_PER_SESSION": None,
    "AIECS_STRICT_SESSIONS": False,
    "AIECS_TAIL_CACHE_BYTES": 33_554_432,
    "AIECS_STORE_MAX_BYTES": 0,
    "AIECS_SQLITE_SYNCHRONOUS": "NORMAL",
    "REDIS_URL": None,
    "REDIS_HOST": "localhost",
    "REDIS_PORT": 6379,
    "REDIS_DB": 1,
    "REDIS_USERNAME": None,
    "REDIS_PASSWORD": None,
    "REDIS_TLS": False,
    "REDIS_SSL_CA_CERTS": None,
    "REDIS_SSL_CERTFILE": None,
    "REDIS_SSL_KEYFILE": None,
    "REDIS_UNIX_SOCKET_PATH": None,
    "REDIS_CLUSTER": False,
    "REDIS_SENTINELS": None,
    "REDIS_SENTINEL_MASTER": None,
    "REDIS_DURABILITY": "acknowledged",
    "REDIS_REPLICAS": 1,
    "CLICKHOUSE_ENABLED": False,
    "CLICKHOUSE_HOST": "localhost",
    "CLICKHOUSE_PORT": 8123,
    "CLICKHOUSE_USER": "default",
    "CLICKHOUSE_PASSWORD": None,
    "CLICKHOUSE_DATABASE": "default",
}
GIVEN = {
    "AIECS_STORE_URL": "memory://",
    "AIECS_ARCHIVE_URL": "chdb:///x",
    "AIECS_ARCHIVE_SHIP": "false",
    "AIECS_ARCHIVE_OUTBOX_BYTES": "2000000",
    "AIECS_ARCHIVE_OUTBOX_SECONDS": "60.5",
    "AIECS_ARCHIVE_WHEN_FULL": "drop_oldest",
    "AIECS_ARCHIVE_READ_TIMEOUT": "0.5",
    "AIECS_KEY_PREFIX": "my-app.1",
    "AIECS_SESSION_TTL": "60",
    "AIECS_CHECKPOINT_TTL": "0",
    "AIECS_OPERATION_TIMEOUT": "0.25",
    "AIECS_MAX_MESSAGES_PER_SESSION": "500",
    "AIECS_STRICT_SESSIONS": "true",
    "AIECS_TAIL_CACHE_BYTES": "0",
    "AIECS_SQLITE_SYNCHRONOUS": "FULL",
    "AIECS_STORE_MAX_BYTES": "2097152",
    "REDIS_URL": "redis://a",
    "REDIS_HOST": "h",
    "REDIS_PORT": "6380",
    "REDIS_DB": "0",
    "REDIS_USERNAME": "u",
    "REDIS_PASSWORD": "p",
    "REDIS_TLS": "yes",
    "REDIS_SSL_CA_CERTS": "/ca",
    "REDIS_SSL_CERTFILE": "/cert",
    "REDIS_SSL_KEYFILE": "/key",
    "REDIS_UNIX_SOCKET_PATH": "/s",
    "REDIS_CLUSTER": "1",
    "REDIS_SENTINELS": "a:1,b:2",
    "REDIS_SENTINEL_MASTER": "m",
    "REDIS_DURABILITY": "replicated",
    "REDIS_REPLICAS": "2",
    "CLICKHOUSE_ENABLED": "1",
    "CLICKHOUSE_HOST": "ch",
    "CLICKHOUSE_PORT": "8124",
    "CLICKHOUSE_USER": "cu",
    "CLICKHOUSE_PASSWORD": "cp",
    "CLICKHOUSE_DATABASE": "cd",
}


def test_defaults_are_those_of_the_specification_and_the_design() -> None:
    settings = load_settings()
    special = {
        "AIECS_STORE_URL": settings.named_store,
        "AIECS_ARCHIVE_URL": settings.named_archive,
        "REDIS_URL": settings.named_redis,
    }
    found = {
        name: special[name]
        if name in special
        else getattr(settings, name.removeprefix("AIECS_").lower())
        for name in DEFAULTS
    }

    assert found == DEFAULTS
    assert [row.name for row in settings_table()] == list(DEFAULTS)
    assert settings.given == frozenset()
    assert settings == Settings()


def test_every_variable_is_read() -> None:
    settings = load(**GIVEN)

    assert settings.given == GIVEN.keys() == {row.name for row in settings_table()}
    assert dataclasses.replace(settings, given=frozenset()) == Settings(
        named_store=type(settings.named_store)("memory://"),
        named_archive=type(settings.named_archive)("chdb:///x"),
        archive_ship=False,
        archive_outbox_bytes=2_000_000,
        archive_outbox_seconds=60.5,
        archive_when_full="drop_oldest",
        archive_read_timeout=0.5,
        key_prefix="my-app.1",
        session_ttl=60,
        checkpoint_ttl=0,
        operation_timeout=0.25,
        max_messages_per_session=500,
        strict_sessions=True,
        tail_cache_bytes=0,
        sqlite_synchronous="FULL",
        store_max_bytes=2097152,
        named_redis=type(settings.named_redis)("redis://a"),
        redis_host="h",
        redis_port=6380,
        redis_db=0,
        redis_username="u",
        redis_password=Secret("p"),
        redis_tls=True,
        redis_ssl_ca_certs="/ca",
        redis_ssl_certfile="/cert",
        redis_ssl_keyfile="/key",
        redis_unix_socket_path="/s",
        redis_cluster=True,
        redis_sentinels="a:1,b:2",
        redis_sentinel_master="m",
        redis_durability="replicated",
        redis_replicas=2,
        clickhouse_enabled=True,
        clickhouse_host="ch",
        clickhouse_port=8124,
        clickhouse_user="cu",
        clickhouse_password=Secret("cp"),
        clickhouse_database="cd",
    )


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on", "TRUE"])
def test_clickhouse_can_be_enabled_in_every_usual_spelling(text: str) -> None:
    assert load(CLICKHOUSE_ENABLED=text).clickhouse_enabled is True
    assert load(CLICKHOUSE_ENABLED="false").clickhouse_enabled is False


def test_an_empty_variable_counts_as_not_set() -> None:
    empty = {row.name: "" for row in settings_table()}

    assert load(**empty) == Settings()


def test_other_spellings_are_other_variables() -> None:
    assert load(redis_host="x", SESSION_TTL="5", HOST="y") == Settings()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("AIECS_STORE_URL", "localhost:6379"),
        ("AIECS_ARCHIVE_URL", "clickhouse"),
        ("REDIS_URL", "//x"),
        ("AIECS_KEY_PREFIX", "a:b"),
        ("AIECS_KEY_PREFIX", "{a}"),
        ("AIECS_KEY_PREFIX", "x" * 33),
        ("AIECS_SESSION_TTL", "-1"),
        ("AIECS_SESSION_TTL", "1.5"),
        ("AIECS_SESSION_TTL", "315360001"),
        ("AIECS_CHECKPOINT_TTL", "soon"),
        ("AIECS_OPERATION_TIMEOUT", "0"),
        ("AIECS_OPERATION_TIMEOUT", "nan"),
        ("AIECS_OPERATION_TIMEOUT", "inf"),
        ("AIECS_OPERATION_TIMEOUT", "3601"),
        ("AIECS_MAX_MESSAGES_PER_SESSION", "0"),
        ("AIECS_STRICT_SESSIONS", "maybe"),
        ("AIECS_TAIL_CACHE_BYTES", "-1"),
        ("AIECS_SQLITE_SYNCHRONOUS", "OFF"),
        ("AIECS_STORE_MAX_BYTES", "-1"),
        ("REDIS_HOST", "a b"),
        ("REDIS_HOST", "u:p@h"),
        ("REDIS_PORT", "0"),
        ("REDIS_PORT", "65536"),
        ("REDIS_PORT", "six"),
        ("REDIS_DB", "-1"),
        ("REDIS_SENTINELS", "a,b"),
        ("REDIS_SENTINELS", "a:1,"),
        ("CLICKHOUSE_PORT", "x"),
        ("CLICKHOUSE_HOST", "http://x"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(name: str, bad: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name}: "):
        load(**{name: bad})


def test_all_bad_values_are_named_at_once_and_none_is_shown() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load(REDIS_PORT=SECRET, AIECS_STORE_URL=SECRET, AIECS_STRICT_SESSIONS=SECRET)

    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cr3t" not in shown
    assert all(name in str(caught.value) for name in ["REDIS_PORT", "AIECS_STORE_URL", "STRICT"])
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_no_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    settings = load(
        REDIS_PASSWORD=SECRET,
        CLICKHOUSE_PASSWORD=SECRET,
        REDIS_URL=f"redis://user:{SECRET}@host",
        AIECS_STORE_URL=f"redis://:{SECRET}@host/0",
        AIECS_ARCHIVE_URL=f"clickhouse://u@h/d?password={SECRET}",
    )
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("%s %r", settings, settings)
    shown = [
        repr(settings),
        str(settings),
        f"{settings.redis_password} {settings.redis_password!r}",
        str(dataclasses.asdict(settings)),
        str(copy.deepcopy(settings)),
        str(vars(InvalidInputError(settings))),
        caplog.text,
    ]

    assert not [text for text in shown if "s3cr3t" in text]
    assert "user:***@host" in repr(settings)
    assert settings.redis_password.reveal() == SECRET
    assert settings.redis_password == Secret(SECRET) != Secret("other")
    assert settings.redis_password != SECRET
    assert bool(Secret("")) is False


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings().redis_host = "x"


def test_a_dotenv_file_is_read_only_when_named(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / ".env").write_text("REDIS_HOST=from-file\nREDIS_PORT=1\nOTHER=x\n")
    monkeypatch.chdir(tmp_path)

    assert load_settings() == Settings()
    named = load_settings(env_file=".env")
    assert (named.redis_host, named.redis_port) == ("from-file", 1)
    assert named.given == {"REDIS_HOST", "REDIS_PORT"}
    monkeypatch.setenv("REDIS_HOST", "from-environment")
    assert load_settings(tmp_path / ".env").redis_host == "from-environment"
    assert load_settings(tmp_path / ".env").redis_port == 1


def test_a_dotenv_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no file"):
        load_settings(tmp_path / ".env")


def test_importing_the_settings_loads_no_pydantic() -> None:
    program = (
        "import sys, aiecs.core.settings as s; s.settings_table(); s.Settings().redis_url\n"
        "sys.exit(any(name.startswith(('pydantic', 'redis')) for name in sys.modules))"
    )
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, check=False
    )

    assert done.returncode == 0


def test_every_variable_is_explained() -> None:
    rows = settings_table()

    assert len({row.name for row in rows}) == len(rows)
    assert all(row.description.endswith(".") and row.type for row in rows)
    assert {row.name: row.default for row in rows}["AIECS_TAIL_CACHE_BYTES"] == "33554432"
    by_name = {row.name: row for row in rows}
    assert by_name["REDIS_PASSWORD"][1:3] == ("text, secret", "")
    assert by_name["AIECS_STORE_URL"].type == "URL, secret"
    assert by_name["CLICKHOUSE_ENABLED"][1:3] == ("true or false", "false")
    assert by_name["AIECS_SQLITE_SYNCHRONOUS"][1:3] == ("NORMAL or FULL", "NORMAL")
    assert by_name["AIECS_MAX_MESSAGES_PER_SESSION"].type == "integer"
    assert by_name["AIECS_OPERATION_TIMEOUT"].type == "number"
