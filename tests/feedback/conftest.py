"""What serving would have left in Redis, written directly, and the feedback API over a real Redis."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

import feedback.app
from core import http, keys
from core.records import SIDES, Choice, Comparison, CompletionRecord, CompletionState, Feedback, Message
from core.settings import Settings
from feedback import archiving, store
from feedback.archive import Archive
from feedback.archiving import Moved
from feedback.events import LoggedVote
from tests.feedback.wire import PREFERENCE, RANKING, THUMB

WINDOW_S = 3600


def completion_record(identifier: str, **given: object) -> CompletionRecord:
    """A complete answer of version 0 to "A dog is", by user-7, unless `given` says otherwise."""
    fields: dict[str, object] = {
        "id": identifier,
        "state": CompletionState.COMPLETE,
        "created": 1790000000.0,
        "messages": [Message(role="user", content="A dog is")],
        "prompt_token_ids": [1, 65, 301],
        "choices": [Choice(index=0, text=f"text of {identifier}", token_ids=[70, 4], finish_reason="stop")],
        "sampling": {"temperature": 1.0, "n": 1},
        "policy_version": 0,
        "adapter_sha256": "00" * 32,
        "assignment": "live",
        "rater": "user-7",
    }
    return CompletionRecord.model_validate(fields | given)


@pytest.fixture
def put_completion(redis_client: redis.Redis) -> Callable[..., CompletionRecord]:
    def put(identifier: str, **given: object) -> CompletionRecord:
        record = completion_record(identifier, **given)
        key = keys.completion(identifier)
        redis_client.hset(key, mapping={"record": record.to_json(), "outline": record.outline(), "state": record.state})
        redis_client.expire(key, WINDOW_S)
        return record

    return put


@pytest.fixture
def put_comparison(redis_client: redis.Redis, put_completion: Callable[..., CompletionRecord]) -> Callable[..., str]:
    """The comparison `cmp_{name}` over sides `chatcmpl-{name}-a`, `-b`, … by the given versions (else 3 and 2)."""

    def put(name: str = "1", *, versions: tuple[int, ...] = (3, 2), **sides: dict[str, object]) -> str:
        identifier = f"cmp_{name}"
        ids = [f"chatcmpl-{name}-{side}" for side, _ in zip(SIDES, versions, strict=False)]
        for side, version, completion_id in zip(SIDES, versions, ids, strict=False):
            defaults = {"policy_version": version, "assignment": "comparison", "comparison_id": identifier}
            put_completion(completion_id, **(defaults | sides.get(side, {})))
        record = Comparison(
            id=identifier,
            created=1790000000.0,
            completion_ids=ids,
            policy_versions=list(versions),
            order=list(range(len(versions))),
            rater="user-7",
        )
        redis_client.hset(keys.comparison(identifier), "record", record.to_json())
        redis_client.expire(keys.comparison(identifier), WINDOW_S)
        return identifier

    return put


@pytest.fixture
def logged(redis_client: redis.Redis) -> Callable[[], list[Feedback]]:
    """The votes in the log, every revision, oldest first."""
    found = partial(store.read_log, redis_client)
    return lambda: [logged.feedback for logged in found() if isinstance(logged, LoggedVote)]


@pytest.fixture
def make_api(tmp_path: Path) -> Iterator[Callable[[str], TestClient]]:
    """The feedback API alone, over the Redis at a URL; its artifacts lie in the test's directory."""
    clients: list[TestClient] = []

    def make(redis_url: str) -> TestClient:
        app = FastAPI()
        settings = Settings(feedback_window_s=WINDOW_S, artifacts_url=str(tmp_path))
        http.install(app, max_body_bytes=settings.max_body_bytes)
        feedback.app.attach(app, redis_url, settings)
        client = TestClient(app).__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def api(redis_server: str, redis_client: redis.Redis, make_api: Callable[[str], TestClient]) -> TestClient:
    """The feedback API over the emptied test Redis."""
    return make_api(redis_server)


# --- the archive ----------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


@pytest.fixture
def move(redis_client: redis.Redis, archive: Archive) -> Callable[..., Moved]:
    """Archives all that there is, a few entries a partition, until nothing moves any more."""

    def work(most: int = 2) -> Moved:
        copied = trimmed = 0
        while (moved := archiving.run(redis_client, archive, most=most, copy_after_s=0, keep_s=0)) != Moved():
            assert moved is not None
            copied, trimmed = copied + moved.copied, trimmed + moved.trimmed
        return Moved(copied=copied, trimmed=trimmed)

    return work


@pytest.fixture
def expire(redis_client: redis.Redis) -> Callable[[], None]:
    """The feedback window of everything is over."""

    def work() -> None:
        for key in (*redis_client.keys(keys.completion("*")), *redis_client.keys(keys.comparison("*"))):
            redis_client.delete(key)

    return work


@pytest.fixture
def give(api: TestClient) -> Callable[..., str]:
    """Gives a thumb, unless it is told otherwise, and returns its id."""

    def send(**said: object) -> str:
        response = api.post("/v1/feedback", json=THUMB | said)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    return send


@pytest.fixture
def varied(
    api: TestClient, give: Callable[..., str], put_completion: Callable[..., object], put_comparison: Callable[..., str]
) -> list[str]:
    """Six votes of most kinds in nine entries: one is revised, one superseded, one withdrawn, and somebody consents."""
    put_completion("chatcmpl-1")
    put_comparison("1")
    put_comparison("2", versions=(3, 2, 1, 0))
    votes = [give(rater={"id": "p"}), give(rater={"id": "p"}, value=-1)]
    api.post("/v1/raters/p/consent", json={"train": False})
    votes += [give(kind="rating", value=4), give(**PREFERENCE)]
    votes.append(give(**RANKING | {"target": {"type": "comparison", "id": "cmp_2"}}))
    api.patch(f"/v1/feedback/{votes[2]}", json={"value": 5, "comment": "better"})
    votes.append(give(kind="comment", value="Odd.", rater={"id": "q"}))
    api.delete(f"/v1/feedback/{votes[5]}")
    return votes
