"""The page's own unit tests (web/app/tests), run where all tests are run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import web

pytestmark = pytest.mark.browser
APP = web.directory().parent / "app"


def test_the_pure_parts_of_the_page() -> None:
    """Markdown, conversations, rankings."""
    beside_python = str(Path(sys.executable).parent)
    path = f"{os.environ['PATH']}:{beside_python}"
    npm = shutil.which("npm", path=path)
    assert npm and (APP / "node_modules/.bin/vitest").exists(), "the page's tools are not here: run `make page-tools`"
    ran = subprocess.run([npm, "--silent", "test"], cwd=APP, env={**os.environ, "PATH": path}, capture_output=True)
    assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()
