"""What a replica counts of its own traffic, as its admin listener shows it."""

import httpx
import pytest

from core.access import Limits
from tests.plumbline.replicas import Deployment, Replica, bearer, chat


@pytest.fixture(scope="module")
def replica(deployment: Deployment) -> Replica:
    return deployment.replica()


@pytest.fixture(scope="module")
def token(deployment: Deployment, replica: Replica) -> str:
    made, key = deployment.key("chat", "feedback", "read", limits=Limits(votes_per_minute=3))
    replica.knows(key)
    return made


def samples(replica: Replica, token: str) -> dict[str, float]:
    """Each series of ours with its value, as they stand in the exposition."""
    text = httpx.get(f"{replica.admin_url}/metrics", headers=bearer(token), timeout=30).raise_for_status().text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("plumbline_")]
    return {series: float(value) for series, value in lines}


def gained(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Counters that rose."""
    names = (name for name in after if name.split("{")[0].endswith(("_total", "_count")))
    return {name: after[name] - before.get(name, 0) for name in names if after[name] != before.get(name, 0)}


def test_a_chat_is_counted(deployment: Deployment, replica: Replica, token: str) -> None:
    """By route and status; how long its whole answer took; and that completions are recorded, none missing."""
    before = samples(replica, token)
    assert chat(replica.url, token).status_code == 200
    assert chat(replica.url, token, temperature=-1).status_code == 400
    after = samples(replica, token)
    route = 'route="/v1/chat/completions"'
    rose = gained(before, after)
    assert rose[f'plumbline_http_requests_total{{{route},status_class="2xx"}}'] == 1
    assert rose[f'plumbline_http_requests_total{{{route},status_class="4xx"}}'] == 1
    assert rose[f"plumbline_http_request_duration_seconds_count{{{route}}}"] == 2
    assert (after["plumbline_recording"], after["plumbline_policies_missing"]) == (1, 0)


def test_votes_are_counted(deployment: Deployment, replica: Replica, token: str) -> None:
    """New ones, refused ones by their code, those over a limit, and receipts that are none."""
    completion = chat(replica.url, token).json()["id"]

    def vote(target: str, authorization: str = token) -> int:
        body = {"target": {"type": "completion", "id": target}, "kind": "thumb", "value": 1}
        return httpx.post(f"{replica.url}/v1/feedback", json=body, headers=bearer(authorization)).status_code

    before = samples(replica, token)
    statuses = [
        vote(completion),
        vote("chatcmpl-none"),
        vote(completion),
        vote(completion),
        vote(completion, "v1.x.y.z"),
    ]
    assert statuses == [201, 404, 200, 429, 401]
    rose = {name.removeprefix("plumbline_"): by for name, by in gained(before, samples(replica, token)).items()}
    assert rose['votes_total{kind="thumb",result="new"}'] == 1
    assert rose['votes_total{kind="thumb",result="replay"}'] == 1
    assert rose['votes_refused_total{code="target_not_found"}'] == 1
    assert rose['votes_refused_total{code="rate_limit_exceeded"}'] == 1
    assert rose['requests_limited_total{limit="votes"}'] == 1
    assert rose['receipts_refused_total{code="token_invalid"}'] == 1


def test_preferences_are_counted_by_value(deployment: Deployment, replica: Replica, token: str) -> None:
    """People's: from them follow ties and the share of the side that is shown first."""
    body = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 4}
    made = httpx.post(f"{replica.url}/v1/comparisons", json=body, headers=bearer(token), timeout=30).json()["id"]
    before = samples(replica, token)
    vote = {"target": {"type": "comparison", "id": made}, "kind": "preference", "value": "tie", "rater": {"id": "p"}}
    assert httpx.post(f"{replica.url}/v1/feedback", json=vote, headers=bearer(token)).status_code == 201
    rose = gained(before, samples(replica, token))
    assert rose['plumbline_preferences_total{value="tie"}'] == 1
