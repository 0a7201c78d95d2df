"""Attaching: wrong settings are one clear line, and nothing heavy is imported for it."""

import subprocess
import sys

import pytest
from fastapi import FastAPI

from core.errors import UsageError
from core.settings import Settings
from serving.app import attach


def test_a_missing_base_is_a_usage_error() -> None:
    """Said when the app is put together, before anything is started."""
    with pytest.raises(UsageError, match="No base model"):
        attach(FastAPI(), Settings(base=""), "redis://127.0.0.1:1")


def test_importing_the_app_loads_neither_torch_nor_vllm() -> None:
    """They come with the engine, when it is built."""
    code = "import sys, serving.app; print([name for name in ('torch', 'vllm') if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
