"""What serving would have left in Redis, written directly, and the feedback API over a real Redis."""

from collections.abc import Callable, Iterator

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

import feedback.app
from core import http, keys
from core.records import Choice, Comparison, CompletionRecord, CompletionState, Message
from core.settings import Settings

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
        redis_client.hset(key, mapping={"record": record.to_json(), "state": record.state})
        redis_client.expire(key, WINDOW_S)
        return record

    return put


@pytest.fixture
def put_comparison(redis_client: redis.Redis, put_completion: Callable[..., CompletionRecord]) -> Callable[..., str]:
    """Two sides by versions 3 and 2, `chatcmpl-{name}-a` and `-b`, and the comparison `cmp_{name}` over them."""

    def put(name: str = "1", *, a: dict[str, object] | None = None, b: dict[str, object] | None = None) -> str:
        identifier, versions = f"cmp_{name}", (3, 2)
        for side, version, given in zip("ab", versions, (a, b), strict=True):
            defaults = {"policy_version": version, "assignment": "comparison", "comparison_id": identifier}
            put_completion(f"chatcmpl-{name}-{side}", **(defaults | (given or {})))
        record = Comparison(
            id=identifier,
            created=1790000000.0,
            a=f"chatcmpl-{name}-a",
            b=f"chatcmpl-{name}-b",
            policy_versions=versions,
            swapped=False,
            rater="user-7",
        )
        redis_client.hset(keys.comparison(identifier), "record", record.to_json())
        redis_client.expire(keys.comparison(identifier), WINDOW_S)
        return identifier

    return put


@pytest.fixture
def make_api() -> Iterator[Callable[[str], TestClient]]:
    """The feedback API alone, over the Redis at a URL."""
    clients: list[TestClient] = []

    def make(redis_url: str) -> TestClient:
        app = FastAPI()
        settings = Settings(feedback_window_s=WINDOW_S)
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
