"""Fixtures of the chat API: over the fake engine one app per test, over vLLM one app for the whole session."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from core import registry, releases
from core.settings import Settings
from tests.serving import fake, policies
from tests.serving.live import LiveServing
from tests.serving.redis_process import RedisProcess


@dataclass(kw_only=True)
class FakeStack:
    """App, engine and Redis of one fast test; version 0 is live when `start` returns."""

    settings: Settings
    base: Path
    store: RedisProcess
    engine: fake.FakeEngine
    live: LiveServing
    numbers: Iterator[int]

    @property
    def client(self) -> redis.Redis:
        return self.store.client()

    def publish(self, **options: int) -> str:
        return fake.publish(self.settings.artifacts, self.base, number=next(self.numbers), **options)

    def promote(self) -> int:
        """A new adapter, live in the registry."""
        return policies.promote(self.client, self.publish())

    def rebuild(self) -> LiveServing:
        """The same replica after a restart: a fresh engine and app over the same disk and Redis."""
        self.engine = fake.FakeEngine()
        self.live = LiveServing(self.settings, self.store.url, lambda settings, base: self.engine)
        return self.live


@pytest.fixture
def idle_stack(tmp_path: Path, store: RedisProcess) -> Iterator[FakeStack]:
    """Nothing started, nothing in the registry."""
    base = fake.write_base(tmp_path / "base")
    settings = Settings(home=tmp_path / "home", base=str(base))
    engine = fake.FakeEngine()
    live = LiveServing(settings, store.url, lambda settings, base: engine)
    stack = FakeStack(settings=settings, base=base, store=store, engine=engine, live=live, numbers=iter(range(1, 1000)))
    yield stack
    if stack.live.running:
        stack.engine.gate.set()
        stack.live.stop()


@pytest.fixture
def stack(idle_stack: FakeStack) -> FakeStack:
    """Version 0 is live and answers."""
    policies.initialise(idle_stack.client, idle_stack.publish())
    idle_stack.live.start()
    idle_stack.live.wait_for_live(0)
    return idle_stack


@dataclass(kw_only=True)
class EngineStack:
    """The one real engine of the session."""

    settings: Settings
    base: Path
    store: RedisProcess
    live: LiveServing

    @property
    def client(self) -> redis.Redis:
        return self.store.client()

    @property
    def artifacts(self) -> Path:
        return self.settings.artifacts


@pytest.fixture
def engine_stack(engine_session: EngineStack) -> Iterator[EngineStack]:
    """The session's engine with version 0 live, and so again after the test, however that went."""
    yield engine_session
    if (release := releases.current(engine_session.client)) is not None:
        releases.end(engine_session.client, release.id, state="stopped", actor="test", reason="end of test")
    while (state := registry.state(engine_session.client)) and state.live:
        registry.rollback(engine_session.client, actor="test", reason="end of test")
    engine_session.live.wait_for_live(0)


@pytest.fixture(scope="session")
def engine_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineStack]:
    """A real vLLM over a tiny random Qwen3; version 0 (the zero adapter) is live."""
    from tests.serving import adapters, tiny

    directory = tmp_path_factory.mktemp("engine")
    base = tiny.write_base(directory / "base")
    settings = Settings(home=directory / "home", base=str(base), feedback_window_s=3600, tool_parser="hermes")
    store = RedisProcess(directory / "redis")
    store.start()
    policies.initialise(store.client(), adapters.publish(settings.artifacts, base, adapters.zeros(base)))
    live = LiveServing(settings, store.url, None)
    live.start()
    live.wait_for_live(0, timeout_s=400)  # a cold and busy machine imports vLLM three times
    yield EngineStack(settings=settings, base=base, store=store, live=live)
    llm = live.serving._engine._llm  # type: ignore[attr-defined]
    processes = list(llm.engine_core.resources.engine_manager.processes)
    live.stop()
    store.stop()
    assert [process for process in processes if process.is_alive()] == []
