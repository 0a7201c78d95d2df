"""Attaching: wrong settings are one clear line, and nothing heavy is imported for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import UsageError
from serving.app import resolve_base


def test_a_missing_base_is_a_usage_error(tmp_path: Path) -> None:
    """The message names the variable."""
    for base in ("", str(tmp_path / "nothing" / "here" / "at" / "all")):
        with pytest.raises(UsageError, match="PLUMBLINE_BASE"):
            resolve_base(base)
    assert resolve_base(str(tmp_path)) == tmp_path.resolve()


def test_importing_the_app_loads_neither_torch_nor_vllm() -> None:
    """They come with the engine, when it is built."""
    code = "import sys, serving.app; print([name for name in ('torch', 'vllm') if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
