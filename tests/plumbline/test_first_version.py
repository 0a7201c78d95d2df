"""Version 0 is registered once in the life of a deployment; that it can be made at all is shown by tests/e2e."""

import asyncio
import os
from pathlib import Path

import pytest
import redis

from core import audit, registry
from core.errors import UsageError
from core.settings import Settings
from plumbline import first_version
from tests.serving import fake, policies


def register(client: redis.Redis, home: Path, base: Path) -> bool:
    """With a recipe that does not exist: it fails if it tries to make an adapter."""
    config = Settings(home=home, base=str(base), recipe=str(home / "none.toml"))
    work = first_version.register(client, config, base, environment=dict(os.environ), actor="init")
    return asyncio.run(work)


def test_a_second_time_changes_nothing(redis_client: redis.Redis, tmp_path: Path) -> None:
    """Where there is a version 0, nothing is made and nothing is written."""
    base = fake.write_base(tmp_path / "base")
    policies.initialise(redis_client, fake.publish(tmp_path / "artifacts", base, number=1))
    before = registry.state(redis_client), list(audit.history(redis_client))
    assert register(redis_client, tmp_path, base) is False
    assert (registry.state(redis_client), list(audit.history(redis_client))) == before


def test_what_cannot_be_made_is_not_registered(redis_client: redis.Redis, tmp_path: Path) -> None:
    """The publishing program's own words are the error, and the registry stays empty."""
    base = fake.write_base(tmp_path / "base")
    with pytest.raises(UsageError, match=r"training\.publish failed:\n.*none\.toml"):
        register(redis_client, tmp_path, base)
    assert registry.state(redis_client) is None


def test_another_base_is_refused(redis_client: redis.Redis, tmp_path: Path) -> None:
    """All adapters of a deployment are over one base: with another one they would be noise."""
    policies.initialise(redis_client, "a" * 64)
    register(redis_client, tmp_path, fake.write_base(tmp_path / "base"))
    other = fake.write_base(tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text().replace("{", '{"other": 1, ', 1))
    with pytest.raises(UsageError, match="belongs to another base"):
        register(redis_client, tmp_path, other)
