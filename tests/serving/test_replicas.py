"""Two real API processes over one Redis: they converge, label what they write, and neither harms the other."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import redis

from core import registry
from tests.serving import adapters, policies, tiny
from tests.serving.redis_process import RedisProcess
from tests.serving.replica_process import ReplicaProcess
from tests.waiting import eventually

pytestmark = pytest.mark.engine

SWAPS, STREAMS, TOKENS = 10, 6, 16
CONVERGED_S = 10.0
"""The bound that docs/serving.md states: registry to the last replica, two replicas and their load on two cores."""


@dataclass(kw_only=True)
class Fleet:
    """Two replicas; version 0 is live at the start."""

    base: Path
    client: redis.Redis
    replicas: list[ReplicaProcess]
    text_of: dict[str, str] = field(default_factory=dict)
    """By adapter sha256, the marker that it makes the model write."""

    def publish(self, number: int) -> str:
        """A marker adapter, in both artifact stores."""
        first, *others = self.replicas
        pairs = adapters.marker(self.base, tiny.marker_token(self.base, number))
        sha256 = adapters.publish(first.artifacts, self.base, pairs)
        for other in others:
            shutil.copytree(_directory(first, sha256), _directory(other, sha256), dirs_exist_ok=True)
        self.text_of[sha256] = tiny.MARKERS[number]
        return sha256

    def generation(self) -> int:
        state = registry.state(self.client)
        assert state is not None
        return state.generation

    def all_serve(self, generation: int) -> bool:
        return all(replica.serves(generation) for replica in self.replicas)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    base = tiny.write_base(directory / "base")
    store = RedisProcess(directory / "redis")
    store.start()
    replicas = [ReplicaProcess(directory / name, base, store.url) for name in ("first", "second")]
    for replica in replicas:
        replica.start()
    fleet = Fleet(base=base, client=store.client(), replicas=replicas)
    zero = {adapters.publish(replica.artifacts, base, adapters.zeros(base)) for replica in replicas}
    policies.initialise(fleet.client, zero.pop())
    try:
        eventually(lambda: fleet.all_serve(fleet.generation()), within_s=400)
        yield fleet
    finally:
        for replica in replicas:
            replica.stop()
        store.stop()


@dataclass(kw_only=True)
class Load:
    """Streams at every replica until the block is left; each answer as (replica, adapter sha256, text)."""

    fleet: Fleet
    answers: list[tuple[int, str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=120)

    def answered(self, replica: int) -> int:
        return sum(answer[0] == replica for answer in self.answers)

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:
            streams = [number for number in range(len(self.fleet.replicas)) for _ in range(STREAMS)]
            await asyncio.gather(*(self._stream(client, number) for number in streams))

    async def _stream(self, client: httpx.AsyncClient, number: int) -> None:
        url = self.fleet.replicas[number].url + "/v1/chat/completions"
        ask = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": TOKENS}
        while not self._stop.is_set():
            try:
                response = await client.post(url, json=ask | {"temperature": 0.3})
                response.raise_for_status()
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                continue
            text = response.json()["choices"][0]["message"]["content"]
            self.answers.append((number, response.headers["x-adapter-sha256"], text))


def test_ten_swaps_reach_all_replicas_under_load(fleet: Fleet) -> None:
    """Every generation is served by all within the bound; between two swaps every replica goes on answering; nothing
    fails, and each answer was written by the adapter that its header names."""
    published = [fleet.publish(number) for number in range(SWAPS)]
    policies.promote(fleet.client, published[0])
    eventually(lambda: fleet.all_serve(fleet.generation()))
    with Load(fleet=fleet) as load:
        for number, sha256 in enumerate(published):
            if number > 0:
                policies.promote(fleet.client, sha256)
                eventually(lambda: fleet.all_serve(fleet.generation()), within_s=CONVERGED_S)
            # Of the answers that end after the swap at most STREAMS began before it.
            after = [load.answered(replica) for replica in range(len(fleet.replicas))]
            for replica, count in enumerate(after):
                eventually(lambda r=replica, c=count: load.answered(r) > c + STREAMS)  # type: ignore[misc]
    assert load.failures == []
    assert [answer for answer in load.answers if answer[2] != fleet.text_of[answer[1]] * TOKENS] == []
    for number in range(len(fleet.replicas)):
        assert {sha256 for replica, sha256, _ in load.answers if replica == number} == set(published)


def test_a_replica_with_a_damaged_copy_keeps_the_last_good_policy(fleet: Fleet) -> None:
    """The other one goes on to the new policy; this one says so in /ready and in its metrics, and follows once its
    copy is whole."""
    whole, damaged = fleet.replicas
    before, refused = damaged.chat().json()["model"], damaged.metric("plumbline_policy_swaps_total", result="refused")
    sha256 = fleet.publish(11)
    weights = _directory(damaged, sha256) / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    version = policies.promote(fleet.client, sha256)
    generation = fleet.generation()
    eventually(lambda: whole.serves(generation))
    eventually(lambda: any(f"generation {generation} was refused" in note for note in damaged.ready()["notes"]))
    assert whole.chat().json()["model"] == f"assistant@v{version}"
    assert damaged.ready()["ready"] and damaged.chat().json()["model"] == before
    assert damaged.metric("plumbline_policy_swaps_total", result="refused") > refused
    assert damaged.metric("plumbline_policy_generation") < generation
    assert whole.metric("plumbline_policy_generation") == generation
    weights.write_bytes(content)
    eventually(lambda: damaged.serves(generation))
    assert damaged.chat().json()["model"] == f"assistant@v{version}"


@pytest.mark.faults
def test_a_killed_engine_comes_back_with_what_is_live_by_then(fleet: Fleet) -> None:
    """Meanwhile chat gets a typed error there, and answers at the other replica; the policy that went live while the
    engine was away is what it serves first."""
    broken, other = fleet.replicas
    sha256 = fleet.publish(12)
    broken.engine().kill()
    eventually(lambda: not broken.ready()["ready"])
    refusal = broken.chat()
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "engine_unavailable")
    version = policies.promote(fleet.client, sha256)
    assert other.chat().status_code == 200
    eventually(lambda: fleet.all_serve(fleet.generation()), within_s=240)
    answer = broken.chat().json()
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == (f"assistant@v{version}", "<marker12>" * 4)


def _directory(replica: ReplicaProcess, sha256: str) -> Path:
    return replica.artifacts / "adapters" / sha256
