"""Erasure: canaries that are planted through the API are nowhere afterwards, and everybody else is as before."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from core import keys, registry
from core.errors import InvalidRequest, UsageError
from core.records import SnapshotManifest
from core.redis import connect_async
from feedback import erasure, erasure_redis, snapshot, store
from feedback.archive import Archive
from feedback.cut import cut_snapshot
from feedback.erasure_plan import Traces
from feedback.rows import hashed_rater
from tests.feedback.canaries import (
    OTHER,
    OTHERS_PROMPT,
    OWN_ID,
    RATER,
    Deployment,
    Kept,
    deployed,
    dumped,
    message,
    plant,
)


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Deployment]:
    with deployed(tmp_path / "redis", tmp_path / "artifacts") as made:
        plant(made)
        yield made


def manifests(d: Deployment) -> list[SnapshotManifest]:
    found = (snapshot.read_manifest(path.parent) for path in (d.artifacts / "snapshots").glob("*/manifest.json"))
    return sorted(found, key=lambda manifest: manifest.created)


def test_no_canary_is_left_anywhere(planted: Deployment) -> None:
    """Redis's keys, its append-only file and every file of the artifacts: nothing that the person said, nor their id,
    nor what another rater made of their words."""
    kept = Kept()
    asked = planted.api.delete(f"/v1/users/{RATER}")
    assert (asked.status_code, asked.json()["state"]) == (202, "queued")
    done = planted.erase(kept)
    assert planted.found() == set()
    before, held = manifests(planted)
    assert (before.erased, held.erased is None) == (None, False)
    assert kept.snapshots == {held.id} == set(done.snapshots)
    shown = planted.api.get(f"/v1/erasures/{asked.json()['job']}").json()
    assert (shown["state"], shown["tainted"], shown["error"]) == ("done", ["assistant@v1"], "")
    assert registry.tainted(planted.client).keys() == {1}


def test_everybody_else_is_as_before(planted: Deployment) -> None:
    """Others' votes, chats and snapshots stand, positions in the log too; the erased snapshot is refused."""
    archive = Archive(planted.artifacts)
    others = [it for it in store.log(planted.client, archive)[0] if it.feedback.rater == OTHER]
    theirs = [it for it in others if it.feedback.target.id == "chatcmpl-other"]
    planted.api.delete(f"/v1/users/{RATER}")
    planted.erase(Kept())
    votes, raters = store.log(planted.client, archive)
    assert votes == theirs
    salt = store.deployment_salt(planted.client)
    assert [it.event.rater for it in raters] == [hashed_rater(salt, RATER)]
    before, held = manifests(planted)
    directory = planted.artifacts / "snapshots"
    assert snapshot.read(directory / before.id).manifest == before
    with pytest.raises(UsageError, match="erased"):
        snapshot.read(directory / held.id)
    assert planted.api.get(f"/v1/feedback/{theirs[0].feedback.id}").json()["comment"] == "mine"
    assert planted.client.hget(keys.conversation(OTHER, "conv_1"), "title") == "nobody's business"
    assert planted.api.get(f"/v1/feedback/{OWN_ID}").status_code == 404
    planted.vote("chatcmpl-other", OTHER, kind="comment", value="goes on")


def test_the_next_snapshot_is_clean(planted: Deployment) -> None:
    """It holds others' rows only; and whoever votes again under the same id is never trained on."""
    planted.api.delete(f"/v1/users/{RATER}")
    planted.erase(Kept())
    planted.vote("chatcmpl-other", RATER)
    salt = store.deployment_salt(planted.client)
    found = cut_with(planted, salt)
    assert {row.rater for row in found.thumbs} == {hashed_rater(salt, OTHER)}
    assert [row.prompt for row in found.prompts] == [json.dumps(message(OTHERS_PROMPT), separators=(",", ":"))]
    assert found.manifest.dropped["thumb_erased"] == 1


def cut_with(d: Deployment, salt: bytes) -> snapshot.Snapshot:
    return cut_snapshot(d.client, d.artifacts, salt=salt, base_sha256="b", tokenizer_sha256="t")


