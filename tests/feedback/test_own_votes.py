"""What became of a visitor's votes: theirs alone, the newest first, by the snapshots that looked at them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

import feedback.app
from core import http, keys, registry
from core.access import Caller
from core.settings import Settings
from tests.feedback.rounds import cut, policy, publish

ANN, BEN = "web-ann", "web-ben"


class Sessions:
    """Who comes with the header `x-rater` is that visitor: the seam at which core/visitors.py stands."""

    async def caller(self, request: Request) -> Caller | None:
        rater = request.headers.get("x-rater")
        return None if rater is None else Caller(visitor=rater, key_id="page", scopes=frozenset({"feedback"}))


@pytest.fixture
def api(redis_server: str, redis_client: redis.Redis, tmp_path: Path) -> Iterator[TestClient]:
    app = FastAPI()
    http.install(app, max_body_bytes=1 << 20)
    app.state.visitors = Sessions()
    feedback.app.attach(app, redis_server, Settings(artifacts_url=str(tmp_path)))
    registry.initialise(redis_client, policy(0, None), actor="test")
    with TestClient(app) as client:
        yield client


def thumb(api: TestClient, rater: str, completion: str, **said: Any) -> str:
    body = {"target": {"type": "completion", "id": completion}, "kind": "thumb", "value": 1} | said
    answer = api.post("/v1/feedback", json=body, headers={"x-rater": rater})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def votes(api: TestClient, rater: str, query: str = "") -> dict[str, Any]:
    answer = api.get(f"/page/votes{query}", headers={"x-rater": rater})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_ones_own_newest_first(api: TestClient, put_completion: Callable[..., object]) -> None:
    """As they stand: a newer vote takes the place of the one before, a withdrawn one is said to be."""
    for number, rater in ((1, ANN), (2, ANN), (3, BEN)):
        put_completion(f"chatcmpl-{number}", rater=rater)
    first, replaced = thumb(api, ANN, "chatcmpl-1"), thumb(api, ANN, "chatcmpl-2")
    newer, others = thumb(api, ANN, "chatcmpl-2", value=-1), thumb(api, BEN, "chatcmpl-3")
    api.delete(f"/v1/feedback/{first}", headers={"x-rater": ANN})
    found = votes(api, ANN)
    assert [(it["feedback"], it["value"], it["fate"]) for it in found["data"]] == [
        (newer, -1, "waiting"),
        (first, 1, "withdrawn"),
    ]
    assert found["data"][0]["reason"] == "waiting for the next round" and found["data"][0]["versions"] == []
    assert [it["feedback"] for it in votes(api, BEN)["data"]] == [others]
    pages = votes(api, ANN, "?limit=1"), votes(api, ANN, f"?limit=2&after={newer}")
    assert [(page["has_more"], page["last_id"]) for page in pages] == [(True, newer), (False, first)]
    assert votes(api, ANN, f"?after={replaced}")["data"] == votes(api, ANN)["data"][1:]
    assert api.get(f"/page/votes?after={others}", headers={"x-rater": ANN}).status_code == 404


def test_what_rounds_made_of_them(
    api: TestClient, redis_client: redis.Redis, tmp_path: Path, put_completion: Callable[..., object]
) -> None:
    """Used in a released version, set aside with its reason, or still waiting."""
    for number, fields in enumerate(({}, {"train": False}, {})):
        put_completion(f"chatcmpl-{number}", rater=ANN, **fields)
    used, aside = thumb(api, ANN, "chatcmpl-0"), thumb(api, ANN, "chatcmpl-1")
    held = cut(redis_client, tmp_path)
    publish(redis_client, policy(1, 0, snapshot=held.manifest.id))
    waiting = thumb(api, ANN, "chatcmpl-2")
    told = {it["feedback"]: (it["fate"], it["reason"], it["versions"]) for it in votes(api, ANN)["data"]}
    assert told == {
        waiting: ("waiting", "waiting for the next round", []),
        aside: ("set_aside", "not used: the conversation or the vote may not be trained on", []),
        used: ("used", "used in assistant@v1", ["assistant@v1"]),
    }


def test_it_takes_a_session(api: TestClient) -> None:
    answer = api.get("/page/votes")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "session_required")


def test_the_list_is_not_for_ever(
    api: TestClient, redis_client: redis.Redis, put_completion: Callable[..., object]
) -> None:
    """Ninety days after the last vote Redis forgets it; the votes themselves stay where they were."""
    put_completion("chatcmpl-1", rater=ANN)
    thumb(api, ANN, "chatcmpl-1")
    assert 89 * 86400 < redis_client.ttl(keys.visitor_votes(ANN)) <= 90 * 86400
    redis_client.delete(keys.visitor_votes(ANN))
    assert votes(api, ANN)["data"] == [] and redis_client.xlen(keys.FEEDBACK) == 1
