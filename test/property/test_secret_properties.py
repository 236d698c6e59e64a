from __future__ import annotations

from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from aiecs.core.secret import safe_url

MARK = "Z3cr3t"
around = st.text(st.sampled_from("aA1:/@?#&=%;[]. ,\\é") | st.characters(), max_size=8)
passwords = st.tuples(around, around).map(MARK.join)
names = st.sampled_from(["password", "PASSWORD", "auth_token", "api-key", "secret", "key", "pwd"])


@given(passwords, st.sampled_from(["redis", "rediss+sentinel", "clickhouse", "unix"]))
@example("Z3cr3t://", "redis")
@example("1/Z3cr3t", "redis")
def test_no_password_before_the_host_is_shown(password: str, scheme: str) -> None:
    for user in ("", "user"):
        for place in ("host:6379/1", "/path/s?db=1", "a:1,b:2/m", "host/x?note=a@b"):
            assert MARK not in safe_url(f"{scheme}://{user}:{password}@{place}")


@given(passwords, names)
def test_no_password_in_the_query_is_shown(password: str, name: str) -> None:
    for start in ("redis://host/1?", "redis://u:p@host?db=1&", "unix:///s?a=b;"):
        shown = safe_url(f"{start}{name}={quote(password, safe='', errors='replace')}&db=2")
        assert MARK not in shown
        assert shown.endswith("&db=2")


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    assert isinstance(safe_url(text), str)
