"""PATCH and DELETE /v1/feedback/{id}, over a real Redis."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from core import keys
from tests.feedback.wire import COMPLETION, PREFERENCE, RANKING, THUMB, error_of


@pytest.fixture
def given(api, put_completion):
    """The path of a thumb up with a comment."""
    put_completion("chatcmpl-1")
    said = THUMB | {"comment": "because", "reasons": ["clear"], "metadata": {"page": "7"}}
    return "/v1/feedback/" + api.post("/v1/feedback", json=said).json()["id"]


def test_revision_is_appended(api, given, logged):
    """Fields that are left out stay; the log holds both, the API the newer with its number as ETag."""
    response = api.patch(given, json={"value": -1, "reasons": ["wrong", "rude"]})
    assert response.status_code == 200
    assert response.headers["etag"] == '"2"'
    body = response.json()
    assert (body["value"], body["reasons"], body["comment"], body["revision"]) == (-1, ["wrong", "rude"], "because", 2)
    first, second = logged()
    assert (first.value, first.reasons, first.revision) == (1, ["clear"], 1)
    assert second == first.model_copy(
        update={"value": -1, "reasons": ["wrong", "rude"], "revision": 2, "created_at": second.created_at}
    )
    assert second.created_at >= first.created_at


def test_null_takes_away(api, given, logged):
    """Comment, reasons and metadata can be cleared; a value cannot."""
    body = api.patch(given, json={"comment": None, "reasons": None, "metadata": None}).json()
    assert (body["comment"], body["reasons"], body["metadata"], body["value"]) == (None, [], {}, 1)
    assert error_of(api.patch(given, json={"value": None})) == (400, None, "value")
    assert len(logged()) == 2


@pytest.mark.parametrize("body", [{}, {"value": 1}, {"comment": "because", "metadata": {"page": "7"}}])
def test_revision_that_says_nothing_new(api, given, logged, body):
    """It is answered as it stands, and nothing is stored."""
    response = api.patch(given, json=body)
    assert (response.status_code, response.json()["revision"], response.headers["etag"]) == (200, 1, '"1"')
    assert len(logged()) == 1


def test_if_match(api, given, logged):
    """A change that was made without seeing the newest revision is refused; `*` and lists work as in HTTP."""
    assert api.patch(given, json={"value": -1}, headers={"If-Match": '"1"'}).status_code == 200
    for stale in ('"1"', 'W/"2"', '"1", "3"', "2", ""):
        response = api.patch(given, json={"value": 1}, headers={"If-Match": stale})
        assert error_of(response) == (412, "precondition_failed", "header.if-match")
        assert response.headers["x-should-retry"] == "false"
        assert 'send `If-Match: "2"`' in response.json()["error"]["message"]
    assert error_of(api.delete(given, headers={"If-Match": '"1"'})) == (412, "precondition_failed", "header.if-match")
    assert len(logged()) == 2
    assert api.patch(given, json={"value": 1}, headers={"If-Match": '"1", "2"'}).json()["revision"] == 3
    assert api.delete(given, headers={"If-Match": "*"}).json()["revision"] == 4


def test_withdrawing_twice_is_withdrawing_once(api, given, logged):
    """200 both times with the same answer; one event is stored, and it keeps what was said."""
    first, again = api.delete(given), api.delete(given)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert (first.json()["status"], first.json()["revision"]) == ("withdrawn", 2)
    assert [(event.revision, event.withdrawn, event.comment) for event in logged()] == [
        (1, False, "because"),
        (2, True, "because"),
    ]


def test_withdrawn_feedback_cannot_be_revised(api, given):
    """What was taken back stays so; a new vote is a new vote."""
    api.delete(given)
    response = api.patch(given, json={"value": -1})
    assert error_of(response) == (409, "feedback_withdrawn", None)
    assert response.headers["x-should-retry"] == "false"
    new = api.post("/v1/feedback", json=THUMB)
    assert (new.status_code, new.json()["supersedes"]) == (201, given.rsplit("/", maxsplit=1)[-1])


def test_superseded_feedback_can_only_be_withdrawn(api, given):
    """It is history: no revision, but it can be taken back, and the newer vote stands."""
    newer = api.post("/v1/feedback", json=THUMB | {"value": -1}).json()
    assert error_of(api.patch(given, json={"value": 1})) == (409, "feedback_superseded", None)
    assert api.delete(given).json()["status"] == "withdrawn"
    assert api.get(f"/v1/feedback/{newer['id']}").json()["status"] == "active"


def test_vote_after_a_revision_is_compared_with_the_revision(api, given, logged):
    """The first vote again is a change of mind by now; the revised one again is a replay."""
    api.patch(given, json={"value": -1})
    assert api.post("/v1/feedback", json=THUMB | {"value": -1}).status_code == 200
    assert api.post("/v1/feedback", json=THUMB).status_code == 201
    assert len(logged()) == 3


@pytest.mark.parametrize(("said", "versions", "other"), [(PREFERENCE, (3, 2), "b"), (RANKING, (3, 2, 1, 0), None)])
def test_what_revealed_the_policies_cannot_change(api, put_comparison, said, versions, other):
    """The value of a preference or ranking is fixed; its comment is not; it can be withdrawn, but not voted anew."""
    put_comparison(versions=versions)
    path = "/v1/feedback/" + api.post("/v1/feedback", json=said).json()["id"]
    value = other or [["a"], ["b"], ["c"], ["d"]]
    response = api.patch(path, json={"value": value})
    assert error_of(response) == (409, "already_revealed", None)
    assert response.headers["x-should-retry"] == "false"
    assert api.patch(path, json={"value": said["value"], "comment": "clearer"}).json()["revision"] == 2
    assert api.delete(path).json()["status"] == "withdrawn"
    assert error_of(api.post("/v1/feedback", json=said)) == (409, "already_revealed", None)


def test_correction_is_revised_to_another_correction(api, put_completion, logged):
    """Neither to nothing nor to the answer itself."""
    put_completion("chatcmpl-1")
    said = {"target": COMPLETION, "kind": "correction", "value": "A dog is a pet."}
    path = "/v1/feedback/" + api.post("/v1/feedback", json=said).json()["id"]
    assert error_of(api.patch(path, json={"value": "text of chatcmpl-1"})) == (400, None, "value")
    assert error_of(api.patch(path, json={"value": " "})) == (400, None, "value")
    assert api.patch(path, json={"value": "A dog is an animal."}).status_code == 200
    assert api.delete(path).status_code == 200
    assert [event.value for event in logged()] == ["A dog is a pet.", "A dog is an animal.", "A dog is an animal."]


@pytest.mark.parametrize(
    ("body", "param"),
    [({"value": 2}, "value"), ({"kind": "rating"}, "kind"), ({"reasons": [""]}, "reasons"), ({"value": 1.5}, "value")],
)
def test_wrong_revision_is_named(api, given, logged, body, param):
    """As for a new vote; what cannot change is an unknown field."""
    assert error_of(api.patch(given, json=body)) == (400, None, param)
    assert len(logged()) == 1


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_unknown_id(api, method):
    """404 feedback_not_found, whatever is asked of it."""
    body = {"json": {}} if method == "patch" else {}
    response = getattr(api, method)("/v1/feedback/fb_nothing", **body)
    assert error_of(response) == (404, "feedback_not_found", None)


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_what_cannot_be_an_id_is_no_route(api, method):
    """404 too; `batch` and `tokens` are resources of their own, which take POST and nothing else."""
    assert error_of(getattr(api, method)("/v1/feedback/chatcmpl-1")) == (404, "not_found", None)
    for name in ("batch", "tokens"):
        response = getattr(api, method)(f"/v1/feedback/{name}")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
    response = api.put("/v1/feedback/fb_1")
    assert (response.status_code, response.headers["allow"]) == (405, "DELETE, GET, PATCH")


def test_thirty_changes_at_once_are_thirty_revisions(api, given, logged):
    """Each change is made of what the one before left: none is lost, and numbers have no gap."""
    with ThreadPoolExecutor(8) as pool:
        bodies = [{"metadata": {"change": str(number)}} for number in range(30)]
        responses = list(pool.map(lambda body: api.patch(given, json=body), bodies))
    assert [response.status_code for response in responses] == [200] * 30
    events = logged()
    assert [event.revision for event in events] == list(range(1, 32))
    assert sorted(int(event.metadata["change"]) for event in events[1:]) == list(range(30))


def test_change_in_a_full_redis(api, given, redis_client, logged):
    """503 and no trace; with memory again it is stored."""
    redis_client.config_set("maxmemory", 1)
    try:
        assert error_of(api.patch(given, json={"value": -1})) == (503, "storage_unavailable", None)
        assert error_of(api.delete(given)) == (503, "storage_unavailable", None)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert len(logged()) == 1
    assert api.get(given).json()["revision"] == 1
    assert api.delete(given).json()["revision"] == 2


def test_change_needs_no_target_any_more(api, given, redis_client):
    """A vote can be changed and taken back when what it was about is long gone."""
    redis_client.delete(keys.completion("chatcmpl-1"))
    assert api.patch(given, json={"value": -1}).json()["revision"] == 2
    assert api.delete(given).json()["status"] == "withdrawn"
