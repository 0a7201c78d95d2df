"""Figures of scheduler and worker, which have no listener: read from Redis and the archive when the API is scraped."""

import logging
from collections import Counter

import redis

from core import keys, metrics
from core.errors import UsageError
from core.records import RunState
from feedback.archive import Archive
from plumbline.scheduler import new_votes
from training import runs

log = logging.getLogger("plumbline.gauges")


def refresh(client: redis.Redis, archive: Archive) -> None:
    """Sets the loop's gauges; those that cannot be read keep their last values."""
    try:
        metrics.VOTES_UNUSED.set(new_votes(client))
        metrics.RATERS_QUARANTINED.set(client.scard(keys.QUARANTINED))
        metrics.ARCHIVE_SUCCESS.set(float(client.hget(keys.SCHEDULER, "archived_at") or 0))
        states = Counter(run.state for run in runs.all_runs(client))
        for state in RunState:
            metrics.RUNS.labels(state).set(states[state])
        entries = sum(partition.files["events"].rows for partition in archive.manifest().partitions)
        metrics.ARCHIVE_ENTRIES.set(entries)
    except (redis.RedisError, UsageError) as error:
        log.warning("the loop's gauges keep their last values: %s", error)
