"""A crowd of visitors and an open release, on a whole API: one person can come as many, and it must not matter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core import evidence as evidence_store
from core import keys, releases
from core.evidence import Evidence
from core.records import Comparison
from core.releases import Release
from core.settings import Settings
from feedback.archive import Archive
from plumbline import release as controller
from serving.sequential_test import MIN_RATERS
from tests.plumbline.releasing import OWNER
from tests.plumbline.replicas import Deployment, Replica, chat
from tests.plumbline.visiting import Visitor, invitation
from tests.serving import fake, policies
from tests.waiting import eventually


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """With an open release of version 1 against version 0."""
    with Deployment(tmp_path_factory.mktemp("strangers")) as it:
        client = it.store.client()
        policies.publish(client, fake.publish(it.settings.artifacts, Path(it.settings.base), number=2))
        yield it


@pytest.fixture
def release(deployment: Deployment) -> Release:
    """Nobody has voted on it yet; this process holds the lease."""
    client = deployment.store.client()
    client.delete(keys.FEEDBACK, keys.release_evidence("rel_1"), keys.release_voters("rel_1"))
    assert evidence_store.claim(client, OWNER, lease_s=60)
    return releases.release(client, "rel_1")


def started(deployment: Deployment, **settings: object) -> Replica:
    """Which asks about the release whenever it may."""
    replica = deployment.replica(release_sampling=1.0, **settings)

    def follows() -> bool:
        residents = replica.api.serving.replica.residents
        return residents is not None and residents.canary is not None

    eventually(follows)
    return replica


def crowd(url: str, network: str) -> list[Visitor]:
    """As many as a promotion needs, each from an address of its own."""
    found = [Visitor(url, **{"x-forwarded-for": f"{network}.{host}"}) for host in range(2, 2 + MIN_RATERS)]
    assert all(visitor.rater for visitor in found)
    return found


def prefers(deployment: Deployment, visitor: Visitor, version: int) -> None:
    """Has a visitor compare two answers and vote for that version's, as if they knew it."""
    asked = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}
    identifier = visitor.send("POST", "/v1/comparisons", json=asked).json()["id"]
    held = deployment.store.client().hget(keys.comparison(identifier), "record")
    versions = Comparison.model_validate_json(held or "").policy_versions
    side = "b" if versions[1] == version else "a"
    target = {"type": "comparison", "id": identifier}
    assert visitor.vote(identifier, target=target, kind="preference", value=side).status_code == 201


def evidence(deployment: Deployment, release: Release) -> Evidence:
    config: Settings = deployment.settings
    found = controller.follow(deployment.store.client(), release, Archive(config.artifacts), owner=OWNER)
    assert found is not None
    return found


def test_a_crowd_of_strangers_decides_no_release(deployment: Deployment, release: Release) -> None:
    """Fifty fresh sessions from fifty addresses, all for the candidate: the e-value stays what it was, and so it does
    when they name both versions themselves. Their thumbs are heard, by a guardrail that can only stop."""
    replica = started(deployment, page="open")
    assert chat(replica.url, "", user="ann").status_code == 401, "who would be anybody, without a session"
    visitors = crowd(replica.url, "198.51.100")
    for visitor in visitors:
        prefers(deployment, visitor, release.version)
    named = {"policies": ["assistant@v0", "assistant@v1"], "messages": [{"role": "user", "content": "A dog is"}]}
    pair = visitors[0].send("POST", "/v1/comparisons", json=named).json()["id"]
    target = {"type": "comparison", "id": pair}
    assert visitors[0].vote(pair, target=target, kind="preference", value="a").status_code == 201
    assert visitors[0].vote(visitors[0].chat().json()["id"], value=-1).status_code == 201
    found = evidence(deployment, release)
    assert (found.raters, found.log10_e, found.log10_e_against, found.finding) == (0, 0.0, 0.0, None)
    assert found.candidate_down + found.incumbent_down == 1


def test_invited_raters_decide(deployment: Deployment, release: Release) -> None:
    """On a page that is open to everybody: fifty whom the operator named, of fifty, promote."""
    replica = started(deployment, page="open")
    for number in range(MIN_RATERS):
        rater = Visitor(replica.url, invitation=invitation(deployment, f"rater-{number}"))
        prefers(deployment, rater, release.version)
    found = evidence(deployment, release)
    assert (found.wins, found.raters, found.finding) == (MIN_RATERS, MIN_RATERS, "better")


def test_this_machines_own_visitors_decide(deployment: Deployment, release: Release) -> None:
    """Where the page is open to this machine alone, whoever sits there is known: fifty of fifty promote."""
    replica = started(deployment)
    for visitor in crowd(replica.url, "127.0.0"):
        prefers(deployment, visitor, release.version)
    found = evidence(deployment, release)
    assert (found.wins, found.raters, found.finding) == (MIN_RATERS, MIN_RATERS, "better")
