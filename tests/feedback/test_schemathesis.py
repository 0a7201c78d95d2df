"""The feedback API does what its OpenAPI document says, whatever is sent: schemathesis over HTTP and a real Redis."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings

import feedback.app
from core import http
from core.settings import Settings
from plumbline import openapi
from tests.feedback.frozen import freeze
from tests.feedback.serving import listening
from tests.feedback.wire import COMPARISON, COMPLETION, PREFERENCE, THUMB

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: it comes with the dev extra")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

TASK = {"kind": "rate", "target": COMPLETION, "external_id": "planted", "overlap": 9}
TARGETS = {"thumb": COMPLETION, "rating": COMPLETION, "correction": COMPLETION}
"""What is planted, by the kinds that fit; the others fit the comparison."""
BATCHES = ("/v1/feedback/batch", "/v1/tasks")
"""200 whatever becomes of their items, each of which has a status of its own."""
PATIENCE_S = 30
"""A request that takes longer is a finding: nothing here waits for anything."""
SEVERAL = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to shrink one finding takes up to five minutes of requests
)


def described(listener: openapi.Listener) -> Any:
    """The listener's document without chat, which needs an engine."""
    schema = schemathesis.openapi.from_dict(openapi.document(listener))
    # What is well-formed may still be refused: a rating of 9, a ranking of an unknown side. The document says which
    # types there are, feedback/events.py what fits what.
    schema.config.checks.update(excluded_check_names=["positive_data_acceptance"])
    return schema.exclude(path_regex="^/v1/(chat|comparisons|models)")


@pytest.fixture
def urls(redis_server: str, redis_client: redis.Redis, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Of the public and of the admin listener."""
    config = Settings(feedback_window_s=3600, artifacts_url=str(tmp_path))
    public, admin = openapi.applications()
    for app in (public, admin):
        http.install(app, max_body_bytes=config.max_body_bytes)
    # Attached apart: each server has an event loop of its own here, and a client of Redis belongs to one.
    feedback.app.attach(public, redis_server, config)
    feedback.app.attach(FastAPI(), redis_server, config, admin=admin)
    with listening(public) as public_url, listening(admin) as admin_url:
        yield public_url, admin_url


@pytest.fixture
def planted(
    urls: tuple[str, str], put_completion: Callable[..., object], put_comparison: Callable[..., str], tmp_path: Path
) -> dict[str, str]:
    """A completion, a comparison, a vote on each, a task and a snapshot: values for the parameters of paths."""
    public, admin = urls
    put_completion("chatcmpl-1")
    put_comparison("1")
    vote = httpx.post(f"{public}/v1/feedback", json=THUMB | {"rater": {"id": "ann"}}).json()["id"]
    httpx.post(f"{public}/v1/feedback", json=PREFERENCE | {"rater": {"id": "ann"}}).raise_for_status()
    [task] = httpx.post(f"{admin}/v1/tasks", json={"items": [TASK]}).json()["results"]
    return {"feedback_id": vote, "task_id": task["id"], "snapshot": freeze(tmp_path).manifest.id}


def aim(case: Any, planted: dict[str, str]) -> None:
    """Lets a valid request hit what there is: invented ids would be 404 for ever."""
    for name in case.path_parameters or {}:
        case.path_parameters[name] = planted.get(name, case.path_parameters[name])
    if case.operation.path == "/v1/export":  # a process each: what they write, test_export_endpoints.py reads
        case.query["snapshot"] = "00" * 32
    votes = case.body if isinstance(case.body, dict) else {}
    for vote in [votes, *(votes.get("items") or [])]:
        if isinstance(vote, dict) and "target" in vote:
            kind = vote.get("kind") or (vote.get("kinds") or ["thumb"])[0]
            vote["target"] = TARGETS.get(kind, COMPARISON)


def meet(case: Any, url: str, planted: dict[str, str]) -> None:
    """Sends the request and checks the answer."""
    if case.meta.generation.mode.is_positive:
        aim(case, planted)
    response = case.call(base_url=url, timeout=PATIENCE_S)
    taken = case.method == "POST" and case.operation.path in BATCHES and response.status_code == 200
    excluded = [checks.negative_data_rejection] if taken else []
    case.validate_response(response, excluded_checks=excluded, transport_kwargs={"timeout": PATIENCE_S})
    if taken and case.meta.generation.mode.is_negative:
        assert any(result["status"] >= 400 for result in response.json()["results"])


@described("public").parametrize()
@SEVERAL
def test_raters_and_applications(case: Any, urls: tuple[str, str], planted: dict[str, str]) -> None:
    """No 5xx, no status, content type or body that the document does not name, whether the request is valid or not."""
    meet(case, urls[0], planted)


@described("admin").parametrize()
@SEVERAL
def test_operators(case: Any, urls: tuple[str, str], planted: dict[str, str]) -> None:
    """The same on the admin listener."""
    meet(case, urls[1], planted)
