from __future__ import annotations

import pytest

from aiecs.core.secret import Secret, SecretUrl, safe_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/1", "redis://localhost:6379/1"),
        ("redis://user:pw@host:6379/1", "redis://user:***@host:6379/1"),
        ("redis://:pw@host", "redis://:***@host"),
        ("redis://pw@host", "redis://***@host"),
        ("redis://user:p@w@host", "redis://user:***@host"),
        ("redis://user:p/w@host/0", "redis://user:***@host/0"),
        ("redis://user:p?w@host/0", "redis://user:***@host/0"),
        ("redis://user:p#w@host/0", "redis://user:***@host/0"),
        ("redis://u:a://b@host", "redis://u:***@host"),
        ("redis://:pw", "redis://***"),
        ("redis://:pw/0", "redis://***/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://u:p@[::1]:6379/0", "redis://u:***@[::1]:6379/0"),
        ("redis+sentinel://u:p@a:1,b:2/m/0", "redis+sentinel://u:***@a:1,b:2/m/0"),
        ("redis+sentinel://a:1,b:2/m/0", "redis+sentinel://a:1,b:2/m/0"),
        ("unix://:pw@/run/s?db=1", "unix://:***@/run/s?db=1"),
        ("unix:///run/s?db=1&password=pw", "unix:///run/s?db=1&password=***"),
        ("sqlite:////home/a@b/c.db", "sqlite:////home/a@b/c.db"),
        ("chdb:///x?token=pw;b=1", "chdb:///x?token=***;b=1"),
        ("clickhouse://h/d?Password=pw&user=u", "clickhouse://h/d?Password=***&user=u"),
        ("clickhouse://h/d?p%61ssword=pw", "clickhouse://h/d?p%61ssword=***"),
        ("x://h?ssl_keyfile=/k&ssl_ca_certs=/c", "x://h?ssl_keyfile=/k&ssl_ca_certs=/c"),
        (
            "x://h?api_key=pw&secret=pw&sig=pw#auth=pw",
            "x://h?api_key=***&secret=***&sig=***#auth=***",
        ),
        ("user:pw@host", "user:***@host"),
        ("user:a://pw@host", "user:***@host"),
        ("host?password=pw", "host?password=***"),
        ("memory://", "memory://"),
        ("", ""),
        ("localhost:6379", "localhost:6379"),
    ],
)
def test_passwords_are_masked_and_the_rest_is_kept(url: str, shown: str) -> None:
    assert safe_url(url) == shown
    assert str(SecretUrl(url)) == shown
    assert repr(SecretUrl(url)) == f"Secret({shown!r})"


def test_a_secret_shows_nothing_and_reveals_itself() -> None:
    secret = Secret("pw")

    assert (str(secret), repr(secret), f"{secret}") == ("***", "Secret('***')", "***")
    assert secret.reveal() == "pw"
    assert {secret: 1}[Secret("pw")] == 1
    assert not hasattr(secret, "__dict__")
