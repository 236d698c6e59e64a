"""What the doctor found: facts about the store and the installation, and what to do about them."""

from __future__ import annotations

from typing import Any

from aiecs.core.interface.finding import Finding


def health_findings(health: dict[str, Any]) -> list[Finding]:
    """What the engine says of itself; that writes are refused is more than a warning."""
    from aiecs.domain.context.diagnosis import WRITES_REFUSED

    found = [Finding(**one) for one in health["server"]]
    told = {str(one) for one in found}
    issues = [str(issue) for issue in health["issues"] if issue not in told]
    refused = [issue for issue in issues if issue.startswith(WRITES_REFUSED)]
    advice = "make room, name the primary, or end what locks the file, as the message says"
    found += [Finding("writes", "fail", issue, advice) for issue in refused]
    found += [Finding("health", "warn", issue) for issue in issues if issue not in refused]
    if not issues:
        totals = f"{health['active_sessions']} active sessions, {health['total_messages']} messages"
        found.append(Finding("health", "ok", f"{health['status']}, takes writes; {totals}"))
    return found


def latency(seconds: list[float]) -> Finding:
    """How fast the store answers; `seconds` of some small reads."""
    ordered = sorted(seconds)
    median, worst = ordered[len(ordered) // 2] * 1000, ordered[-1] * 1000
    detail = f"median {median:.2f} ms, worst {worst:.2f} ms of {len(ordered)} reads"
    if median > 20:  # noqa: PLR2004 - milliseconds that a user of a chat would notice
        return Finding("latency", "warn", detail, "bring the application nearer to the store")
    return Finding("latency", "ok", detail)
