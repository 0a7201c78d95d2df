"""kill -9, one part after the other, under load: no acknowledged vote is lost, chat goes on, no child is orphaned."""

import asyncio
from collections import Counter

import httpx
import psutil
import pytest

from core import audit, registry
from tests import stopping
from tests.e2e.stack_process import Load, StackProcess, eventually
from tests.e2e.test_loop import promote, vote_a_round
from training import runs

pytestmark = pytest.mark.faults


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def assert_votes_exactly_once(stack: StackProcess, load: Load) -> None:
    stored = Counter(stack.stored_votes())
    assert load.acknowledged, "the load never got a vote through"
    assert {vote: stored[vote] for vote in load.acknowledged} == dict.fromkeys(load.acknowledged, 1)


def wait_for_votes(load: Load, count: int) -> None:
    target = len(load.acknowledged) + count
    eventually(lambda: len(load.acknowledged) >= target, timeout_s=90, what=f"{count} further votes")


def test_redis_killed(stack: StackProcess) -> None:
    """Chat keeps answering without Redis; votes are refused with 503 meanwhile, and none that was taken is lost."""
    live = registry.state(stack.redis).live  # type: ignore[union-attr]
    with Load(stack) as load:
        wait_for_votes(load, 20)
        stack.child("redis").kill()
        while_away = stack.chat("Hello!", max_tokens=8)
        wait_for_votes(load, 20)

    assert while_away["model"] == f"assistant@v{live}"
    assert load.failed_chats == 0
    assert set(load.refused_votes) <= {404, 503}  # 404: its completion could not be recorded
    assert_votes_exactly_once(stack, load)


def test_api_killed(stack: StackProcess) -> None:
    """The API comes back with the live policy; its engine's processes do not outlive it."""
    live = registry.state(stack.redis).live  # type: ignore[union-attr]
    family = stack.family("api")
    assert len(family) >= 2, "the engine runs in child processes"
    with Load(stack) as load:
        wait_for_votes(load, 20)
        family[0].kill()
        eventually(lambda: gone(family), timeout_s=15, what="the end of the killed API's children")
        eventually(stack.is_ready, timeout_s=150, what="ready again")
        wait_for_votes(load, 20)

    assert stack.chat("Hello!", max_tokens=8)["model"] == f"assistant@v{live}"
    assert_votes_exactly_once(stack, load)


def test_worker_killed_while_it_trains(stack: StackProcess) -> None:
    """The run goes on as the next attempt and is committed once; the killed worker's trainer is gone."""
    before = registry.state(stack.redis)
    assert before is not None
    with Load(stack, pause_s=0.5) as load:
        vote_a_round(stack, seed=1000 + before.next_version)
        run = eventually(
            lambda: next((run for run in runs.all_runs(stack.redis) if run.state == "running" and run.stage), None),
            timeout_s=60,
            what="a running stage",
        )
        family = eventually(
            lambda: (
                (found := stack.family("worker"))
                and any("training." in " ".join(p.cmdline()) for p in found[1:])
                and found
            ),
            timeout_s=60,
            what="a trainer",
        )
        family[0].kill()
        eventually(lambda: gone(family), timeout_s=15, what="the end of the killed worker's trainer")
        done = eventually(
            lambda: (now := runs.get(stack.redis, run.id)).state == "done" and now, timeout_s=240, what="the run's end"
        )

    assert done.attempt == 2
    registered = [event for event in audit.history(stack.redis) if event.actor == f"run:{run.id}"]
    assert [event.action for event in registered] == ["register", "release.opened"]
    promote(stack, done.version)
    eventually(
        lambda: stack.chat("Hello!")["model"] == f"assistant@v{done.version}", timeout_s=30, what="the new policy"
    )
    assert load.failed_chats == 0
    assert_votes_exactly_once(stack, load)


def test_sigterm_under_streams_cuts_none(stack: StackProcess) -> None:
    """SIGTERM to the API under 32 streams: all end properly, no process of it stays, and the next one serves."""
    family = stack.family("api")

    async def stop() -> None:
        family[0].terminate()

    async def scene() -> list[list[str]]:
        async with httpx.AsyncClient(base_url=stack.url, timeout=120) as client:
            return await stopping.through_a_stop(client, 200, stop)

    streams = asyncio.run(scene())
    assert [events[-1] for events in streams] == ["data: [DONE]"] * stopping.STREAMS
    eventually(lambda: gone(family), timeout_s=60, what="the end of the old API")
    eventually(stack.is_ready, timeout_s=150, what="ready again")


def test_ctrl_c_stops_every_child(stack: StackProcess) -> None:
    """The last of the end-to-end tests: after Ctrl-C nothing of the stack runs, and its ports are free."""
    assert stack.process is not None
    everyone = psutil.Process(stack.process.pid).children(recursive=True)
    assert stack.stop() == 0, stack.output.read_text()
    assert gone(everyone), [process.cmdline() for process in everyone if process.is_running()]
