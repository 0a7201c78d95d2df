"""A chat, a vote and a swap in traces, and what processes write to their logs: never what people wrote."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from core import tracing
from core.settings import Settings
from tests.core import otlp
from tests.core.otlp import Collector
from tests.plumbline.replicas import Deployment, bearer

CANARY = "xyzzy-canary-4711"
_GOODBYE = "worker: Warm shutdown (MainProcess)"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """What came of a replica's start, a chat, a stream and a vote with a comment."""
    with otlp.listening() as collector:
        tracing.start(Settings(otlp_endpoint=collector.url), "api")
        try:
            with Deployment(tmp_path_factory.mktemp("traced")) as deployment:
                url = deployment.replica().url
                body = {"model": "assistant", "messages": [{"role": "user", "content": CANARY}], "max_tokens": 4}
                answer = httpx.post(f"{url}/v1/chat/completions", json=body | {"user": CANARY}, timeout=30)
                httpx.post(f"{url}/v1/chat/completions", json=body | {"stream": True}, timeout=30)
                vote = {"target": {"type": "completion", "id": answer.json()["id"]}, "kind": "thumb", "value": 1}
                voted = httpx.post(f"{url}/v1/feedback", json=vote | {"comment": CANARY, "rater": {"id": CANARY}})
                assert (answer.status_code, voted.status_code) == (200, 201)
        finally:
            tracing.stop()
        yield collector


def test_a_chat_in_the_genai_conventions(traced: Collector) -> None:
    """Below its request: model, tokens, parameters; when the first token came. The record's two writes too."""
    requests = {span.span_id: span for span in traced.named("POST /v1/chat/completions")}
    chats = traced.named("chat assistant")
    assert len(requests) == len(chats) == 2
    for chat in chats:
        request = requests[chat.parent_id]
        assert chat.trace_id == request.trace_id and chat.seconds <= request.seconds + 0.05
        said = chat.attributes
        assert (said["gen_ai.operation.name"], said["gen_ai.request.model"]) == ("chat", "assistant")
        assert said["gen_ai.response.model"] == "assistant@v0"
        assert said["gen_ai.response.id"].startswith("chatcmpl-")
        assert said["gen_ai.usage.output_tokens"] > 0 and said["plumbline.recorded"]
    assert {chat.attributes["gen_ai.request.stream"] for chat in chats} == {True, False}
    assert {span.parent_id for span in traced.named("record open")} == requests.keys()
    assert {span.parent_id for span in traced.named("record final")} == requests.keys()


def test_a_vote_and_a_swap(traced: Collector) -> None:
    """The durable write lies below the vote's request; a swap is a trace of its own."""
    (request,), (write,) = traced.named("POST /v1/feedback"), traced.named("vote write")
    assert (write.parent_id, write.attributes) == (request.span_id, {"plumbline.feedback.kind": "thumb"})
    (swap,) = traced.named("policy swap")
    assert (swap.parent_id, swap.attributes["plumbline.refused"]) == ("", False)


def test_no_span_holds_what_people_wrote(traced: Collector) -> None:
    assert traced.raw and CANARY.encode() not in traced.raw


@pytest.mark.parametrize("module", ["training.worker", "plumbline.scheduler"])
def test_every_line_of_a_celery_process_is_json(module: str, redis_server: str, tmp_path: Path) -> None:
    """Its own lines and Celery's, without a banner; but for the goodbye that Celery says from a signal handler."""
    config = Settings(home=tmp_path, base=str(tmp_path), redis_url=redis_server, broker_url=redis_server, log="json")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=os.environ | config.environment(),
            stderr=output,
            stdout=output,
            cwd=ROOT,
        )
        try:
            deadline = time.monotonic() + 60
            while "ready" not in log.read_text():
                assert time.monotonic() < deadline and process.poll() is None, log.read_text()
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait(timeout=30)
    said = [json.loads(line) for line in log.read_text().splitlines() if line not in ("", _GOODBYE)]
    assert {line["process"] for line in said} == {module.split(".")[1]}
    assert any(line["message"].endswith("ready.") for line in said)


def test_a_replica_logs_no_prompt(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    """A chat, one that the engine fails, one that is malformed, a vote with a comment: none of it is in a log line."""
    with caplog.at_level("DEBUG", logger="plumbline"):
        replica = deployment.replica()
        body = {"model": "assistant", "messages": [{"role": "user", "content": CANARY}], "max_tokens": 4}
        for fields in ({}, {"stream": True}, {"temperature": CANARY}, {"user": CANARY, "metadata": {"k": CANARY}}):
            httpx.post(f"{replica.url}/v1/chat/completions", json=body | fields, timeout=30)
        token, key = deployment.key("feedback")
        replica.knows(key)
        vote = {"target": {"type": "completion", "id": "chatcmpl-x"}, "kind": "comment", "value": CANARY}
        httpx.post(f"{replica.url}/v1/feedback", json=vote, headers=bearer(token))
    assert caplog.records and CANARY not in caplog.text
