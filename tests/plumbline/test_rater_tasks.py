"""`plumbline tasks`, as an operator calls it."""

import json
import subprocess
from pathlib import Path

import pytest
import redis

from core import keys
from core.records import Choice, CompletionRecord, Message
from tests import warm

RATE = {"kind": "rate", "target": {"type": "completion", "id": "chatcmpl-1"}, "external_id": "x-1"}


def plumbline(*arguments: str, redis_url: str) -> subprocess.CompletedProcess[str]:
    return warm.run("plumbline.cli", *arguments, REDIS_URL=redis_url)


@pytest.fixture
def completion(redis_client: redis.Redis) -> None:
    record = CompletionRecord(
        id="chatcmpl-1",
        state="complete",
        created=1790000000.0,
        messages=[Message(role="user", content="A dog is")],
        choices=[Choice(index=0, text="A pet.", token_ids=[70, 4])],
        sampling={"n": 1},
        policy_version=0,
        adapter_sha256="00" * 32,
        assignment="live",
    )
    redis_client.hset(keys.completion("chatcmpl-1"), mapping={"record": record.to_json(), "state": record.state})


def test_add_and_status(redis_server: str, redis_client: redis.Redis, completion: None, tmp_path: Path) -> None:
    """Good lines are added once however often, bad ones are named with their line, and the status counts."""
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps(RATE) + "\n\n" + json.dumps(RATE | {"external_id": "x-2", "overlap": "many"}) + "\n")
    first, again = (plumbline("tasks", "add", str(file), redis_url=redis_server) for _ in range(2))
    assert (first.returncode, again.returncode) == (1, 1)
    assert first.stdout == again.stdout
    assert first.stdout.startswith("line 1: task_")
    assert first.stderr.startswith("line 3: ")
    assert redis_client.zcard(keys.TASKS) == 1
    status = plumbline("tasks", "status", redis_url=redis_server)
    assert status.stdout == "1 open, 0 done, 0 expired; 0 answers, 0 given out now\n"


@pytest.mark.parametrize(("text", "expected"), [("{", "line 1: not JSON"), (None, "cannot be read")])
def test_a_wrong_file_is_one_line(redis_server: str, redis_client: redis.Redis, tmp_path: Path, text, expected) -> None:
    """What is wrong, and nothing is added."""
    file = tmp_path / "tasks.jsonl"
    if text is not None:
        file.write_text(text)
    result = plumbline("tasks", "add", str(file), redis_url=redis_server)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert expected in result.stderr
