"""Without their optional packages observers say which command installs them."""

from __future__ import annotations

import importlib
import sys
from importlib import util

import pytest

from aiecs.core.errors import MissingExtraError


@pytest.mark.parametrize("name", ["prometheus", "otel"])
def test_the_command_is_named(monkeypatch, name):
    module = f"aiecs.integrations.{name}"
    for loaded in [one for one in sys.modules if one.startswith(module)]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=rf"aiecs-context-engine\[{name}\]"):
        importlib.import_module(module)


def test_the_bare_namespace_of_another_distribution_is_not_the_api(monkeypatch):
    module = "aiecs.integrations.otel"
    for loaded in [one for one in sys.modules if one.startswith(module)]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)

    with pytest.raises(MissingExtraError, match=r"aiecs-context-engine\[otel\]"):
        importlib.import_module(module)
