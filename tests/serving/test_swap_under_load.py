"""Swaps on the real engine while 32 streams run, and an engine that is killed: nobody's answer is lost or mixed up."""

import asyncio
import json
import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.serving import adapters, policies, tiny
from tests.serving.conftest import EngineStack

pytestmark = pytest.mark.engine

STREAMS, SWAPS, TOKENS = 32, 10, 24
ASK = {
    "model": "assistant",
    "messages": [{"role": "user", "content": "A dog is"}],
    "max_tokens": TOKENS,
    "stream": True,
    "temperature": 0.3,
}


@dataclass
class Load:
    """32 clients that ask again and again until told to stop; every answer is kept as (model, text, finish reason)."""

    url: str
    stop: threading.Event = field(default_factory=threading.Event)
    answers: list[tuple[str, str, str | None]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=STREAMS)
        async with httpx.AsyncClient(base_url=self.url, timeout=120, limits=limits) as client:
            await asyncio.gather(*(self._one(client) for _ in range(STREAMS)))

    async def _one(self, client: httpx.AsyncClient) -> None:
        while not self.stop.is_set():
            try:
                await self._ask(client)
            except (httpx.HTTPError, KeyError) as error:
                self.failures.append(repr(error))

    async def _ask(self, client: httpx.AsyncClient) -> None:
        models, text, reason = set(), "", None
        async with client.stream("POST", "/v1/chat/completions", json=ASK) as response:
            response.raise_for_status()
            version = response.headers["x-policy-version"]
            async for line in response.aiter_lines():
                if not line or line == "data: [DONE]":
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                models.add(chunk["model"])
                text += chunk["choices"][0]["delta"].get("content") or ""
                reason = chunk["choices"][0]["finish_reason"] or reason
        assert models == {f"assistant@v{version}"}
        self.answers.append((models.pop(), text, reason))


def test_ten_swaps_under_load_lose_and_mix_nothing(engine_stack: EngineStack) -> None:
    """No stream fails or is cut, each is written by the version that it reports, and every version gets to write."""
    stack = engine_stack
    tokens = [tiny.marker_token(stack.base, number) for number in range(SWAPS)]
    published = [adapters.publish(stack.artifacts, stack.base, adapters.marker(stack.base, token)) for token in tokens]
    marker_of = {}
    load = Load(stack.live.url)
    thread = threading.Thread(target=load.run)
    _promote(stack, published[0], marker_of, 0)
    thread.start()
    for number in range(1, SWAPS):
        _promote(stack, published[number], marker_of, number)
        seen = len(load.answers)
        stack.live.wait(lambda seen=seen: len(load.answers) > seen + STREAMS, timeout_s=120)  # type: ignore[misc]
    load.stop.set()
    thread.join(timeout=120)
    assert load.failures == []
    wrong = [answer for answer in load.answers if answer != (answer[0], marker_of[answer[0]] * TOKENS, "length")]
    assert wrong == []
    assert {model for model, _, _ in load.answers} == set(marker_of)


def _promote(stack: EngineStack, sha256: str, marker_of: dict[str, str], number: int) -> None:
    version = policies.promote(stack.client, sha256)
    marker_of[f"assistant@v{version}"] = tiny.MARKERS[number]
    stack.live.wait_for_live(version, timeout_s=120)


@pytest.mark.faults
def test_a_killed_engine_is_rebuilt_in_place(engine_stack: EngineStack) -> None:
    """The stream in flight ends with a typed error, the replica is not ready, then answers as before."""
    stack = engine_stack
    before = stack.live.chat(temperature=0).json()["choices"][0]["message"]["content"]
    [core] = stack.live.serving._engine._llm.engine_core.resources.engine_manager.processes  # type: ignore[attr-defined]
    body = ASK | {"max_tokens": 400, "ignore_eos": True}
    with httpx.stream("POST", stack.live.url + "/v1/chat/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        children = Path(f"/proc/{core.pid}/task/{core.pid}/children").read_text().split()
        os.kill(core.pid, signal.SIGKILL)
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line and not line.endswith("[DONE]")]
    assert events[-1]["error"]["code"] == "engine_unavailable"
    refused = stack.live.chat()
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_unavailable")
    assert not stack.live.serving.ready()
    stack.live.wait_for_live(0, timeout_s=180)
    assert stack.live.chat(temperature=0).json()["choices"][0]["message"]["content"] == before
    assert children == [], "a worker process behind the engine polls, and takes a core from the trainer"
