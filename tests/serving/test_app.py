"""Attaching: wrong settings are one clear line."""

import pytest
from fastapi import FastAPI

from core.errors import UsageError
from core.settings import Settings
from serving.app import attach


def test_a_missing_base_is_a_usage_error() -> None:
    """Said when the app is put together, before anything is started."""
    with pytest.raises(UsageError, match="No base model"):
        attach(FastAPI(), Settings(base=""), "redis://127.0.0.1:1")
