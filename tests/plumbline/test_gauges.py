"""Figures of scheduler and worker as the API exports them."""

from pathlib import Path

import pytest
import redis
from prometheus_client import REGISTRY

from core import keys
from core.redis import connect
from core.settings import Settings
from feedback import rater_review
from feedback.archive import Archive
from plumbline import gauges, scheduler

NAMES = ("raters_quarantined", "archive_entries", "archive_last_success_timestamp_seconds", "votes_unused")


@pytest.fixture
def config(redis_server: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_server, home=tmp_path, archive_after_s=0.001)


def read() -> list[float | None]:
    return [REGISTRY.get_sample_value(f"plumbline_{name}") for name in NAMES]


def test_gauges_say_what_redis_and_the_archive_hold(redis_client: redis.Redis, config: Settings) -> None:
    """Raters in quarantine; the log's entries that are archived; when archiving last went well, 0 if never."""
    archive = Archive(config.artifacts)
    gauges.refresh(redis_client, archive)
    assert read() == [0, 0, 0, 0]
    for rater in ("p", "q"):
        rater_review.quarantine(redis_client, rater, reason="first side", actor="trust", seen="")
    redis_client.hset(keys.FEEDBACK_COUNTS, "preference", 3)
    assert scheduler.archive_votes(redis_client, config) is not None
    gauges.refresh(redis_client, archive)
    noted = float(redis_client.hget(keys.SCHEDULER, "archived_at"))
    assert (read(), noted > 0) == ([2, 2, noted, 3], True)


def test_what_cannot_be_read_keeps_its_value(redis_client: redis.Redis, config: Settings, tmp_path: Path) -> None:
    """Redis away, or an archive that cannot be read: the scrape goes on."""
    rater_review.quarantine(redis_client, "p", reason="first side", actor="trust", seen="")
    gauges.refresh(redis_client, Archive(config.artifacts))
    before = read()
    with connect(f"unix://{tmp_path}/nobody.sock") as away:
        gauges.refresh(away, Archive(config.artifacts))
    (config.artifacts / "archive").mkdir(parents=True)
    (config.artifacts / "archive" / "manifest.json").write_text("{")
    gauges.refresh(redis_client, Archive(config.artifacts))
    assert (before[0], read()) == (1, before)
