"""The swap loop over the fake engine, a real registry and real files."""

import json
import threading
import time

import httpx
import pytest

from core import registry
from tests.serving import policies
from tests.serving.conftest import FakeStack


def _content(stack: FakeStack, **fields: object) -> str:
    return str(stack.live.chat(**fields).json()["choices"][0]["message"]["content"])


def test_nothing_is_served_before_a_policy_exists(idle_stack: FakeStack) -> None:
    """Live, not ready, and says why; the first policy in the registry makes it ready."""
    stack = idle_stack
    stack.live.start()
    stack.live.wait(lambda: "the registry holds no policy yet" in stack.live.serving.readiness().notes, timeout_s=10)
    assert (stack.live.chat().status_code, stack.live.serving.ready()) == (503, False)
    policies.initialise(stack.client, stack.publish())
    stack.live.wait_for_live(0, timeout_s=20)
    assert stack.live.chat().status_code == 200


def test_the_engine_is_built_for_the_adapters_rank(idle_stack: FakeStack) -> None:
    """And an adapter of a higher rank is refused later."""
    stack = idle_stack
    policies.initialise(stack.client, stack.publish(rank=3))
    stack.live.start()
    stack.live.wait_for_live(0, timeout_s=20)
    assert stack.engine.max_rank == 3
    policies.promote(stack.client, stack.publish(rank=4))
    stack.live.wait(lambda: "rank 4 is over 3" in str(stack.live.serving.readiness().notes), timeout_s=20)


def test_a_promoted_version_takes_over_and_the_previous_stays(stack: FakeStack) -> None:
    """v0, live and previous are resident; what is older is unloaded and no longer found."""
    for version in (1, 2, 3):
        assert stack.promote() == version
        stack.live.wait_for_live(version, timeout_s=20)
        assert _content(stack, max_tokens=1) == f"assistant@v{version} "
    assert stack.live.serving.readiness().resident == [0, 2, 3]
    stack.live.wait(lambda: stack.engine.unloads == ["assistant@v1"], timeout_s=10)
    assert stack.live.chat(model="assistant@v1").status_code == 404
    assert _content(stack, model="assistant@v2", max_tokens=1) == "assistant@v2 "


def test_a_request_ends_on_the_version_it_began_with(stack: FakeStack) -> None:
    """Two swaps pass while it streams; its version is kept loaded until it ends, then unloaded."""
    first = stack.promote()
    stack.live.wait_for_live(first, timeout_s=20)
    stack.engine.gate.clear()
    contents: list[str] = []
    thread = threading.Thread(target=lambda: contents.append(_content(stack, max_tokens=2)))
    thread.start()
    stack.live.wait(lambda: stack.engine.running == 1, timeout_s=10)
    for _ in range(2):
        stack.live.wait_for_live(stack.promote(), timeout_s=20)
    assert stack.engine.unloads == []
    stack.live._loop.call_soon_threadsafe(stack.engine.gate.set)
    thread.join(timeout=20)
    assert contents == ["assistant@v1 assistant@v1 "]
    stack.live.wait(lambda: stack.engine.unloads == ["assistant@v1"], timeout_s=10)


def test_rollback_is_the_same_path(stack: FakeStack) -> None:
    """The previous version is resident: nothing is loaded, and new requests take it."""
    stack.live.wait_for_live(stack.promote(), timeout_s=20)
    loads = list(stack.engine.loads)
    registry.rollback(stack.client, actor="test", reason="test")
    stack.live.wait_for_live(0, timeout_s=20)
    assert stack.engine.loads == loads
    assert _content(stack, max_tokens=1) == "assistant@v0 "


@pytest.mark.parametrize("fault", ["engine", "probe", "file"])
def test_a_refused_version_leaves_the_old_policy(stack: FakeStack, fault: str) -> None:
    """Load, probe or verification fails: said in /ready, not tried again at every look, old policy in service."""
    if fault == "engine":
        stack.engine.refuse.add("assistant@v1")
    if fault == "probe":
        stack.engine.distort = 0.01
    sha256 = stack.publish()
    if fault == "file":
        weights = stack.settings.artifacts / "adapters" / sha256 / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    policies.promote(stack.client, sha256)
    stack.live.wait(lambda: "generation 4 was refused" in str(stack.live.serving.readiness().notes), timeout_s=20)
    assert stack.live.serving.ready()
    assert _content(stack, max_tokens=1) == "assistant@v0 "
    loads = len(stack.engine.loads)
    time.sleep(1.5)  # three looks at the registry
    assert len(stack.engine.loads) == loads
    assert "assistant@v1" not in stack.engine.adapters


