"""What the URL of an archive means, and that nothing shows its password."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.core.settings import Settings
from aiecs.infrastructure.persistence.archive import ClickHouseArchive
from aiecs.infrastructure.persistence.archive.url import address_of

SECRET = "s3cr3t/@:?#"
ESCAPED = "s3cr3t%2F%40%3A%3F%23"


def test_a_server():
    found = address_of(f"clickhouse://me:{ESCAPED}@host.example:9123/context")

    assert (found.host, found.port, found.user, found.database) == (
        "host.example",
        9123,
        "me",
        "context",
    )
    assert found.password is not None
    assert found.password.reveal() == SECRET
    assert not found.secure
    assert found.name == "clickhouse://host.example:9123/context"


def test_what_is_left_out_is_as_clickhouse_has_it():
    found = address_of("clickhouse://host")

    assert (found.port, found.user, found.password, found.database) == (
        8123,
        "default",
        None,
        "default",
    )


@pytest.mark.parametrize("url", ["clickhouses://host/db", "clickhouse://host/db?secure=true"])
def test_tls(url):
    found = address_of(f"{url}{'&' if '?' in url else '?'}ca=/etc/ca.pem")

    assert (found.secure, found.port, found.ca) == (True, 8443, "/etc/ca.pem")
    assert found.name == "clickhouses://host:8443/db"


def test_an_address_of_version_six():
    assert address_of("clickhouse://[::1]:8123/db").name == "clickhouse://[::1]:8123/db"


def test_the_settings_of_the_specification_make_such_a_url():
    settings = Settings(clickhouse_host="::1", clickhouse_user="a b", clickhouse_database="ctx")

    found = address_of(settings.clickhouse_url)

    assert (found.host, found.port, found.user, found.database) == ("::1", 8123, "a b", "ctx")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("chdb:////var/lib/archive", Path("/var/lib/archive")),
        ("chdb:///relative/archive", Path.cwd() / "relative/archive"),
        ("chdb:////with%20space", Path("/with space")),
    ],
)
def test_an_embedded_archive_is_a_directory(url, path):
    found = address_of(url)

    assert (found.path, found.database) == (str(path), "aiecs")
    assert address_of(f"{url}?database=other").database == "other"


def test_options():
    found = address_of(
        "clickhouse://host/db?text_index=1&ttl_days=365&timeout=2.5&connect_timeout=0.5"
        "&compression=zstd"
    )

    assert (found.text_index, found.ttl_days, found.timeout) == (True, 365, 2.5)
    assert (found.connect_timeout, found.compression) == (0.5, "zstd")


@pytest.mark.parametrize(
    "url",
    [
        "redis://host/0",
        "clickhouse:///db",
        "clickhouse://host:notaport/db",
        "clickhouse://host:99999/db",
        "clickhouse://host/two/parts",
        "clickhouse://host/b`ad",
        "clickhouse://host/system",
        "clickhouse://host/INFORMATION_SCHEMA",
        "clickhouse://host/1st",
        f"clickhouse://host/{'x' * 64}",
        "clickhouse://host/db#fragment",
        "clickhouse://host/db?unknown=1",
        "clickhouse://host/db?timeout=1&timeout=2",
        "clickhouse://host/db?timeout=0",
        "clickhouse://host/db?timeout=nan",
        "clickhouse://host/db?timeout=forever",
        "clickhouse://host/db?ttl_days=0",
        "clickhouse://host/db?ttl_days=1e3",
        "clickhouse://host/db?ttl_days=99999999999999",
        "clickhouse://host/db?text_index=maybe",
        "clickhouse://host/db?compression=rar",
        "clickhouse://host/db?ca=/ca.pem",
        "clickhouse://[::1/db",
        "chdb://",
        "chdb:///",
        "chdb://host/path",
        "chdb:///path?secure=true",
        "chdb:///pa%00th",
        "chdb:///path?database=a.b",
    ],
)
def test_what_names_no_archive_is_refused_before_anything_is_opened(url):
    with pytest.raises(InvalidInputError):
        ClickHouseArchive.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        f"clickhouse://me:{ESCAPED}@host/db?nope=1",
        f"clickhouse://host/db?password={ESCAPED}",
        "clickhouse://me:s3cr3t@host:s3cr3t/db",
        "clickhouse://me:s3cr3t/@host/db",
    ],
)
def test_a_refused_url_is_not_quoted(url):
    with pytest.raises(InvalidInputError) as refused:
        address_of(url)

    assert "s3cr3t" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_nothing_shows_the_password():
    archive = ClickHouseArchive.from_url(f"clickhouse://me:{ESCAPED}@host/db")

    shown = f"{archive!r} {archive} {archive.name} {archive.address!r} {archive.address}"

    assert "s3cr3t" not in shown
