"""POST and GET /v1/raters/{id}/consent, over a real Redis."""

from pathlib import Path

import pytest

from feedback import events, store
from feedback.events import RaterState
from tests.feedback.wire import THUMB, error_of

PATH = "/v1/raters/user-7/consent"


def test_consent_is_an_event_in_the_log(api, redis_client, put_completion):
    """It stands in one log with the votes; the newest holds; who said nothing has said nothing."""
    put_completion("chatcmpl-1")
    assert api.get(PATH).json() == {"object": "rater.consent", "rater": "user-7", "train": None, "created_at": None}
    api.post("/v1/feedback", json=THUMB)
    first = api.post(PATH, json={"train": False})
    second = api.post(PATH, json={"train": True})
    third = api.post(PATH, json={"train": False})
    assert [it.status_code for it in (first, second, third)] == [201, 201, 201]
    assert [it.json()["train"] for it in (first, second, third)] == [False, True, False]
    assert api.get(PATH).json() == third.json()
    votes, raters = store.log(redis_client)
    assert [vote.feedback.kind for vote in votes] == ["thumb"]
    assert [(it.event.rater, it.event.action, it.event.train, it.event.actor) for it in raters] == [
        ("user-7", "consent", train, "api") for train in (False, True, False)
    ]
    assert events.rater_states(raters) == {"user-7": RaterState(train=False)}


def test_consent_that_is_known_is_said_once(api, redis_client):
    """The same again is 200 with the first time, and no second event."""
    first, again = (api.post(PATH, json={"train": False}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert len(store.log(redis_client)[1]) == 1


@pytest.mark.parametrize("rater", ["a%2Fb", "a/b", "consent", "%C3%A4", "x" * 256])
def test_any_id_is_a_rater(api, rater):
    """Ids are the application's own, slashes included."""
    path = f"/v1/raters/{rater}/consent"
    assert api.post(path, json={"train": True}).status_code == 201
    assert api.get(path).json()["train"] is True


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (PATH, {}, "train"),
        (PATH, {"train": "perhaps"}, "train"),
        (PATH, {"train": 0}, "train"),
        (PATH, {"train": True, "until": "2027"}, "until"),
        (f"/v1/raters/{'x' * 257}/consent", {"train": True}, "path.rater_id"),
    ],
)
def test_wrong_consent_is_named(api, redis_client, path, body, param):
    """400 with the field, and nothing is logged."""
    assert error_of(api.post(path, json=body)) == (400, None, param)
    assert store.log(redis_client) == ([], [])


def test_consent_without_redis(make_api, tmp_path: Path):
    """503 with Retry-After, for giving it and for reading it."""
    api = make_api(f"unix://{tmp_path}/nobody.sock")
    for response in (api.post(PATH, json={"train": False}), api.get(PATH)):
        assert error_of(response) == (503, "storage_unavailable", None)
        assert response.headers["retry-after"] == "2"


def test_consent_in_a_full_redis(api, redis_client):
    """503 and no trace: what was not written durably was not said."""
    redis_client.config_set("maxmemory", 1)
    try:
        assert error_of(api.post(PATH, json={"train": False})) == (503, "storage_unavailable", None)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert api.get(PATH).json()["train"] is None
    assert store.log(redis_client) == ([], [])
