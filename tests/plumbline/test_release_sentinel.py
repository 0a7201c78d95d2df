"""People against the optimizer's reward, while a candidate is released."""

from pathlib import Path

import pytest
import redis

from core import evidence, registry, releases
from core.records import GateReport, PolicyState, PolicyVersion, Verdict
from core.releases import Release
from core.settings import Settings
from plumbline import release as controller
from plumbline.release_sentinel import heard, overoptimised
from serving.release import Step
from serving.sequential_test import Tally
from tests.plumbline.releasing import OWNER, votes
from tests.serving import policies
from training import runs
from training.recipe import GateBounds, Recipe


def candidate(client: redis.Redis, bounds: GateBounds, **metrics: float) -> PolicyVersion:
    """A version whose gate had these figures, made by a run with these bounds."""
    run = runs.planned(snapshot="s", parent=0, recipe=Recipe(gate=bounds).model_dump_json(), last_vote=1.0)
    runs.create(client, run, votes=1)
    gate = GateReport(verdict=Verdict.PASS, live_version=0, checks=[], metrics=metrics, summary="s")
    return PolicyVersion(
        version=1,
        parent=0,
        base_sha256="b",
        adapter_sha256="a",
        method="ppo",
        run=run.id,
        gate=gate,
        created=1.0,
        state=PolicyState.CANARY,
    )


@pytest.mark.parametrize(
    ("tally", "stopped"),
    [
        (Tally(), False),
        (Tally(wins=4, losses=9), False),
        (Tally(wins=90, ties=20, losses=190), True),
        (Tally(wins=150, ties=20, losses=130), False),
    ],
)
def test_people_who_do_not_confirm_stop_it(redis_client: redis.Redis, tally: Tally, stopped: bool) -> None:
    """Its reward said 80 % at least: 33 % of 300 people stop it, thirteen people do not, and 53 % do not."""
    reason = overoptimised(redis_client, candidate(redis_client, GateBounds(), proxy_win_low=0.8), tally)
    assert (reason is not None) == stopped
    if reason is not None:
        assert reason.startswith("over-optimisation: the optimizer's reward says 80.0% at least, people 4")


@pytest.mark.parametrize(
    ("bounds", "metrics"), [(GateBounds(sentinel_margin=-0.5), {"proxy_win_low": 0.8}), (GateBounds(), {})]
)
def test_the_runs_own_bounds_count(redis_client: redis.Redis, bounds: GateBounds, metrics: dict[str, float]) -> None:
    """Where the recipe lets nobody contradict, or nothing was measured, nothing is stopped."""
    tally = Tally(wins=90, ties=20, losses=190)
    assert overoptimised(redis_client, candidate(redis_client, bounds, **metrics), tally) is None


def test_a_run_that_is_gone_leaves_the_usual_bounds(redis_client: redis.Redis) -> None:
    """Its record may be missing: people are heard all the same."""
    orphan = candidate(redis_client, GateBounds(), proxy_win_low=0.8).model_copy(update={"run": "gone"})
    assert overoptimised(redis_client, orphan, Tally(wins=90, ties=20, losses=190)) is not None


# --- a release --------------------------------------------------------------------------------------------------------

WORSE = Tally(wins=90, ties=20, losses=190)


@pytest.fixture
def release(redis_client: redis.Redis) -> Release:
    """Of a candidate whose reward said 80 % at least, against version 0."""
    policies.initialise(redis_client, "sha-0")
    made = candidate(redis_client, GateBounds(), proxy_win_low=0.8)
    assert made.gate is not None and made.run is not None
    assert runs.claim(redis_client, made.run, "owner", 60.0, max_attempts=3) is not None
    registry.publish(redis_client, made, made.gate, run=made.run, attempt=1)
    found = releases.current(redis_client)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (None, "over-optimisation"),
        (Step(kind="advance", reason="quiet"), "over-optimisation"),
        (Step(kind="kept", reason="no decision"), "over-optimisation"),
        (Step(kind="rolled_back", reason="people prefer the incumbent"), "people prefer the incumbent; over-optimisa"),
    ],
)
def test_it_goes_back_and_says_why(
    redis_client: redis.Redis, release: Release, step: Step | None, expected: str
) -> None:
    """Whatever the next step would have been, but for a promotion, which people have decided."""
    found = heard(redis_client, release, WORSE, step)
    assert found is not None and found.kind == "rolled_back" and found.reason.startswith(expected)


def test_without_a_reason_the_step_stays(redis_client: redis.Redis, release: Release) -> None:
    """People who confirm it, and a promotion."""
    step = Step(kind="advance", reason="quiet")
    assert heard(redis_client, release, Tally(wins=190, losses=90), step) == step
    promoted = Step(kind="promoted", reason="people prefer the candidate")
    assert heard(redis_client, release, WORSE, promoted) == promoted


def test_the_audit_trail_names_over_optimisation(
    redis_client: redis.Redis, redis_server: str, release: Release, tmp_path: Path
) -> None:
    """A hundred people prefer the incumbent: the controller rolls the candidate back, and the reason says that the
    reward that made it was wrong."""
    assert evidence.claim(redis_client, OWNER, lease_s=60)
    votes(redis_client, release, "b" * 100)
    controller.look(redis_client, Settings(home=tmp_path, redis_url=redis_server), owner=OWNER)
    ended = releases.release(redis_client, release.id)
    assert ended.state == "rolled_back"
    assert "over-optimisation: the optimizer's reward says 80.0% at least" in ended.reason