def test_a_refused_generation_is_left_behind_by_the_next(stack: FakeStack) -> None:
    """A rollback after the refusal is followed, and the note goes."""
    stack.engine.refuse.add("assistant@v1")
    stack.promote()
    stack.live.wait(lambda: "refused" in str(stack.live.serving.readiness().notes), timeout_s=20)
    registry.rollback(stack.client, actor="test", reason="test")
    stack.live.wait(lambda: stack.live.serving.readiness().notes == [], timeout_s=20)
    assert stack.live.serving.readiness().generation == 5


def test_served_on_without_redis(stack: FakeStack) -> None:
    """Redis dies: still ready, still answering; it returns with a new version: followed."""
    stack.store.stop()
    stack.live.wait(lambda: "the registry is away" in str(stack.live.serving.readiness().notes), timeout_s=20)
    assert stack.live.serving.ready()
    assert _content(stack, max_tokens=1) == "assistant@v0 "
    stack.store.start()
    stack.live.wait_for_live(stack.promote(), timeout_s=20)


def test_started_without_redis_serves_the_last_good_policy(stack: FakeStack) -> None:
    """Verified from its own copy, also when the artifact store is gone; Redis returns: complete again."""
    version = stack.promote()
    stack.live.wait_for_live(version, timeout_s=20)
    stack.live.stop()
    stack.store.stop()
    stack.settings.artifacts.rename(stack.settings.artifacts.with_name("gone"))
    live = stack.rebuild()
    live.start()
    live.wait_for_live(version, timeout_s=20)
    assert live.serving.readiness().resident == [version]
    assert "the registry is away" in str(live.serving.readiness().notes)
    stack.settings.artifacts.with_name("gone").rename(stack.settings.artifacts)
    stack.store.start()
    live.wait(lambda: live.serving.readiness().resident == [0, version], timeout_s=20)
    assert live.serving.readiness().notes == []


def test_started_with_neither_is_live_but_not_ready(idle_stack: FakeStack) -> None:
    """It never serves v0 by default."""
    stack = idle_stack
    stack.store.stop()
    stack.live.start()
    stack.live.wait(lambda: "the registry is away" in str(stack.live.serving.readiness().notes), timeout_s=20)
    assert (stack.live.serving.ready(), stack.engine.starts) == (False, 0)
    assert httpx.get(stack.live.url + "/v1/models").json()["data"] == []


def test_a_damaged_last_good_copy_is_not_served(stack: FakeStack) -> None:
    """The copy is verified again at every start; with the artifact gone too, nothing is served."""
    stack.live.stop()
    stack.store.stop()
    [copy] = [entry for entry in (stack.settings.directory / "replica-cache").iterdir() if entry.is_dir()]
    weights = copy / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])
    stack.settings.artifacts.rename(stack.settings.artifacts.with_name("gone"))
    live = stack.rebuild()
    live.start()
    live.wait(lambda: "was refused" in str(live.serving.readiness().notes), timeout_s=20)
    assert not live.serving.ready()


def test_a_dead_engine_is_rebuilt_in_place(stack: FakeStack) -> None:
    """Not ready meanwhile; afterwards the same policies answer again."""
    version = stack.promote()
    stack.live.wait_for_live(version, timeout_s=20)
    stack.engine.alive = False
    assert not stack.live.serving.ready()
    stack.live.wait(lambda: stack.engine.starts == 2, timeout_s=20)
    stack.live.wait_for_live(version, timeout_s=20)
    assert stack.live.serving.readiness().resident == [0, version]
    assert _content(stack, max_tokens=1) == f"assistant@v{version} "


def test_the_last_good_file_names_what_is_live(stack: FakeStack) -> None:
    """Generation, version, adapter and the path of the copy."""
    stack.live.wait_for_live(stack.promote(), timeout_s=20)
    file = stack.settings.directory / "replica-cache" / "last-good.json"
    stack.live.wait(lambda: json.loads(file.read_text())["version"] == 1, timeout_s=10)
    entry = json.loads(file.read_text())
    residents = stack.live.serving.replica.residents
    assert residents is not None
    assert (entry["generation"], entry["adapter_sha256"]) == (residents.generation, residents.policies[1])
    assert entry["path"].endswith(entry["adapter_sha256"])


def test_stopping_lets_answers_end(stack: FakeStack) -> None:
    """`stop` waits for the request in flight; then the engine is ended."""
    stack.engine.gate.clear()
    contents: list[str] = []
    thread = threading.Thread(target=lambda: contents.append(_content(stack, max_tokens=2)))
    thread.start()
    stack.live.wait(lambda: stack.engine.running == 1, timeout_s=10)
    stopping = threading.Thread(target=stack.live.stop)
    stopping.start()
    time.sleep(0.3)
    assert stack.engine.alive
    stack.live._loop.call_soon_threadsafe(stack.engine.gate.set)
    thread.join(timeout=20)
    stopping.join(timeout=60)
    assert contents == ["assistant@v0 assistant@v0 "]
    assert not stack.engine.alive
