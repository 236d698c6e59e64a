"""The specification's command runs its integration test, on servers of ours and on given ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis

from aiecs.infrastructure.persistence.archive.connection import connect
from aiecs.infrastructure.persistence.archive.url import address_of

ROOT = Path(__file__).parents[2]
COMMAND = ["run", "pytest", "test/integration/context/test_context_clickhouse.py", "-v"]
POETRY = ROOT / ".venv-poetry"
_ALONE = ("PYTEST_", "COV_", "POETRY_")

# Poetry comes from a package index the first time; its own environment is kept.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def poetry() -> Path:
    """Poetry 2, installed by the project's own file if it is not there yet."""
    stamp = str((POETRY / ".installed").relative_to(ROOT))
    command = ["make", "--no-print-directory", f"PYTHON={sys.executable}", stamp]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)
    return POETRY / "bin" / "poetry"


def environment(**more: str) -> dict[str, str]:
    """As in a shell in which this Python's virtual environment is active."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_ALONE)}
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), clean["PATH"]])
    return {**clean, "VIRTUAL_ENV": sys.prefix, "PATH": path, **more}


def run(poetry: Path, tmp_path: Path, *more: str, **variables: str) -> str:
    """What the command prints; it has to succeed, and may skip nothing."""
    own = {"POETRY_CONFIG_DIR": str(tmp_path), "POETRY_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [poetry, *COMMAND, *more],
        cwd=ROOT,
        env=environment(**own, **variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    assert "skipped" not in done.stdout
    return done.stdout


def passed(output: str) -> int:
    found = re.search(r"(\d+) passed", output)
    return int(found[1]) if found else 0


def test_the_command_needs_no_server_and_no_lock_file(poetry, tmp_path):
    locked = (ROOT / "poetry.lock").exists()
    output = run(poetry, tmp_path)
    assert passed(output) >= 9
    assert "ClickHouse" in output.splitlines()[-2] + output.splitlines()[-1]
    assert (ROOT / "poetry.lock").exists() == locked


def test_servers_that_the_environment_names_are_used_and_left_clean(
    poetry, tmp_path, servers, own_clickhouse
):
    hot, cold = urlsplit(servers.start("valkey").url), urlsplit(own_clickhouse.url)
    run(
        poetry,
        tmp_path,
        "-k",
        "every_table or process_wide",
        REDIS_HOST=str(hot.hostname),
        REDIS_PORT=str(hot.port),
        REDIS_DB="3",
        CLICKHOUSE_HOST=str(cold.hostname),
        CLICKHOUSE_PORT=str(cold.port),
        CLICKHOUSE_USER="default",
    )
    assert own_clickhouse.statistics()["rows"] > 200
    connection = connect(address_of(own_clickhouse.url))
    assert connection.select("SHOW DATABASES LIKE 'aiecs_test%'") == []
    connection.close()
    with Redis(str(hot.hostname), hot.port or 0, db=3) as redis:
        assert redis.info("stats")["total_commands_processed"] > 200
        assert redis.keys() == []
