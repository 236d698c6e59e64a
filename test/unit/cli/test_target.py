"""Which store a command works on, and how it is named without its secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiecs.cli.target import Target, choose_store, data_directory


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("AIECS_", "REDIS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_the_option_comes_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIECS_STORE_URL", "memory://")

    assert choose_store("sqlite:///a.db") == Target("sqlite:///a.db", "--store")


def test_then_the_named_store(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIECS_STORE_URL", "sqlite:///b.db")
    monkeypatch.setenv("REDIS_HOST", "cache")

    assert choose_store(None) == Target("sqlite:///b.db", "AIECS_STORE_URL")


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("REDIS_URL", "redis://cache:7000/3", "cache:7000"),
        ("REDIS_HOST", "cache", "cache:6379"),
        ("REDIS_PORT", "7000", "localhost:7000"),
    ],
)
def test_then_redis_if_anything_speaks_of_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
):
    monkeypatch.setenv(name, value)

    target = choose_store(None)

    assert part in target.url
    assert target.source == "the REDIS_* settings"


def test_else_a_file_of_the_users_own(tmp_path: Path):
    target = choose_store(None)

    assert target.source == "default"
    assert target.file == data_directory(os.environ) / "aiecs" / "aiecs.db"


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, ".local/share"),
        ("linux", {"XDG_DATA_HOME": "relative"}, ".local/share"),
        ("darwin", {"XDG_DATA_HOME": "/x"}, "Library/Application Support"),
        ("win32", {}, "AppData/Local"),
    ],
)
def test_the_users_data_lies_where_the_platform_wants_it(
    platform: str, environ: dict[str, str], expected: str
):
    assert data_directory(environ, platform) == Path.home() / expected


def test_a_directory_of_the_users_choice(tmp_path: Path):
    assert data_directory({"XDG_DATA_HOME": str(tmp_path)}, "linux") == tmp_path
    assert data_directory({"LOCALAPPDATA": str(tmp_path)}, "win32") == tmp_path


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///a.db", "a.db"),
        ("sqlite:////var/a.db", "/var/a.db"),
        ("sqlite:///a%20b.db?synchronous=FULL", "a b.db"),
        ("SQLITE:///a.db", "a.db"),
        ("sqlite://", None),
        ("redis://x", None),
        ("memory://", None),
    ],
)
def test_the_file_of_a_url(url: str, file: str | None):
    assert Target(url, "--store").file == (None if file is None else Path(file))


def test_odd_characters_of_the_default_path_survive_the_url(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "linux")
    odd = "/home/a b?c#d%20"
    monkeypatch.setenv("XDG_DATA_HOME", odd)

    if data_directory(os.environ) == Path(odd):
        assert choose_store(None).file == Path(odd) / "aiecs" / "aiecs.db"


def test_secrets_are_not_shown():
    target = Target("redis://ada:hunter2@cache:6379/1", "--store")

    assert "hunter2" not in target.shown + target.python
    assert Target("redis://ada:hunter2@cache", "AIECS_STORE_URL").python == "ContextEngine()"
