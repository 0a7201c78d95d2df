"""Conversations of the page over HTTP on a real Redis: kept, listed, written by two tabs, forgotten; nobody else's."""

import json
import secrets
from typing import Any

import httpx
import pytest

from core import keys
from serving.conversations import MAX_BYTES, MOST
from tests.plumbline.replicas import Deployment, Replica
from tests.plumbline.visiting import Visitor, leave


@pytest.fixture(scope="module")
def replica(deployment: Deployment) -> Replica:
    return deployment.replica()


@pytest.fixture
def visitor(deployment: Deployment, replica: Replica) -> Visitor:
    """Somebody new."""
    client = deployment.store.client()
    for name in client.keys(keys.quota("*")):
        client.delete(name)
    return Visitor(replica.url)


def fresh() -> str:
    return f"conv_{secrets.token_hex(16)}"


ANSWER = {
    "completion": "chatcmpl-1",
    "choice": 0,
    "text": "A pet.\n",
    "model": "assistant@v3",
    "finish_reason": "stop",
    "thumb": 1,
    "rating": None,
    "correction": None,
    "comparison": None,
    "vote": None,
    "stopped": False,
}
TURN = {"question": "A dog is", "answers": [ANSWER, ANSWER | {"text": "A friend.", "thumb": None}], "shown": 1}


def put(visitor: Visitor, name: str, *, title: str = "Dogs", revision: int = 0, turns: Any = None) -> httpx.Response:
    body = {"title": title, "revision": revision, "turns": [TURN] if turns is None else turns}
    return visitor.send("PUT", f"/page/conversations/{name}", json=body)


def get(visitor: Visitor, name: str) -> httpx.Response:
    return visitor.send("GET", f"/page/conversations/{name}")


def titles(visitor: Visitor, query: str = "") -> list[str]:
    return [it["title"] for it in visitor.send("GET", f"/page/conversations{query}").json()["data"]]


def test_what_was_written_is_read(visitor: Visitor) -> None:
    """Whole, with every draft and vote, and by Redis's clock."""
    name = fresh()
    written = put(visitor, name)
    assert (written.status_code, written.json()["revision"]) == (200, 1)
    read = get(visitor, name).json()
    assert read == written.json() and (read["id"], read["title"], read["turns"]) == (name, "Dogs", [TURN])
    again = put(visitor, name, title="Cats", revision=1).json()
    assert (again["revision"], again["created_at"]) == (2, read["created_at"])
    assert again["updated_at"] > again["created_at"]


def test_the_last_written_comes_first(visitor: Visitor) -> None:
    """In pages; a conversation that is written again comes to the front."""
    names = [fresh() for _ in range(5)]
    for number, name in enumerate(names):
        put(visitor, name, title=str(number))
    put(visitor, names[0], title="again", revision=1)
    assert titles(visitor) == ["again", "4", "3", "2", "1"]
    first = visitor.send("GET", "/page/conversations?limit=2").json()
    assert ([it["title"] for it in first["data"]], first["has_more"]) == (["again", "4"], True)
    assert titles(visitor, f"?limit=3&after={first['last_id']}") == ["3", "2", "1"]
    rest = visitor.send("GET", f"/page/conversations?after={names[1]}").json()
    assert rest == {"data": [], "has_more": False, "last_id": None}
    assert visitor.send("GET", f"/page/conversations?after={fresh()}").status_code == 404


def test_two_tabs_do_not_overwrite_each_other(visitor: Visitor) -> None:
    """The later one is told what stands, and goes on from there."""
    name = fresh()
    put(visitor, name)
    put(visitor, name, title="by one tab", revision=1)
    late = put(visitor, name, title="by the other", revision=1)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "conflict")
    assert late.json()["conversation"] == get(visitor, name).json()
    assert put(visitor, name, title="new", revision=0).status_code == 409
    assert put(visitor, name, title="by the other", revision=2).json()["revision"] == 3


def test_a_retry_is_one_write(visitor: Visitor) -> None:
    """Who did not hear the answer asks again: the same words over the same revision are the same write."""
    name = fresh()
    one, again = put(visitor, name), put(visitor, name)
    assert (again.status_code, again.json()) == (200, one.json())


def test_nobody_else_sees_one(visitor: Visitor, replica: Replica) -> None:
    """Another session, who knows the id: 404, and a list of its own; a name that it writes itself is its own."""
    name, other = fresh(), Visitor(replica.url)
    put(visitor, name)
    assert [get(other, name).status_code, other.send("DELETE", f"/page/conversations/{name}").status_code] == [404, 404]
    assert put(other, name, revision=1).status_code == 404
    assert titles(other) == []
    assert put(other, name, title="mine").json()["revision"] == 1
    other.send("DELETE", "/page/conversations")
    assert get(visitor, name).json()["title"] == "Dogs"


