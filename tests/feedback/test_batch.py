"""POST /v1/feedback/batch, over a real Redis: each item is a vote on its own."""

import json
from pathlib import Path

from core import keys
from tests.feedback.wire import PREFERENCE, THUMB, error_of


def send(api, *items):
    body = json.dumps({"items": items})
    response = api.post("/v1/feedback/batch", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [result["index"] for result in results] == list(range(len(items)))
    return results


def test_one_bad_item_never_harms_another(api, put_completion, put_comparison, logged):
    """Good ones are stored in order; each bad one has the status, code and param that it would have had alone."""
    put_completion("chatcmpl-1")
    put_comparison()
    unknown = {"target": {"type": "completion", "id": "chatcmpl-9"}}
    results = send(
        api,
        THUMB | {"velue": 1},
        THUMB,
        7,
        THUMB | {"value": 3},
        THUMB | unknown,
        THUMB | {"comment": "\ud800"},
        THUMB | {"\ud800": 1},
        PREFERENCE,
        PREFERENCE | {"value": "b"},
    )
    assert [result["status"] for result in results] == [400, 201, 400, 400, 404, 400, 400, 201, 409]
    errors = [result["error"] for result in results if "error" in result]
    assert [(error["code"], error["param"]) for error in errors] == [
        (None, "velue"),
        (None, None),
        (None, "value"),
        ("target_not_found", "target"),
        (None, "comment"),
        (None, None),
        ("already_revealed", None),
    ]
    assert [event.id for event in logged()] == [results[1]["feedback"]["id"], results[7]["feedback"]["id"]]
    assert results[7]["feedback"]["reveal"] == {"a": "assistant@v3", "b": "assistant@v2"}


def test_items_are_voted_in_order(api, put_completion, logged):
    """A changed mind inside one batch is a changed mind."""
    put_completion("chatcmpl-1")
    results = send(api, THUMB, THUMB | {"value": -1}, THUMB | {"value": -1})
    assert [result["status"] for result in results] == [201, 201, 200]
    first, second, third = (result["feedback"] for result in results)
    assert (second["supersedes"], third["id"]) == (first["id"], second["id"])


def test_batch_again_stores_nothing(api, put_completion, logged):
    """By the items' own ids, whatever happened since; and without ids by what stands."""
    put_completion("chatcmpl-1")
    items = [THUMB | {"id": "fb_1", "rater": {"id": "p"}}, THUMB | {"rater": {"id": "q"}}]
    first = send(api, *items)
    api.post("/v1/feedback", json=THUMB | {"value": -1, "rater": {"id": "p"}})
    again = send(api, *items)
    assert [result["status"] for result in first + again] == [201, 201, 200, 200]
    assert [result["feedback"]["id"] for result in first] == [result["feedback"]["id"] for result in again]
    assert again[0]["feedback"]["status"] == "superseded"
    assert len(logged()) == 3


def test_thousand_items_and_not_one_more(api, redis_client, put_completion, logged):
    """A full batch goes through; a fuller one is refused whole, before anything is stored."""
    put_completion("chatcmpl-1")
    items = [THUMB | {"rater": {"id": f"user-{number}"}} for number in range(1001)]
    refused = api.post("/v1/feedback/batch", json={"items": items})
    assert error_of(refused) == (400, None, "items")
    assert logged() == []
    assert {result["status"] for result in send(api, *items[:1000])} == {201}
    assert [event.rater for event in logged()] == [f"user-{number}" for number in range(1000)]
    assert send(api) == []


def test_unknown_field_beside_the_items(api):
    """As everywhere, a typo is an error."""
    assert error_of(api.post("/v1/feedback/batch", json={"items": [], "item": 1})) == (400, None, "item")


def test_batch_without_redis(make_api, tmp_path: Path):
    """If nothing could be stored, the whole batch is 503, to be sent again."""
    response = make_api(f"unix://{tmp_path}/nobody.sock").post("/v1/feedback/batch", json={"items": [THUMB, 7]})
    assert error_of(response) == (503, "storage_unavailable", None)
    assert response.headers["retry-after"] == "2"


def test_batch_into_a_full_redis(api, redis_client, put_completion, logged):
    """What finds no room says so by itself; a replay beside it needs none."""
    put_completion("chatcmpl-1")
    api.post("/v1/feedback", json=THUMB)
    redis_client.config_set("maxmemory", 1)
    try:
        results = send(api, THUMB | {"value": -1}, THUMB)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert [result["status"] for result in results] == [503, 200]
    assert results[0]["error"]["code"] == "storage_unavailable"
    assert len(logged()) == 1
    assert redis_client.hget(keys.FEEDBACK_COUNTS, "thumb") == "1"
