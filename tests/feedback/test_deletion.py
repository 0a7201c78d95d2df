"""A deleted completion trains nothing any more, and leaves the archive."""

import pytest

from core import keys, registry
from core.errors import UsageError
from feedback import archiving, deletion, store
from feedback.archive import Archive
from tests.feedback.test_cut import cut, policy


def _delete(redis_client, identifier):
    """As serving/lua/completion_delete.lua does."""
    redis_client.unlink(keys.completion(identifier))
    redis_client.sadd(keys.DELETED, identifier)


def test_nothing_reads_it_from_the_archive(redis_client, archive, varied, move):
    """From the moment of the deletion on, before the scheduler has looked."""
    move()
    assert set(store.completions(redis_client, ["chatcmpl-1", "chatcmpl-2-a"], archive)) == {
        "chatcmpl-1",
        "chatcmpl-2-a",
    }
    _delete(redis_client, "chatcmpl-1")
    assert set(store.completions(redis_client, ["chatcmpl-1", "chatcmpl-2-a"], archive)) == {"chatcmpl-2-a"}


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("struck_off", [False, True])
def test_no_later_snapshot_trains_on_it(redis_client, archive, varied, move, tmp_path, archived, struck_off):
    """Its votes give no rows, wherever log and records lie, before and after the scheduler looked; others do."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    before = cut(redis_client, tmp_path).manifest
    if archived:
        move()
    _delete(redis_client, "chatcmpl-1")
    if struck_off:
        assert deletion.run(redis_client, archive) == 1
    after = cut(redis_client, tmp_path).manifest
    assert (before.ratings, after.ratings) == (1, 0)
    assert after.rows == before.rows
    assert after.dropped == before.dropped | {"rating_expired": 1}


def test_its_words_leave_the_archive(redis_client, archive, varied, move):
    """No file holds its record; what else is archived stays, and the id is struck off."""
    move()
    before = set(archive.directory.iterdir())
    _delete(redis_client, "chatcmpl-1")
    assert deletion.run(redis_client, archive) == 1
    assert redis_client.exists(keys.DELETED) == 0
    assert dict(archive.records("completions", ["chatcmpl-1"])) == {}
    assert dict(archive.records("completions", ["chatcmpl-2-a"])) != {}
    assert len(store.log(redis_client, archive)[0]) == 8
    assert set(archive.directory.iterdir()) != before
    assert deletion.run(redis_client, archive) == 0


def test_it_waits_for_the_archive(redis_client, archive, varied, move):
    """While another process writes to the archive, the id stays where it is."""
    move()
    _delete(redis_client, "chatcmpl-1")
    with archiving.alone(archive.directory):
        assert deletion.run(redis_client, archive) is None
    assert redis_client.smembers(keys.DELETED) == {"chatcmpl-1"}


def test_another_archive_strikes_nothing_off(redis_client, archive, varied, expire, move, tmp_path):
    """Where Redis gave up entries that this archive does not hold, the id stays: the right one still has it."""
    expire()
    move()
    assert move().trimmed or redis_client.exists(keys.FEEDBACK_TRIMMED)
    _delete(redis_client, "chatcmpl-1")
    with pytest.raises(UsageError, match="ARTIFACTS_URL"):
        deletion.run(redis_client, Archive(tmp_path / "elsewhere"))
    assert redis_client.smembers(keys.DELETED) == {"chatcmpl-1"}
