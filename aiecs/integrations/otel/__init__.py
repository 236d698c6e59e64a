"""OpenTelemetry: a span around every operation of an engine, and its metrics.

Needs `opentelemetry-api` (the extra `otel`). Where spans and metrics go is for the application to
say, with the SDK. Content is never told; ids stand in spans alone, and only if they may.
"""

from importlib.util import find_spec

from aiecs.core.errors import MissingExtraError

# Other distributions bring the package `opentelemetry` without its API.
if find_spec("opentelemetry") is None or find_spec("opentelemetry.trace") is None:
    raise MissingExtraError("the OpenTelemetry observer", "otel")

from aiecs.integrations.otel.observer import OpenTelemetryObserver

__all__ = ["OpenTelemetryObserver"]
