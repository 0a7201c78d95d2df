"""Receipts over HTTP: an application asks for one, a browser votes with it, and with nothing else."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient

from core import keys
from core.records import CompletionRecord, Feedback, now
from feedback.receipts import MAX_LIFE_S, KeyRing
from tests.feedback.wire import COMPARISON, COMPLETION, THUMB, error_of

ASK: dict[str, Any] = {"target": COMPLETION, "rater": {"id": "ann"}, "kinds": ["thumb", "comment"]}


def _token(api: TestClient, **fields: Any) -> str:
    response = api.post("/v1/feedback/tokens", json=ASK | fields)
    assert response.status_code == 201
    return str(response.json()["token"])


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_a_browser_votes_with_a_receipt(
    api: TestClient, put_completion: Callable[..., CompletionRecord], logged: Callable[[], list[Feedback]]
) -> None:
    """The vote is the receipt's rater's, who need not be named, and says how it came; a replay is the same vote."""
    put_completion("chatcmpl-1")
    issued = api.post("/v1/feedback/tokens", json=ASK)
    assert issued.status_code == 201
    body = issued.json()
    assert set(body) == {"object", "token", "url", "expires_at"}
    assert 3590 < datetime.fromisoformat(body["expires_at"]).timestamp() - now() <= 3600
    votes = [api.post(body["url"], json=THUMB, headers=_bearer(body["token"])) for _ in range(2)]
    assert [vote.status_code for vote in votes] == [201, 200]
    assert votes[0].json()["id"] == votes[1].json()["id"]
    named = api.post("/v1/feedback", json=THUMB | {"rater": {"id": "ann"}}, headers=_bearer(body["token"]))
    assert named.status_code == 200
    [vote] = logged()
    assert (vote.rater, vote.source) == ("ann", "receipt")


def test_a_receipt_is_for_what_it_says(
    api: TestClient,
    put_completion: Callable[..., CompletionRecord],
    put_comparison: Callable[..., str],
    logged: Callable[[], list[Feedback]],
) -> None:
    """Another target, kind or rater: 403 and nothing stored."""
    put_completion("chatcmpl-1")
    put_completion("chatcmpl-2")
    put_comparison()
    headers = _bearer(_token(api))
    for change, param in [
        ({"target": {"type": "completion", "id": "chatcmpl-2"}}, "target"),
        ({"target": COMPARISON, "kind": "preference", "value": "a"}, "target"),
        ({"kind": "rating", "value": 5}, "kind"),
        ({"rater": {"id": "bob"}}, "rater"),
    ]:
        response = api.post("/v1/feedback", json=THUMB | change, headers=headers)
        assert error_of(response) == (403, "token_scope", param)
    assert logged() == []


@pytest.mark.parametrize("token", ["v1.", "v1.0000beef.e30.", "v1.a.b.c.d", "v1.\xe9"])
def test_what_we_did_not_sign_is_refused(
    api: TestClient, put_completion: Callable[..., CompletionRecord], token: str
) -> None:
    """401 with a challenge that browsers and proxies know."""
    put_completion("chatcmpl-1")
    response = api.post("/v1/feedback", json=THUMB, headers={"authorization": f"Bearer {token}".encode("latin-1")})
    assert error_of(response) == (401, "token_invalid", None)
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers["x-should-retry"] == "false"


def test_other_bearers_are_none_of_ours(api: TestClient, put_completion: Callable[..., CompletionRecord]) -> None:
    """OpenAI's clients send their key with every request."""
    put_completion("chatcmpl-1")
    assert api.post("/v1/feedback", json=THUMB, headers=_bearer("sk-none")).status_code == 201


def test_a_retired_key_ends_its_receipts(
    api: TestClient, put_completion: Callable[..., CompletionRecord], redis_client: redis.Redis
) -> None:
    """As soon as the ring in Redis lacks the key; after a rotation old receipts still hold."""
    put_completion("chatcmpl-1")
    token = _token(api)
    ring = KeyRing.model_validate_json(redis_client.hget(keys.DEPLOYMENT, "receipt_keys") or "")
    rotated = ring.rotated(now=now())
    redis_client.hset(keys.DEPLOYMENT, "receipt_keys", rotated.model_dump_json())
    assert api.post("/v1/feedback", json=THUMB, headers=_bearer(token)).status_code == 201
    retired = rotated.without(ring.keys[0].id, now=now())
    redis_client.hset(keys.DEPLOYMENT, "receipt_keys", retired.model_dump_json())
    response = api.post("/v1/feedback", json=THUMB, headers=_bearer(token))
    assert error_of(response) == (401, "token_invalid", None)


def test_receipts_for_an_answer_that_is_still_written(
    api: TestClient, put_completion: Callable[..., CompletionRecord]
) -> None:
    """They can be had before its end; the vote itself has to wait for it."""
    put_completion("chatcmpl-1", state="streaming")
    response = api.post("/v1/feedback", json=THUMB, headers=_bearer(_token(api)))
    assert error_of(response) == (409, "not_finished", None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"target": {"type": "completion", "id": "chatcmpl-9"}}, (404, "target_not_found", "target")),
        (
            {"target": {"type": "comparison", "id": "chatcmpl-1"}, "kinds": ["comment"]},
            (404, "target_not_found", "target"),
        ),
        ({"target": COMPLETION | {"choice_index": 1}}, (400, None, "target.choice_index")),
        ({"kinds": []}, (400, None, "kinds")),
        ({"kinds": ["thumbs"]}, (400, None, "kinds.0")),
        ({"kinds": ["thumb", "preference"]}, (400, None, "kinds")),
        ({"rater": {"id": ""}}, (400, None, "rater.id")),
        ({"rater": {"id": "ann", "kind": "ai"}}, (400, None, "rater.kind")),
        ({"expires_in": 0}, (400, None, "expires_in")),
        ({"expires_in": "60"}, (400, None, "expires_in")),
        ({"expires_in": MAX_LIFE_S + 1}, (400, None, "expires_in")),
        ({"expires": 60}, (400, None, "expires")),
    ],
)
def test_bad_requests_for_receipts_name_their_field(
    api: TestClient,
    put_completion: Callable[..., CompletionRecord],
    change: dict[str, Any],
    expected: tuple[int, str | None, str | None],
) -> None:
    """Unknown targets and fields, empty and wrong values, and lives over a day."""
    put_completion("chatcmpl-1")
    assert error_of(api.post("/v1/feedback/tokens", json=ASK | change)) == expected


def test_without_redis_no_receipt_is_given_or_taken(make_api: Callable[[str], TestClient]) -> None:
    """503 with Retry-After, also for a token that might be a good one."""
    api = make_api("redis://127.0.0.1:1")
    for response in [
        api.post("/v1/feedback/tokens", json=ASK),
        api.post("/v1/feedback", json=THUMB, headers=_bearer("v1.0000beef.e30.x")),
    ]:
        assert error_of(response) == (503, "storage_unavailable", None)
        assert "retry-after" in response.headers
