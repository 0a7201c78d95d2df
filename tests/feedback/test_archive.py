"""The archive: one log before, while and after old votes move there; over a real Redis."""

import fcntl
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import redis

from core import keys, registry
from core.errors import UsageError
from core.files import sha256_of
from core.records import Feedback, Target
from feedback import archive as files
from feedback import archiving, store
from feedback.archive import Archive
from feedback.archiving import Moved
from tests.feedback.test_cut import cut, policy

NOW = {"copy_after_s": 0.0, "keep_s": 0.0}


# --- one log --------------------------------------------------------------------------------------------------------


def test_the_log_is_the_same_wherever_it_lies(redis_client, archive, varied, expire, move):
    """Before, copied, and given up in Redis: the same entries in the same order, and the records that they name."""
    before = store.log(redis_client)
    ids = [f"chatcmpl-2-{side}" for side in "abcd"] + ["chatcmpl-1"]
    records = store.completions(redis_client, ids), store.comparisons(redis_client, ["cmp_1", "cmp_2"])
    assert [len(found) for found in (*before, *records)] == [8, 1, 5, 2]
    assert move() == Moved(copied=9, trimmed=0)
    assert store.log(redis_client, archive) == store.log(redis_client) == before
    expire()
    assert move() == Moved(copied=0, trimmed=9)
    assert redis_client.xlen(keys.FEEDBACK) == 0
    assert store.log(redis_client, archive) == before
    found = store.completions(redis_client, ids, archive), store.comparisons(redis_client, ["cmp_1", "cmp_2"], archive)
    assert found == records
    assert store.completions(redis_client, ["chatcmpl-9"], archive) == {}


