"""The queue of rater tasks under any history of raters: who works, dies, skips, comes again or waits."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import redis
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import keys
from core.errors import AlreadyDecided
from feedback import events, store, task_lookup, task_store
from feedback.tasks import Said
from tests.feedback.conftest import WINDOW_S
from tests.feedback.task_queue import add, compare, crash, end_leases, run

__all__ = ["run"]

RATERS = st.sampled_from(["p", "q", "r"])
WORK = st.tuples(st.just("work"), RATERS, st.sampled_from("ab"), st.sampled_from(["lives", "dies"]))
STEPS = st.one_of(
    WORK,
    WORK,
    st.tuples(st.just("take"), RATERS),
    st.tuples(st.just("give"), RATERS, st.sampled_from("ab"), st.sampled_from(["lives", "dies"])),
    st.tuples(st.just("again"), st.integers(0, 20)),
    st.tuples(st.just("skip"), RATERS),
    st.tuples(st.just("wait")),
)


@dataclass
class History:
    """What happened, as the raters remember it."""

    client: redis.asyncio.Redis
    blocking: redis.Redis
    put: Callable[[str], str]
    overlaps: dict[str, int] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    """Rater -> the task that they were given last."""
    voted: dict[tuple[str, str], str] = field(default_factory=dict)
    """Task and rater -> the value that was stored, acknowledged or not."""
    skipped: set[tuple[str, str]] = field(default_factory=set)

    async def add(self, overlap: int, priority: int) -> None:
        name = str(len(self.overlaps))
        self.put(name)
        (task_id,) = await add(self.client, compare(name, overlap=overlap, priority=priority))
        self.overlaps[task_id] = overlap

    async def take(self, rater: str) -> None:
        leased = await task_store.lease(self.client, rater)
        if leased is not None:
            assert (leased.task.id, rater) not in self.voted.keys() | self.skipped
            again = await task_store.lease(self.client, rater)
            assert again == leased
            self.held[rater] = leased.task.id

    async def work(self, rater: str, value: str, end: str) -> None:
        await self.take(rater)
        await self.give(rater, value, end)

    async def give(self, rater: str, value: str, end: str) -> None:
        task_id = self.held.get(rater)
        if task_id is None or self.voted.get((task_id, rater), value) != value:
            return
        said = Said(rater=rater, value=value)
        try:
            if end == "dies":
                await crash(self.client, task_id, said)
            else:
                await task_store.answer(self.client, task_id, said, window_s=WINDOW_S)
        except AlreadyDecided as refused:
            assert (task_id, rater) not in self.voted, "an answer that was stored is never refused later"
            assert refused.error_code in ("lease_expired", "task_closed", "task_skipped")
        else:
            self.voted[task_id, rater] = value

    async def again(self, index: int) -> None:
        if self.voted:
            (task_id, rater), value = sorted(self.voted.items())[index % len(self.voted)]
            said = Said(rater=rater, value=value)
            stored = await task_store.answer(self.client, task_id, said, window_s=WINDOW_S)
            assert (stored.new, stored.view.feedback.value) == (False, value)

    async def skip(self, rater: str) -> None:
        task_id = self.held.get(rater)
        if task_id is None:
            return
        try:
            await task_store.skip(self.client, task_id, rater, reason="")
        except AlreadyDecided:
            assert (task_id, rater) in self.voted
        else:
            self.skipped.add((task_id, rater))

    async def wait(self) -> None:
        end_leases(self.blocking)

    async def check(self) -> None:
        votes, superseded = events.standing(store.log(self.blocking)[0])
        logged = {(vote.feedback.metadata["task"], vote.feedback.rater): vote.feedback.value for vote in votes}
        assert (logged, superseded, len(votes)) == (self.voted, 0, len(logged))
        for task_id, count in Counter(task_id for task_id, _ in logged).items():
            assert count <= self.overlaps[task_id]

    async def finish(self) -> None:
        """Leases end and fresh raters come until there is nothing left: each task has all its answers."""
        await self.wait()
        for index in range(sum(self.overlaps.values()) + 1):
            rater = f"fresh-{index}"
            while leased := await task_store.lease(self.client, rater):
                said = Said(rater=rater, value="a")
                await task_store.answer(self.client, leased.task.id, said, window_s=WINDOW_S)
                self.voted[leased.task.id, rater] = "a"
        await self.check()
        page = await task_lookup.page(self.client, after=None, limit=100)
        assert {each.task.id: (each.state, each.leased) for each in page.tasks} == dict.fromkeys(
            self.overlaps, ("done", 0)
        )
        assert {each.task.id: sorted(each.answers) for each in page.tasks} == {
            task_id: sorted(rater for task, rater in self.voted if task == task_id) for task_id in self.overlaps
        }
        assert Counter(len(each.answers) for each in page.tasks) == Counter(self.overlaps.values())
        assert self.blocking.zcard(keys.TASKS_READY) == self.blocking.zcard(keys.TASKS_DUE) == 0


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(overlaps=st.lists(st.integers(1, 2), min_size=1, max_size=3), steps=st.lists(STEPS, min_size=8, max_size=25))
def test_any_history_of_raters(run, redis_client: redis.Redis, put_comparison, overlaps, steps):
    """Never more answers than asked for, never a rater twice, every acknowledged answer in the log, no task lost."""
    redis_client.flushall()

    async def work(client: redis.asyncio.Redis) -> None:
        history = History(client, redis_client, put_comparison)
        for number, overlap in enumerate(overlaps):
            await history.add(overlap, priority=number % 2)
        for action, *details in steps:
            await getattr(history, action)(*details)
            await history.check()
        await history.finish()

    run(work)
