"""What a Redis URL names."""

from __future__ import annotations

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.infrastructure.persistence.stores.redis.target import target_of


def places(url):
    return [seed.name for seed in target_of(url).seeds]


def test_one_server():
    target = target_of("redis://user:p%40ss@host:1/2")
    (address,) = target.seeds
    assert (address.username, address.password, address.db) == ("user", "p@ss", 2)
    assert (target.clustered, target.primary, target.confirmations) == (False, "", 0)
    assert places("unix:///run/redis.sock?db=1") == ["/run/redis.sock"]


def test_a_cluster():
    target = target_of("rediss+cluster://u:p@a:1,[::1]:2?read_from=replicas&ssl_ca_certs=/ca")
    assert [seed.name for seed in target.seeds] == ["a:1", "::1:2"]
    assert target.clustered
    assert target.read_replicas
    assert {seed.password for seed in target.seeds} == {"p"}
    assert all(seed.tls == {"ssl_ca_certs": "/ca"} for seed in target.seeds)


def test_sentinels_have_a_login_of_their_own():
    url = "valkey+sentinel://:data@a,b:1/my%2Fprimary/3?sentinel_password=watch"
    target = target_of(url)
    assert [seed.name for seed in target.seeds] == ["a:26379", "b:1"]
    assert {seed.password for seed in target.seeds} == {"watch"}
    assert target.primary == "my/primary"
    assert target.login is not None
    assert (target.login.password, target.login.db) == ("data", 3)


def test_confirmations():
    assert target_of("redis://h?durability=replicated").confirmations == 1
    assert target_of("redis+cluster://h:1?durability=replicated&replicas=2").confirmations == 2
    assert target_of("redis://h?durability=acknowledged&replicas=2").confirmations == 0


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://:hunter2@h:1/1",
        "redis+cluster://:hunter2@h:1?read_from=anywhere",
        "redis+cluster://:hunter2@h:port",
        "redis+cluster://:hunter2@h:1?unknown=1",
        "redis+sentinel://:hunter2@h:1",
        "redis+sentinel://:hunter2@h:1/name/db",
        "unix+cluster://:hunter2@h:1",
        "redis://:hunter2@h:1?durability=forever",
        "redis://:hunter2@h:1?durability=replicated&replicas=0",
        "redis://:hunter2@h:1?durability=replicated&replicas=17",
        "redis://:hunter2@h:1?durability=replicated&replicas=two",
    ],
)
def test_what_names_nothing_is_refused_without_its_password(url):
    with pytest.raises(InvalidInputError) as caught:
        target_of(url)
    assert "hunter" not in str(caught.value)


def test_secrets_stay_out_of_representations():
    url = "rediss+sentinel://u:hunter2@h:1/p?sentinel_password=hunter2&ssl_password=hunter2"
    assert "hunter" not in repr(target_of(url))
    assert "hunter" not in target_of(url).name
