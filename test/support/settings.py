"""Settings of an environment that the test names."""

from __future__ import annotations

import pytest

from aiecs.core.settings import Settings, load_settings

SECRET = "s3cr3t-&:/@?#%"


def load(**variables: str) -> Settings:
    """The settings while these variables are set."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return load_settings()