def test_without_a_session_there_are_none(replica: Replica) -> None:
    """Also where no key is needed."""
    answer = httpx.get(f"{replica.url}/page/conversations")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "session_required")


def test_one_and_all_are_forgotten(deployment: Deployment, visitor: Visitor) -> None:
    """Nothing of them is left in Redis."""
    names = [fresh() for _ in range(3)]
    for name in names:
        put(visitor, name, title=name)
    path = f"/page/conversations/{names[0]}"
    assert [visitor.send("DELETE", path).status_code for _ in range(2)] == [204, 404]
    assert put(visitor, names[0], revision=1).status_code == 404, "a tab that has it still does not bring it back"
    assert sorted(titles(visitor)) == sorted(names[1:])
    assert visitor.send("DELETE", "/page/conversations").status_code == 204
    assert titles(visitor) == [] and get(visitor, names[1]).status_code == 404
    assert not [it for it in deployment.store.client().keys("*conversation*") if visitor.rater in it]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"turns": [TURN | {"shown": 2}]}, "turns.0"),
        ({"turns": [TURN | {"answers": [], "shown": 1}]}, "turns.0"),
        ({"turns": [TURN | {"mood": "good"}]}, "turns.0.mood"),
        ({"turns": [TURN | {"answers": [ANSWER | {"thumb": 2}]}]}, "turns.0.answers.0.thumb"),
        ({"turns": [TURN | {"answers": [ANSWER | {"rating": 6}]}]}, "turns.0.answers.0.rating"),
        ({"turns": [TURN | {"question": "\ud800"}]}, "turns.0.question"),
        ({"title": "x" * 201}, "title"),
        ({"revision": -1}, "revision"),
        ({"revision": True}, "revision"),
        ({"owner": "ann"}, "owner"),
    ],
)
def test_what_is_no_conversation(visitor: Visitor, changes: dict[str, Any], param: str) -> None:
    """400, with the field."""
    body = {"title": "Dogs", "revision": 0, "turns": [TURN]} | changes
    written, headers = json.dumps(body), {"content-type": "application/json"}  # half a surrogate pair too
    answer = visitor.send("PUT", f"/page/conversations/{fresh()}", content=written, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize("name", ["conv_1", "conv_" + "F" * 32, "x"])
def test_ids_are_the_pages(visitor: Visitor, name: str) -> None:
    """128 bits as the contract writes them."""
    assert put(visitor, name).status_code == 400


def test_there_is_an_end_to_one(visitor: Visitor) -> None:
    """256 KiB of JSON."""
    assert put(visitor, fresh(), turns=[TURN | {"question": "x" * MAX_BYTES}]).status_code == 413
    assert put(visitor, fresh(), turns=[TURN | {"question": "x" * (MAX_BYTES - 3000)}]).status_code == 200


def test_the_oldest_give_way(deployment: Deployment, visitor: Visitor) -> None:
    """The two hundred that were written last are kept."""
    names = [fresh() for _ in range(MOST + 2)]
    client = deployment.store.client()
    for number, name in enumerate(names):
        if number % 50 == 0:
            client.delete(keys.quota(visitor.rater))
        assert put(visitor, name, title=str(number)).status_code == 200
    assert [get(visitor, names[place]).status_code for place in (0, 1, 2, MOST + 1)] == [404, 404, 200, 200]
    assert client.zcard(keys.conversations(visitor.rater)) == MOST
    assert len(client.keys(keys.conversation(visitor.rater, "*"))) == MOST


def test_writing_has_its_limit(deployment: Deployment, visitor: Visitor) -> None:
    """A write a second; reading is as ever."""
    name = fresh()
    leave(deployment.store.client(), visitor.rater, "writes", 1)
    written = [put(visitor, name), put(visitor, name, title="more", revision=1)]
    assert [it.status_code for it in written] == [200, 429] and "retry-after" in written[1].headers
    assert get(visitor, name).json()["revision"] == 1


def test_they_end_some_time_after_they_were_written(deployment: Deployment, visitor: Visitor) -> None:
    """Thirty days, each by itself; a write begins them anew."""
    name = fresh()
    put(visitor, name)
    client = deployment.store.client()
    key, month = keys.conversation(visitor.rater, name), 30 * 24 * 3600
    assert month - 60 < client.ttl(key) <= month
    client.expire(key, 5)
    put(visitor, name, title="later", revision=1)
    assert min(client.ttl(key), client.ttl(keys.conversations(visitor.rater))) > month - 60


def test_votes_come_first(deployment: Deployment, visitor: Visitor, replica: Replica) -> None:
    """Where there is no room for completions, conversations are not kept either; those that are, can be read."""
    name = fresh()
    put(visitor, name)
    client = deployment.store.client()
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.1))
    try:
        while replica.api.serving.records.recording:
            pass
        answer = put(visitor, name, title="more", revision=1)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
        assert get(visitor, name).json()["revision"] == 1
    finally:
        client.config_set("maxmemory", 0)
