"""The loop on real parts: a round of votes becomes a served policy, and back."""

import random

import openai
import pytest

from core import registry, releases
from lab.world import sample_prompts
from tests.e2e.conftest import MIN_VOTES
from tests.e2e.stack_process import StackProcess, eventually
from training import runs

pytestmark = pytest.mark.engine
PINNED = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}


def vote_a_round(stack: StackProcess, *, seed: int) -> int:
    """Blind comparisons until a round's worth of preference votes is in; longer answers are preferred."""
    count = 0
    for prompt in sample_prompts(random.Random(seed), 4 * MIN_VOTES, held_out=False):
        comparison = stack.compare(prompt.text, rater=f"rater-{count % 7}")
        a, b = (len(side["content"]) for side in comparison["sides"])
        value = "a" if a > b else "b" if b > a else "tie"
        response = stack.vote("preference", comparison["id"], value, rater=f"rater-{count % 7}")
        assert response.status_code == 201, response.text
        count += value != "tie"
        if count >= MIN_VOTES * 2:
            break
    return count


def promote(stack: StackProcess, version: int) -> None:
    """What people's votes would do: tests/plumbline/test_release.py has them decide."""
    told = stack.run_cli("policies", "promote", str(version), "--force", "--reason", "a test")
    assert told.startswith(f"assistant@v{version} is live")


def test_votes_become_a_served_policy(stack: StackProcess) -> None:
    """Enough votes start a round; its candidate passes the (open) gate, meets the first users as a canary, and answers
    all of them once it is promoted, without a restart."""
    before = registry.state(stack.redis)
    assert before is not None
    api = stack.child("api").pid
    vote_a_round(stack, seed=before.next_version)

    run = eventually(
        lambda: next((run for run in runs.all_runs(stack.redis) if run.version == before.next_version), None),
        timeout_s=240,
        what="a finished run",
    )
    release = releases.release(stack.redis, f"rel_{run.version}")
    assert (release.against, release.opened > 0) == (before.live, True)
    pinned = eventually(
        lambda: (
            stack.client.post("/v1/chat/completions", json=PINNED | {"model": f"assistant@v{run.version}"}).is_success
        ),
        timeout_s=30,
        what="a resident canary",
    )
    assert pinned
    promote(stack, run.version)
    answer = eventually(
        lambda: (found := stack.chat("What is a ladder?"))["model"] == f"assistant@v{run.version}" and found,
        timeout_s=30,
        what="an answer of the new policy",
    )

    assert (run.state, run.verdict, run.attempt) == ("done", "pass", 1)
    policy = registry.policy(stack.redis, run.version)
    assert (policy.parent, policy.state, policy.snapshot) == (before.live, "live", run.snapshot)
    assert answer["system_fingerprint"] == f"fp_{policy.adapter_sha256[:12]}"
    assert stack.child("api").pid == api


def test_rollback_takes_effect_without_a_restart(stack: StackProcess) -> None:
    """`plumbline policies rollback` makes the parent answer, and says so in the history."""
    live = registry.state(stack.redis).live  # type: ignore[union-attr]
    assert live > 0, "needs the version of the test before"
    parent = registry.policy(stack.redis, live).parent

    assert stack.run_cli("policies", "rollback", "--reason", "a test") == f"assistant@v{parent} is live.\n"
    eventually(
        lambda: stack.chat("Hello!")["model"] == f"assistant@v{parent}", timeout_s=30, what="the parent's answer"
    )
    assert registry.policy(stack.redis, live).state == "rolled_back"
    assert "a test" in stack.run_cli("policies", "history")


def test_openai_client_works_unchanged(stack: StackProcess) -> None:
    """Streams with usage, lists models, and raises the SDK's own errors for our error bodies."""
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0)
    messages = [{"role": "user", "content": "What is 2 plus 3?"}]
    chunks = list(
        client.chat.completions.create(
            model="assistant",
            messages=messages,
            stream=True,
            max_tokens=24,
            stream_options={"include_usage": True},
        )
    )

    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[-1].usage.completion_tokens > 0
    assert {"assistant", chunks[0].model} <= {model.id for model in client.models.list()}
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=messages)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="assistant", messages=messages, temperature="hot")
    assert wrong.value.param == "temperature"


def test_a_vote_right_after_the_last_chunk_is_accepted(stack: StackProcess) -> None:
    """The record is complete before the caller can know that the answer is: the vote is never refused."""
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=0)
    for number in range(30):
        chunks = client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": f"What is {number % 9} plus 1?"}],
            stream=True,
            max_tokens=16,
        )
        for chunk in chunks:
            if chunk.choices and chunk.choices[0].finish_reason:
                response = stack.vote("thumb", chunk.id, 1, rater=f"quick-{number}")
                assert response.status_code == 201, response.text


def test_two_callers_with_one_request_id_get_two_records(stack: StackProcess) -> None:
    """An inbound X-Request-Id is echoed and is never the id of a record."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
    answers = [stack.client.post("/v1/chat/completions", json=body, headers={"X-Request-Id": "same"}) for _ in range(2)]

    assert [answer.headers["x-request-id"] for answer in answers] == ["same", "same"]
    assert len({answer.json()["id"] for answer in answers}) == 2
    votes = [stack.vote("thumb", answer.json()["id"], 1, rater="ada") for answer in answers]
    assert [vote.status_code for vote in votes] == [201, 201]


def test_metrics_show_the_loop(stack: StackProcess) -> None:
    """The admin listener exposes the loop's figures; the public one does not."""
    text = stack.client.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text
    for name in ("plumbline_votes_total", "plumbline_policy_generation", "plumbline_chat_completions_total"):
        assert f"\n{name}" in text
    assert stack.client.get("/metrics").status_code == 404
