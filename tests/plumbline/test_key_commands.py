"""`plumbline keys`: with a stack's Redis, and with none running."""

import re
import subprocess
from pathlib import Path

import pytest
import redis

from core import api_keys, audit
from core.keys import usage
from core.secret import secret
from core.settings import Settings
from tests import warm


def plumbline(home: Path, *arguments: str, redis_url: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with a user's name."""
    environment = {"PLUMBLINE_HOME": str(home), "REDIS_URL": redis_url, "USER": "ann"}
    return warm.run("plumbline.cli", "keys", *arguments, **environment)


def test_a_key_from_its_making_to_its_end(redis_server: str, redis_client: redis.Redis, tmp_path: Path) -> None:
    """The token is the one line on stdout; every act is in the audit, with who did it."""
    options = ["--name", "shop", "--scopes", "chat, feedback", "--tenant", "acme", "--requests-per-minute", "60"]
    made = plumbline(tmp_path, "create", *options, redis_url=redis_server)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert re.fullmatch(r"plumb_[0-9a-f]{12}_[0-9a-f]{64}", token)
    [standing] = api_keys.all_keys(redis_client)
    key = standing.key
    assert (key.id, key.tenant, key.scopes) == (api_keys.key_id(token), "acme", ["chat", "feedback"])
    assert key.hash == api_keys.hashed(secret(Settings(home=tmp_path)), token)
    assert (key.limits.requests_per_minute, key.limits.concurrency, key.actor) == (60, None, "cli:ann")
    redis_client.hset(usage(key.id), mapping={"20778 requests": 3, "20778 votes": 1, "20777 prompt_tokens": 9})
    used = plumbline(tmp_path, "usage", key.id, redis_url=redis_server).stdout.splitlines()
    assert [line.split() for line in used[1:]] == [
        ["2026-11-20", "0", "9", "0", "0"],
        ["2026-11-21", "3", "0", "0", "1"],
    ]
    revoke = ["revoke", key.id, "--reason", "leaked"]
    said = [plumbline(tmp_path, *revoke, redis_url=redis_server).stdout for _ in range(2)]
    assert said == [f"{key.id} is revoked.\n", f"{key.id} was revoked before.\n"]
    listed = plumbline(tmp_path, "list", redis_url=redis_server).stdout
    assert key.id in listed and "revoked" in listed and token.rpartition("_")[2] not in listed
    told = [(it.action, it.actor, it.reason) for it in audit.history(redis_client)]
    assert told == [("key.create", "cli:ann", "shop: chat, feedback, tenant acme"), ("key.revoke", "cli:ann", "leaked")]


def test_the_page_has_a_usage_without_a_key(redis_server: str, redis_client: redis.Redis, tmp_path: Path) -> None:
    """All its visitors are one line a day."""
    redis_client.hset(usage("page"), mapping={"20778 requests": 7, "20778 votes": 2})
    used = plumbline(tmp_path, "usage", "page", redis_url=redis_server).stdout.splitlines()
    assert [line.split() for line in used[1:]] == [["2026-11-21", "7", "0", "0", "2"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--name", "x", "--scopes", "chat,all"], "not 'all'"),
        (["create", "--name", "x", "--scopes", "chat", "--tenant", "Acme Inc"], "tenant"),
        (["create", "--name", "", "--scopes", "chat"], "name"),
        (["revoke", "key_1", "--reason", "x"], "no key 'key_1'"),
        (["usage", "key_1"], "no key 'key_1'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    redis_server: str, redis_client: redis.Redis, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """And nothing is stored."""
    refused = plumbline(tmp_path, *arguments, redis_url=redis_server)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert said in refused.stderr
    assert api_keys.all_keys(redis_client) == []


def test_a_first_key_needs_no_running_stack(tmp_path: Path) -> None:
    """A stack on a public address does not start before there is one. What was made stays."""
    made = plumbline(tmp_path, "create", "--name", "first", "--scopes", "admin")
    assert made.returncode == 0, made.stderr
    listed = plumbline(tmp_path, "list")
    assert (api_keys.key_id(made.stdout.strip()) or "?") in listed.stdout, listed.stderr
