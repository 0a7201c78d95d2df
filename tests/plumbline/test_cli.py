"""The command line, as a user calls it."""

import subprocess
from pathlib import Path

import pytest

from tests import warm


def plumbline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return warm.run("plumbline.cli", *arguments, **environment)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["up"],
        ["init"],
        ["demo"],
        ["policies"],
        ["policies", "rollback"],
        ["runs"],
        ["train"],
        ["tasks"],
        ["receipts"],
        ["export"],
        ["raters"],
    ],
)
def test_help_teaches(command: list[str]) -> None:
    """Every command explains itself."""
    result = plumbline(*command, "--help")
    assert result.returncode == 0
    assert "Usage:" in result.stdout


def test_help_names_the_variables() -> None:
    """What the command line leaves out comes from the environment, and help says from where."""
    shown = plumbline("up", "--help", COLUMNS="120").stdout
    assert [f"[env: PLUMBLINE_{name}]" in shown for name in ("BASE", "PORT", "HOME")] == [True] * 3


def test_redis_away_is_one_line(tmp_path: Path) -> None:
    """No traceback: what is wrong and what to do."""
    result = plumbline("status", REDIS_URL="redis://127.0.0.1:1/0")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "start the stack with `plumbline up`" in result.stderr


def test_wrong_setting_names_its_variable() -> None:
    """A wrong value stops the program with a line that names the variable."""
    result = plumbline("up", PLUMBLINE_PORT="eighty")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "PLUMBLINE_PORT" in result.stderr


def test_up_needs_a_base(tmp_path: Path) -> None:
    """Without a base `up` says which commands bring one."""
    result = plumbline("up", PLUMBLINE_HOME=str(tmp_path), PLUMBLINE_PORT="18743", PLUMBLINE_ADMIN_PORT="18744")
    assert result.returncode == 2
    assert "--base PATH_OR_HUB_ID" in result.stderr


def test_status_before_the_first_start(redis_server: str, redis_client: object) -> None:
    """An empty Redis is a state to explain, not an error."""
    result = plumbline("status", REDIS_URL=redis_server)
    assert result.returncode == 0
    assert "No policy is registered yet" in result.stdout
