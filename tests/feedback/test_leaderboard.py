"""The board: groups and anchors, what active choice and length do to it, and how it is read from the log."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

import feedback.app
from core import http
from core.settings import Settings
from feedback.leaderboard import Leaderboard, leaderboard
from feedback.version_votes import VersionVote
from tests import warm


def board(found: list[VersionVote]) -> Leaderboard:
    return leaderboard(found, {}, as_of=0.0)


def won(winner: int, loser: int, times: int, *, start: int = 0) -> list[VersionVote]:
    return [VersionVote(first=winner, second=loser, won=1.0, vote=f"fb_{start + number}") for number in range(times)]


def test_versions_are_ranked_within_what_votes_connect() -> None:
    """0 and 1 have met, 4 and 7 have met: two groups, each with its oldest version as anchor."""
    found = board([*won(1, 0, 30), *won(0, 1, 10, start=30), *won(7, 4, 5, start=40), *won(4, 7, 4, start=50)])
    placed = [(each.version, each.anchor, each.rank, each.rank_last) for each in found.standings]
    assert placed == [(1, 0, 1, 1), (0, 0, 2, 2), (7, 4, 1, 2), (4, 4, 1, 2)]
    anchor = found.standings[1]
    assert (anchor.strength.low, anchor.strength.value, anchor.strength.high) == (0.0, 0.0, 0.0)
    assert anchor.elo.value == 1000.0
    assert found.standings[0].elo.value == pytest.approx(1000 + 400 * np.log10(3), abs=3)
    assert [each.votes for each in found.standings] == [40, 40, 9, 9]


def test_no_votes_are_an_empty_board() -> None:
    """Nothing to rank, nothing that fails."""
    assert (board([]).standings, board([]).length, board([]).votes) == ([], None, 0)


# --- chosen actively --------------------------------------------------------------------------------------------------


def chosen(seed: int, count: int, *, active: bool) -> list[VersionVote]:
    """Version 1 is better by one logit on the mean prompt; how far apart two answers are differs from prompt to prompt.

    Whoever chooses actively asks mostly where they are close, with known probability.
    """
    rng = np.random.default_rng(seed)
    margin = 1.0 + rng.normal(0, 2.0, count)
    asked = np.where(np.abs(margin) < 1.0, 0.9, 0.1) if active else np.ones(count)
    drawn = rng.random(count) < asked
    likes = rng.random(count) < 1 / (1 + np.exp(-margin))
    return [
        VersionVote(
            first=1,
            second=0,
            won=float(likes[number]),
            asked="active" if active else "random",
            propensity=float(asked[number]),
            rater=f"user-{number % 200}",
            vote=f"fb_{number}",
        )
        for number in np.flatnonzero(drawn)
    ]


def strength(found: list[VersionVote]) -> tuple[float, float, float]:
    (first,) = [each for each in board(found).standings if each.version == 1]
    return first.strength.low, first.strength.value, first.strength.high


def test_active_choice_does_not_bend_the_board() -> None:
    """With propensities the estimate over twenty elections is that of random choice; without, it is far off."""
    truth = strength(chosen(1000, 40_000, active=False))[1]
    elections = [chosen(seed, 6000, active=True) for seed in range(20)]
    weighed = [strength(each) for each in elections]
    bare = [strength([replace(each_vote, propensity=1.0) for each_vote in each]) for each in elections]
    assert np.mean([value for _, value, _ in weighed]) == pytest.approx(truth, abs=0.06)
    assert np.mean([value for _, value, _ in bare]) < truth - 0.15
    assert sum(low <= truth <= high for low, _, high in weighed) >= 18
    assert sum(low <= truth <= high for low, _, high in bare) <= 10


# --- longer answers ---------------------------------------------------------------------------------------------------


def verbose() -> list[VersionVote]:
    """Version 1 says the same as version 0 in up to three times as many tokens, and raters like length a little."""
    rng, count = np.random.default_rng(5), 4000
    lengths = (
        rng.integers(20, 80, (count, 2))
        * np.array([1.0, 1.0])
        * np.stack([rng.uniform(1, 3, count), np.ones(count)], 1)
    )
    likes = rng.random(count) < 1 / (1 + np.exp(-0.6 * np.log(lengths[:, 0] / lengths[:, 1])))
    return [
        VersionVote(
            first=1,
            second=0,
            won=float(likes[number]),
            tokens=(int(lengths[number, 0]), int(lengths[number, 1])),
            rater=f"user-{number % 100}",
            vote=f"fb_{number}",
        )
        for number in range(count)
    ]


def test_length_alone_is_no_strength() -> None:
    """Who merely writes more gains as written, and nothing at equal length."""
    found = board(verbose())
    (longer,) = [each for each in found.standings if each.version == 1]
    assert longer.as_written.low > 0.2
    assert longer.strength.low < 0 < longer.strength.high
    assert found.length is not None and found.length.low < 0.6 < found.length.high


# --- read from the log ------------------------------------------------------------------------------------------------


@pytest.fixture
def voted(api: TestClient, put_comparison: Callable[..., str]) -> None:
    """Version 3 is preferred to version 2 in three votes of four; one vote is between answers of version 3."""
    for number in range(4):
        target = {"type": "comparison", "id": put_comparison(f"{number}")}
        body = {
            "target": target,
            "kind": "preference",
            "value": "a" if number else "b",
            "rater": {"id": f"user-{number}"},
        }
        assert api.post("/v1/feedback", json=body).status_code == 201
    target = {"type": "comparison", "id": put_comparison("same", versions=(3, 3))}
    assert api.post("/v1/feedback", json={"target": target, "kind": "preference", "value": "a"}).status_code == 201


def test_the_board_over_http(voted: None, redis_server: str, tmp_path: object) -> None:
    """`GET /v1/leaderboard` of the admin listener counts what was voted."""
    public, admin = FastAPI(), FastAPI()
    for app in (public, admin):
        http.install(app, max_body_bytes=10_000)
    feedback.app.attach(public, redis_server, Settings(artifacts_url=str(tmp_path)), admin=admin)
    with TestClient(admin) as client:
        answer = client.get("/v1/leaderboard")
    assert answer.status_code == 200, answer.text
    found = Leaderboard.model_validate(answer.json())
    assert [(each.version, each.anchor) for each in found.standings] == [(3, 2), (2, 2)]
    assert (found.votes, found.raters, found.by_rater) == (4, 4, False)
    assert found.left_out == {"same_version": 1}


def test_redis_away_is_said(tmp_path: object) -> None:
    """The board's process ends with the status that becomes a 503."""
    environment = {"REDIS_URL": "redis://127.0.0.1:1/0", "ARTIFACTS_URL": str(tmp_path)}
    done = warm.run("feedback.leaderboard", **environment)
    assert done.returncode == 3


def test_the_command_prints_the_board(
    voted: None, redis_server: str, redis_client: redis.Redis, tmp_path: object
) -> None:
    """`plumbline leaderboard`: a line a version with a bar; with --json the record."""
    environment = {"REDIS_URL": redis_server, "ARTIFACTS_URL": str(tmp_path), "COLUMNS": "140"}
    shown = warm.run("plumbline.cli", "leaderboard", **environment)
    assert shown.returncode == 0, shown.stderr
    rows = shown.stdout.splitlines()
    assert rows[1].split()[:3] == ["1–2", "v3", "1179"] and "●" in rows[1]
    assert "anchor" in rows[2]
    assert "4 votes of 4 raters" in rows[3]
    printed = warm.run("plumbline.cli", "leaderboard", "--json", **environment)
    assert json.loads(printed.stdout)["standings"][0]["version"] == 3
