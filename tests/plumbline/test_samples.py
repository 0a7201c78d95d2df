"""Answers of several versions side by side, for an operator: real answers on the admin listener, and no traffic."""

from pathlib import Path

import httpx
import pytest

from core import keys
from tests.plumbline.replicas import Deployment, Replica
from tests.serving import fake, policies
from tests.waiting import eventually

ASK = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def replica(deployment: Deployment) -> Replica:
    """Version 1 is live."""
    started = deployment.replica()
    adapter = fake.publish(deployment.settings.artifacts, Path(deployment.settings.base), number=2)
    assert policies.promote(deployment.store.client(), adapter) == 1
    eventually(lambda: httpx.get(f"{started.url}/ready").json()["live"] == 1)
    return started


def sample(replica: Replica, **fields: object) -> httpx.Response:
    return httpx.post(f"{replica.admin_url}/v1/samples", json=ASK | {"versions": [1, 0]} | fields, timeout=30)


def test_each_version_answers(deployment: Deployment, replica: Replica) -> None:
    """In the order in which they were named. Nothing is recorded, and no place in the engine stays taken."""
    answer = sample(replica)
    assert answer.status_code == 200, answer.text
    assert [(it["policy_version"], it["content"]) for it in answer.json()["data"]] == [
        ("assistant@v1", "assistant@v1 " * 2),
        ("assistant@v0", "assistant@v0 " * 2),
    ]
    assert deployment.store.client().keys(keys.completion("*")) == []
    assert replica.api.serving.replica.in_flight == 0


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"versions": [1, 7]}, 404, "model"),
        ({"versions": []}, 400, "versions"),
        ({"versions": [0] * 5}, 400, "versions"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"stream": True}, 400, "stream"),
    ],
)
def test_what_cannot_be_sampled(replica: Replica, fields: dict[str, object], status: int, param: str) -> None:
    """Refused as a whole: what was taken for the others is given back."""
    answer = sample(replica, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert replica.api.serving.replica.in_flight == 0


def test_it_is_for_operators(replica: Replica) -> None:
    """On the public listener there is no such thing."""
    assert httpx.post(f"{replica.url}/v1/samples", json=ASK | {"versions": [0]}).status_code == 404