def test_the_snapshot_is_the_same_wherever_the_log_lies(redis_client, archive, varied, expire, move, tmp_path):
    """A snapshot is a function of the log: moving it changes neither rows nor id."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    before = cut(redis_client, tmp_path)
    assert (before.manifest.rows, before.manifest.rankings, before.manifest.ratings) == (6, 1, 1)
    copied = move().copied
    expire()
    assert (copied, move().trimmed) == (9, 9)
    assert cut(redis_client, tmp_path).manifest.id == before.manifest.id


def test_new_votes_follow_the_archived_ones(give, redis_client, archive, varied, expire, move, put_completion):
    """Redis counts on after it gave up everything, and the next run archives only what is new."""
    expire()
    move()
    put_completion("chatcmpl-3")
    new = give(target={"type": "completion", "id": "chatcmpl-3"})
    votes, _ = store.log(redis_client, archive)
    assert [vote.feedback.id for vote in votes[-1:]] == [new]
    assert move() == Moved(copied=1, trimmed=0)
    assert len(store.log(redis_client, archive)[0]) == 9


def test_partitions_hold_what_the_manifest_says(redis_client, archive, varied, move):
    """Consecutive, of a bounded size, each with all records that its entries name; the JSON is as it was stored."""
    entries = redis_client.xrange(keys.FEEDBACK)
    move(most=4)
    partitions = archive.manifest().partitions
    assert [partition.files["events"].rows for partition in partitions] == [4, 4, 1]
    assert (partitions[0].first, partitions[2].last) == (entries[0][0], entries[8][0])
    found = list(archive.entries(partitions))
    assert [(it.position, it.event or it.rater) for it in found] == [
        (position, fields.get("event") or fields.get("rater")) for position, fields in entries
    ]
    assert [(it.position, it.previous, it.first) for it in found if it.first] == [
        (position, fields["previous"], fields["first"]) for position, fields in entries if "first" in fields
    ]
    for partition in partitions:
        sides = {
            side for it in archive.entries([partition]) if it.event for side in json.loads(it.event)["completion_ids"]
        }
        table = pq.read_table(archive.directory / partition.files["completions"].name)
        assert (set(table["id"].to_pylist()), partition.missing) == (sides, 0)


def test_records_that_expired_too_soon_are_counted(api, give, archive, put_completion, expire, move):
    """A vote whose completion is gone is archived all the same; one that an older partition holds is not missing."""
    put_completion("chatcmpl-1")
    vote = give()
    move()
    expire()
    move()
    api.delete(f"/v1/feedback/{vote}")
    put_completion("chatcmpl-1")
    give(rater={"id": "q"})
    expire()
    put_completion("chatcmpl-2")
    give(target={"type": "completion", "id": "chatcmpl-2"})
    expire()
    move(most=10)
    assert [partition.missing for partition in archive.manifest().partitions] == [0, 1]


def test_a_reader_sees_all_while_the_archiver_is_at_work(redis_client, archive, move):
    """Entries that are given up between two chunks of a reader come from the archive; none is missed or doubled."""
    pipeline = redis_client.pipeline()
    for number in range(2500):
        event = Feedback(
            id=f"fb_{number}",
            target=Target(type="completion", id=f"chatcmpl-{number}"),
            kind="thumb",
            value=1,
            created_at=1.0,
            policy_versions=[0],
            completion_ids=[],
            train=True,
        )
        pipeline.xadd(keys.FEEDBACK, {"event": event.to_json()})
    pipeline.execute()
    reader = store.read_log(redis_client, archive)
    seen = [next(reader).feedback.id]
    assert move(most=700) == Moved(copied=2500, trimmed=2500)
    seen += [logged.feedback.id for logged in reader]
    assert seen == [f"fb_{number}" for number in range(2500)]


# --- when what moves ------------------------------------------------------------------------------------------------


def test_only_what_is_old_enough_moves(redis_client, archive, varied, expire):
    """Copying and trimming have horizons of their own; the oldest entry decides."""
    expire()
    assert archiving.run(redis_client, archive, copy_after_s=60, keep_s=0) == Moved()
    assert archiving.run(redis_client, archive, copy_after_s=0, keep_s=60) == Moved(copied=9)
    assert archiving.run(redis_client, archive, copy_after_s=60, keep_s=0) == Moved(trimmed=9)


def test_what_can_still_be_voted_on_stays_in_redis(give, redis_client, put_completion, move):
    """Trimming ends at the first entry whose target Redis holds: a vote on it must find the one that it supersedes."""
    for number in "123":
        put_completion(f"chatcmpl-{number}")
        give(target={"type": "completion", "id": f"chatcmpl-{number}"})
    redis_client.delete(keys.completion("chatcmpl-1"), keys.completion("chatcmpl-3"))
    assert move() == Moved(copied=3, trimmed=1)
    redis_client.delete(keys.completion("chatcmpl-2"))
    assert move() == Moved(copied=0, trimmed=2)


def test_one_archiver_at_a_time(redis_client, archive, varied):
    """A second one finds the lock and leaves; the lock ends with its process."""
    archive.directory.mkdir()
    with (archive.directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert archiving.run(redis_client, archive, **NOW) is None
    assert archiving.run(redis_client, archive, **NOW) == Moved(copied=9)


def test_a_full_redis_can_be_relieved(redis_client, archive, varied, expire, move):
    """Trimming works when nothing else can be written any more."""
    expire()
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            redis_client.set("x", "1")
        assert move() == Moved(copied=9, trimmed=9)
    finally:
        redis_client.config_set("maxmemory", 0)


# --- what must not be believed --------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("table", ["events", "completions", "comparisons"])
@pytest.mark.parametrize("damage", [flip, cut_short, Path.unlink])
def test_a_damaged_file_is_an_error_that_names_it(redis_client, archive, varied, move, expire, table, damage):
    """Never a log that is silently shorter; and nothing is given up in Redis while the archive is damaged."""
    move(most=10)
    name = archive.manifest().partitions[0].files[table].name
    damage(archive.directory / name)
    with pytest.raises(UsageError, match=name):
        if table == "events":
            store.log(redis_client, archive)
        elif table == "completions":
            store.completions(redis_client, ["chatcmpl-1"], archive)
        else:
            store.comparisons(redis_client, ["cmp_1"], archive)
    expire()
    with pytest.raises(UsageError, match=name):
        move()
    assert redis_client.xlen(keys.FEEDBACK) == 9


def test_an_archive_that_says_something_else_than_redis_is_not_believed(redis_client, archive, varied, expire, move):
    """Even with right hashes: an entry that differs is named, and nothing is given up."""
    move(most=10)
    (partition,) = archive.manifest().partitions
    path = archive.directory / partition.files["events"].name
    table = pq.read_table(path)
    events = table["event"].to_pylist()
    events[3] = events[3].replace('"value":', '"value": ')
    pq.write_table(table.set_column(4, "event", [events]), path)
    changed = partition.files["events"].model_copy(update={"sha256": sha256_of(path)})
    altered = partition.model_copy(update={"files": partition.files | {"events": changed}})
    files.write_manifest(archive.directory, [altered])
    expire()
    with pytest.raises(UsageError, match=redis_client.xrange(keys.FEEDBACK)[3][0]):
        move()
    assert redis_client.xlen(keys.FEEDBACK) == 9


def test_a_log_without_its_archive_is_an_error(redis_client, archive, varied, expire, move, tmp_path):
    """Readers and the archiver refuse to take what is left for everything."""
    expire()
    move()
    for wrong in (None, Archive(tmp_path / "elsewhere")):
        with pytest.raises(UsageError, match="ARTIFACTS_URL"):
            store.log(redis_client, wrong)
    with pytest.raises(UsageError, match="ARTIFACTS_URL"):
        archiving.run(redis_client, Archive(tmp_path / "elsewhere"), **NOW)


def test_a_lost_manifest_is_no_beginning(redis_client, archive, varied, move):
    """Partitions without one are not overwritten."""
    move()
    (archive.directory / files.MANIFEST).unlink()
    with pytest.raises(UsageError, match="holds partitions and no manifest"):
        move()
    assert len(list(archive.directory.glob("*.parquet"))) == 15


def test_what_a_killed_run_left_is_cleared(redis_client, archive, varied, move):
    """Temporary files, and partitions that no manifest names."""
    move()
    for name in (".events.parquet", "events-1-0-2-0-abc.parquet", ".manifest.json"):
        (archive.directory / name).write_text("half")
    move()
    named = {file.name for partition in archive.manifest().partitions for file in partition.files.values()}
    assert {path.name for path in archive.directory.iterdir()} == named | {files.MANIFEST, ".lock"}
