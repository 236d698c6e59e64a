"""The specification's own code, unchanged, on every store.

Collected when `AIECS_SPEC` names the specification (see conftest); `.ci/run` sets it where the
file lies beside the checkout. The calls are tested for everybody else in the other modules of
this folder. A block gets only the names that it uses and does not define: those in `NAMES`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import servers as real
from support.samples import Sample, python_samples, run_sample

SPEC = os.environ["AIECS_SPEC"]

NAMES: dict[str, Any] = {
    # the infrastructure example speaks of a session and an answer that the application has
    "session_id": "from-the-application",
    "content": "an answer",
    # the diagnoses are written as if these stood at the top of their module
    "datetime": datetime,
}
STORES = ["memory", "sqlite", *real.names()]

pytestmark = [
    # The specification's logger stamps its lines with the naive clock of old.
    pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning"),
]


def section(title: str) -> list[Sample]:
    """The blocks between a heading of the second or third level and the next of that level."""
    text = Path(SPEC).read_text()
    start = text.index(f"\n{title}\n")
    level = title.split(" ", 1)[0]
    following = re.compile(rf"^#{{2,{len(level)}}} ", re.MULTILINE)
    end = following.search(text, start + len(title) + 2)
    first = text.count("\n", 0, start)
    last = text.count("\n", 0, end.start()) if end else text.count("\n")
    return [sample for sample in python_samples(Path(SPEC)) if first < sample.line < last]


@pytest.fixture(params=STORES)
def run(
    request: pytest.FixtureRequest,
    servers: real.Servers,
    monkeypatch: pytest.MonkeyPatch,
    prefix: str,
    tmp_path: Path,
) -> Iterator[Callable[..., Any]]:
    """Runs blocks in order in one namespace; the store is chosen by the environment alone."""
    if request.param == "memory":
        monkeypatch.setenv("AIECS_STORE_URL", "memory://")
    elif request.param == "sqlite":
        monkeypatch.setenv("AIECS_STORE_URL", f"sqlite:///{tmp_path}/spec.db")
    else:
        server = urlsplit(servers.shared(request.param).url)
        monkeypatch.setenv("REDIS_HOST", str(server.hostname))
        monkeypatch.setenv("REDIS_PORT", str(server.port))
        monkeypatch.setenv("AIECS_KEY_PREFIX", prefix.replace(":", "."))
    monkeypatch.chdir(tmp_path)
    names = dict(NAMES) | {"__name__": "specification"}
    with asyncio.Runner() as runner:

        def run_blocks(blocks: list[Sample], *afterwards: str) -> dict[str, Any]:
            for block in blocks:
                run_sample(runner, Path(SPEC), block, names)
            for line in afterwards:
                run_sample(runner, Path("afterwards"), Sample(0, "python", "", line), names)
            return names

        yield run_blocks
        if "engine" in names and hasattr(names["engine"], "close"):
            runner.run(names["engine"].close())


def usage() -> list[Sample]:
    blocks = section("## Usage Examples")
    assert len(blocks) == 5
    return blocks


class TestTheSpecification:
    def test_usage_examples_in_order(self, run, capsys):
        names = run(usage())

        printed = capsys.readouterr().out
        assert "user: Hello, I need help with data analysis" in printed
        assert printed.index("user: Hello") < printed.index("assistant: I'd be happy")
        assert names["session"].metadata == {"source": "web", "version": "1.0"}
        assert [m["content"] for m in names["agent_history"]] == [
            "I've analyzed your sales data and found some interesting patterns."
        ]
        assert names["checkpoint"]["data"]["processed_records"] == 1000
        assert names["retrieved_context"].to_dict() == names["context"].to_dict()

    def test_initialization_via_infrastructure(self, run):
        names = run(section("### 7. Initialization via Infrastructure"))

        assert names["engine"] is not None
        assert names["get_context_engine"]() is None

    def test_health_and_performance(self, run, capsys):
        run(
            [*usage(), *section("### 1. Daily Maintenance")],
            "healthy = await check_engine_health(engine)",
            "await monitor_engine_performance(engine)",
            "assert healthy",
        )

        printed = capsys.readouterr().out
        assert "Total Messages: " in printed
        assert "Cache Hit Rate: " in printed

    def test_troubleshooting(self, run, capsys):
        run(
            [*usage(), *section("### 2. Troubleshooting")],
            "await diagnose_redis_connection(engine)",
            "await diagnose_session_consistency(engine, 'user_123_session_001')",
        )

        printed = capsys.readouterr().out
        assert "✅ Session found: user_123_session_001" in printed
        assert "Status: completed" in printed
        assert "Recent messages: 2" in printed
        assert "❌" not in printed

    def test_performance_optimization(self, run, capsys):
        run(
            [*usage(), *section("### 3. Performance Optimization")],
            "await optimize_memory_usage(engine)",
            "await optimize_storage_performance(engine)",
        )

        assert "Cleaned up 0 expired sessions" in capsys.readouterr().out

    def test_migration(self, run, capsys):
        names = run(
            [*usage(), *section("### 4. Data Migration")],
            "target = ContextEngine(store='memory://')",
            "await target.initialize()",
            "await migrate_session_data(engine, target)",
            "moved = await target.get_conversation_history('user_123_session_001')",
            "await target.close()",
        )

        assert "Failed" not in capsys.readouterr().out
        assert [m.role for m in names["moved"]] == ["user", "assistant"]

    def test_performance_monitoring(self, run):
        names = run(
            [*usage(), *section("### Performance Monitoring")[-1:]],
            "monitor = ContentEngineMonitor(engine)",
            "await monitor.record_operation('session', 'create', 0.01, True)",
            "report = monitor.get_performance_report()",
        )

        assert names["report"]["session_operations"]["total_operations"] == 1

    def test_logging(self, run):
        run(
            [*usage(), *section("### Logging")],
            "log = ContentEngineLogger(engine)",
            "await log.log_session_operation('create', 's', True, 0.01)",
            "await log.log_conversation_operation('add', 's', 1, True)",
        )
