"""`plumbline runs`, as an operator calls it."""

import subprocess

import pytest
import redis

from core import audit
from core.records import RunState
from tests.plumbline.test_cli import plumbline
from training import runs


@pytest.fixture
def run(redis_client: redis.Redis) -> str:
    """The id of a queued run."""
    planned = runs.planned(snapshot="s", parent=0, recipe="{}", last_vote=1.0)
    assert runs.create(redis_client, planned, votes=5) == "created"
    return planned.id


def called(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return plumbline("runs", *arguments, REDIS_URL=url, USER="ann")


def test_a_run_is_cancelled_and_repeated_for_a_reason(redis_server: str, redis_client: redis.Redis, run: str) -> None:
    """By the beginning of its id; the audit trail has both, with who did it."""
    stopped = called(redis_server, "cancel", run[:8], "--reason", "a wrong recipe")
    assert stopped.stdout == f"run {run} is cancelled.\n", stopped.stderr
    assert "cancelled by cli:ann: a wrong recipe" in called(redis_server, "show", run).stdout
    again = called(redis_server, "retry", run, "--reason", "a right one")
    assert again.stdout == f"run {run} is queued.\n", again.stderr
    assert [(it.action, it.subject, it.actor, it.reason) for it in audit.history(redis_client)] == [
        ("run.cancel", run, "cli:ann", "a wrong recipe"),
        ("run.retry", run, "cli:ann", "a right one"),
    ]


@pytest.mark.parametrize("arguments", [["start"], ["cancel", "ID"], ["retry", "ID"]])
def test_without_a_reason_nothing_happens(
    redis_server: str, redis_client: redis.Redis, run: str, arguments: list[str]
) -> None:
    """Neither left out nor empty."""
    named = [run if it == "ID" else it for it in arguments]
    assert called(redis_server, *named).returncode == 2
    empty = called(redis_server, *named, "--reason", " ")
    assert empty.returncode == 2 and "--reason is empty" in empty.stderr
    assert runs.get(redis_client, run).state is RunState.QUEUED
    assert audit.history(redis_client) == []


def test_an_unclear_beginning_is_refused(redis_server: str, redis_client: redis.Redis, run: str) -> None:
    """One line, with how many it could be."""
    unclear = called(redis_server, "cancel", "none", "--reason", "x")
    assert (unclear.returncode, unclear.stderr) == (
        2,
        "plumbline: 0 runs begin with 'none'; `plumbline runs list` shows all.\n",
    )
