"""GET /v1/feedback and /v1/feedback/{id}, over a real Redis."""

from pathlib import Path

import pytest

from core import keys
from tests.feedback.wire import COMPARISON, COMPLETION, PREFERENCE, THUMB, error_of

WAITING = {"used_in": [], "outcome": "waiting for the next round"}


def give(api, **said):
    response = api.post("/v1/feedback", json=THUMB | said)
    assert response.status_code == 201, response.text
    return response.json()


def listed(api, **query):
    """Ids of all matching votes, page by page, as the answer says to go on."""
    ids, after = [], {}
    while True:
        page = api.get("/v1/feedback", params=query | after).json()
        found = [it["id"] for it in page["data"]]
        assert (page["object"], page["first_id"]) == ("list", found[0] if found else None)
        ids += found
        if not page["has_more"]:
            return ids
        after = {"after": page["last_id"]}


@pytest.fixture
def crowd(api, put_completion, put_comparison):
    """Votes of several kinds by several raters on several targets, the newest first."""
    put_completion("chatcmpl-1", policy_version=1)
    put_completion("chatcmpl-2", policy_version=2)
    put_comparison()
    other = {"target": {"type": "completion", "id": "chatcmpl-2"}}
    votes = [
        give(api, rater={"id": "p"}),
        give(api, rater={"id": "q"}, kind="rating", value=4),
        give(api, rater={"id": "p"}, **other),
        give(api, rater={"id": "p"}, value=-1),
        give(api, rater={"id": "q"}, kind="flag", value="spam", **other),
        give(api, **PREFERENCE),
    ]
    api.delete(f"/v1/feedback/{votes[4]['id']}")
    return [vote["id"] for vote in reversed(votes)]


def test_one_vote_with_its_history(api, put_completion):
    """The newest revision, what it was before (newest first), and the revision as ETag."""
    put_completion("chatcmpl-1", policy_version=3)
    first = give(api, comment="one")
    path = f"/v1/feedback/{first['id']}"
    assert api.get(path).json() == first | {"history": [], **WAITING}
    second = api.patch(path, json={"value": -1}).json()
    third = api.delete(path).json()
    response = api.get(path)
    body = response.json()
    assert response.headers["etag"] == '"3"'
    assert {name: body[name] for name in third} == third
    assert (body["status"], body["policy_versions"]) == ("withdrawn", ["assistant@v3"])
    kept = ("revision", "value", "reasons", "comment", "metadata", "created_at")
    assert body["history"] == [{name: it[name] for name in kept} for it in (second, first)]


def test_history_is_bounded(api, put_completion):
    """The newest hundred of the earlier revisions."""
    put_completion("chatcmpl-1")
    path = f"/v1/feedback/{give(api)['id']}"
    for number in range(103):
        api.patch(path, json={"comment": str(number)})
    revisions = [it["revision"] for it in api.get(path).json()["history"]]
    assert revisions == list(range(103, 3, -1))


def test_superseded_stays_superseded(api, put_completion):
    """Also when the vote that superseded it is withdrawn."""
    put_completion("chatcmpl-1")
    first, second = give(api), give(api, value=-1)
    api.delete(f"/v1/feedback/{second['id']}")
    statuses = [api.get(f"/v1/feedback/{vote['id']}").json()["status"] for vote in (first, second)]
    assert statuses == ["superseded", "withdrawn"]
    assert listed(api, status="active") == []


MATCHING = [
    ({}, [0, 1, 2, 3, 4, 5]),
    ({"target": "chatcmpl-1"}, [2, 4, 5]),
    ({"target": "chatcmpl-1", "kind": "thumb"}, [2, 5]),
    ({"target": "cmp_1"}, [0]),
    ({"target": "chatcmpl-9"}, []),
    ({"policy_version": "assistant@v2"}, [0, 1, 3]),
    ({"policy_version": "assistant@v2", "rater": "p"}, [3]),
    ({"kind": "rating"}, [4]),
    ({"status": "superseded"}, [5]),
    ({"status": "withdrawn"}, [1]),
    ({"status": "active"}, [0, 2, 3, 4]),
    ({"rater": "q"}, [1, 4]),
    ({"rater": "nobody"}, []),
]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_filters_and_pages(api, crowd, limit):
    """Every filter that is given must match; pages of any size hold each vote once, newest first."""
    found = [(query, [crowd.index(vote) for vote in listed(api, limit=limit, **query)]) for query, _ in MATCHING]
    assert found == MATCHING


def test_target_that_redis_forgot_is_found_in_the_log(api, redis_client, crowd):
    """When the completion is gone, its votes are still listed."""
    redis_client.delete(keys.completion("chatcmpl-1"))
    assert listed(api, target="chatcmpl-1") == [crowd[2], crowd[4], crowd[5]]