def test_what_redis_gave_up_before_leaves_nothing(tmp_path: Path) -> None:
    """A trimmed entry's bytes stay in the stream's node, beside entries that are still there: they go too."""
    with deployed(tmp_path / "redis", tmp_path / "artifacts") as d:
        d.put("chatcmpl-canary", rater=RATER)
        d.put("chatcmpl-other", rater=OTHER)
        d.vote("chatcmpl-canary", RATER)
        d.vote("chatcmpl-other", OTHER)
        d.archive()
        d.client.delete(keys.completion("chatcmpl-canary"))
        assert d.archive(keep_s=0).trimmed == 1
        assert RATER.encode() in dumped(d.client, keys.FEEDBACK)
        d.api.delete(f"/v1/users/{RATER}")
        d.erase(Kept())
        assert d.found() == set()


def test_what_fails_is_said_and_tried_again(planted: Deployment) -> None:
    """A trainer that is still being stopped: the job names the error, and its next attempt ends it. The person's id is
    no part of what is shown."""
    job = planted.api.delete(f"/v1/users/{RATER}").json()["job"]

    def busy(snapshots: object) -> list[str]:
        raise UsageError("run 3c59 is being stopped")

    with pytest.raises(UsageError, match="3c59"):
        planted.erase(busy)
    shown = planted.api.get(f"/v1/erasures/{job}")
    assert (shown.json()["state"], shown.json()["error"]) == ("erasing", "run 3c59 is being stopped")
    assert RATER not in shown.text
    assert planted.api.delete(f"/v1/users/{RATER}").json() == shown.json()
    assert planted.erase(Kept()).tainted == [1]
    assert planted.found() == set()
    assert erasure.pending(planted.client) == []


def test_a_full_redis_costs_nothing(planted: Deployment) -> None:
    """Nothing is lost while there is no room for another stream; with room again, the job ends. No error repeats what
    Redis refused to write."""
    planted.api.delete(f"/v1/users/{RATER}")
    before = planted.state()
    planted.client.config_set("maxmemory", 1)
    with pytest.raises(redis.RedisError):
        planted.erase(Kept())
    planted.client.config_set("maxmemory", 0)
    assert planted.state() == before
    planted.erase(Kept())
    assert planted.found() == set()


def test_asked_again_it_takes_what_came_since(planted: Deployment) -> None:
    """A second erasure of the same person is the same job, begun anew, without a second tombstone."""
    first = planted.api.delete(f"/v1/users/{RATER}").json()["job"]
    planted.erase(Kept())
    planted.vote("chatcmpl-other", RATER)
    assert planted.found() == {RATER}
    assert planted.api.delete(f"/v1/users/{RATER}").json()["job"] == first
    planted.erase(Kept())
    assert planted.found() == set()
    assert len(store.log(planted.client, Archive(planted.artifacts))[1]) == 1


def test_an_unknown_job_is_not_found(planted: Deployment) -> None:
    """404 in the usual shape; and to erase somebody unknown is a job like any other, that finds nothing."""
    assert planted.api.get("/v1/erasures/er_0").json()["error"]["code"] == "erasure_not_found"
    planted.api.delete("/v1/users/nobody")
    done = planted.erase(Kept())
    assert (done.counts, done.snapshots, done.tainted) == ({}, [], [])


def test_nobody_cannot_be_erased(planted: Deployment) -> None:
    """An empty name, as an unset variable gives it, is refused before anything is queued."""
    assert planted.api.delete("/v1/users/").status_code == 400
    with pytest.raises(InvalidRequest, match="whom to erase"):
        asyncio.run(erasure.request(connect_async("redis://unused"), ""))
    assert erasure.pending(planted.client) == []


def test_whoever_is_called_alike_is_somebody_else(redis_client: redis.Redis) -> None:
    """Names may hold what keys are divided by, and what patterns mean something by."""
    for rater in ("a", "a:b", "a:", "*", "ab"):
        redis_client.hset(keys.conversation(rater, "conv_1"), "title", rater)
    for rater in ("a", "*"):
        assert erasure_redis.erase(redis_client, Traces(rater=rater, hashed="h"))["kept_conversations"] == 1
    left = sorted(str(redis_client.hget(name, "title")) for name in redis_client.scan_iter(keys.conversation("*", "*")))
    assert left == ["a:", "a:b", "ab"]