def test_target_with_very_many_votes_is_looked_through(api, redis_client, put_completion):
    """More votes than one request may read at once: the pages still hold each once."""
    put_completion("chatcmpl-1")
    ids = []
    for start in range(0, 600, 200):
        items = [THUMB | {"rater": {"id": f"user-{start + number}"}} for number in range(200)]
        results = api.post("/v1/feedback/batch", json={"items": items}).json()["results"]
        ids += [result["feedback"]["id"] for result in results]
    assert listed(api, target="chatcmpl-1", limit=100) == ids[::-1]


def test_revision_between_two_pages_moves_nothing(api, crowd):
    """A list goes by when votes were first given: what is revised meanwhile neither moves nor comes twice."""
    first = api.get("/v1/feedback", params={"limit": 3}).json()
    assert [it["id"] for it in first["data"]] == crowd[:3]
    api.patch(f"/v1/feedback/{crowd[2]}", json={"comment": "later"})
    api.patch(f"/v1/feedback/{crowd[4]}", json={"comment": "later"})
    rest = api.get("/v1/feedback", params={"limit": 100, "after": first["last_id"]}).json()
    assert [it["id"] for it in rest["data"]] == crowd[3:]
    assert rest["data"][1]["comment"] == "later"
    assert rest["has_more"] is False


def test_page_that_finds_nothing_gets_further(api, redis_client, put_completion):
    """One request looks at a bounded part of the log, says so, and names where to go on."""
    put_completion("chatcmpl-1")
    oldest = give(api, kind="flag", value="pii")["id"]
    for start in range(0, 1200, 600):
        items = [THUMB | {"rater": {"id": f"user-{start + number}"}} for number in range(600)]
        assert api.post("/v1/feedback/batch", json={"items": items}).status_code == 200
    redis_client.delete(keys.completion("chatcmpl-1"))
    page = api.get("/v1/feedback", params={"kind": "flag"}).json()
    assert (page["data"], page["has_more"], page["first_id"]) == ([], True, None)
    assert page["last_id"].startswith("fb_")
    assert listed(api, kind="flag") == [oldest]


def test_long_run_of_revisions_does_not_stop_a_list(api, put_completion, redis_client):
    """Entries that begin no vote are passed over however many they are."""
    put_completion("chatcmpl-1")
    oldest = give(api)["id"]
    newest = give(api, kind="rating", value=3)["id"]
    ((entry, _),) = redis_client.xrevrange(keys.FEEDBACK, count=1)
    event = redis_client.xrevrange(keys.FEEDBACK, count=1)[0][1]["event"]
    pipeline = redis_client.pipeline()
    for _ in range(2500):
        pipeline.xadd(keys.FEEDBACK, {"event": event, "previous": entry, "first": entry})
    pipeline.execute()
    assert listed(api, limit=1) == [newest, oldest]


def test_blind_comparison_tells_nothing_through_lists(api, put_comparison):
    """Before the vote, neither the object nor a filter says which policies stand behind a comment's sides."""
    put_comparison()
    comment = give(api, target=COMPARISON, kind="comment", value="Both odd.")["id"]
    for path in (f"/v1/feedback/{comment}", "/v1/feedback"):
        assert "assistant@v" not in api.get(path).text
    assert listed(api, policy_version="assistant@v3") == []
    vote = give(api, **PREFERENCE)["id"]
    assert listed(api, policy_version="assistant@v3") == [vote, comment]
    assert api.get(f"/v1/feedback/{comment}").json()["reveal"] == {"a": "assistant@v3", "b": "assistant@v2"}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "query.limit"),
        ({"limit": 101}, "query.limit"),
        ({"kind": "vote"}, "query.kind"),
        ({"status": "quarantined"}, "query.status"),
        ({"policy_version": "3"}, "query.policy_version"),
        ({"after": "x"}, "query.after"),
        ({"after": "fb_nothing"}, "query.after"),
        ({"targets": "chatcmpl-1"}, "query.targets"),
    ],
)
def test_wrong_query_is_named(api, query, param):
    """A filter that is misspelt would list everything: it is an error."""
    assert error_of(api.get("/v1/feedback", params=query)) == (400, None, param)


@pytest.mark.parametrize("path", ["/v1/feedback", "/v1/feedback?target=chatcmpl-1", "/v1/feedback/fb_1"])
def test_reading_without_redis(make_api, tmp_path: Path, path):
    """Reads need Redis as well: 503 with Retry-After."""
    response = make_api(f"unix://{tmp_path}/nobody.sock").get(path)
    assert error_of(response) == (503, "storage_unavailable", None)
    assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_changing_without_redis(make_api, tmp_path: Path, method):
    """As for a vote: nothing is promised."""
    body = {"json": {"value": 1}} if method == "patch" else {}
    response = getattr(make_api(f"unix://{tmp_path}/nobody.sock"), method)("/v1/feedback/fb_1", **body)
    assert error_of(response) == (503, "storage_unavailable", None)


def test_completion_target_is_shown_as_it_was_voted_on(api, put_completion):
    """With the choice that was meant."""
    put_completion("chatcmpl-1")
    identifier = give(api)["id"]
    assert api.get(f"/v1/feedback/{identifier}").json()["target"] == COMPLETION | {"choice_index": 0}
