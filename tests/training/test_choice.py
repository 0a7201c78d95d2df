"""python -m training.choice on a tiny model, and its parts by hand."""

from pathlib import Path

import numpy as np
import redis

from core.adapters import BaseShapes
from core.records import Choice, Choices
from tests import warm
from tests.training.examples import DISLIKED, EOS, LIKED, cut, pair_row
from tests.training.test_open_pairs import put
from training import choice
from training.acquisition import VersionVote
from training.data import Text
from training.open_pairs import OpenPair


def _answer(first: int, *rest: int) -> list[Choice]:
    return [Choice(index=0, text=f"{first} {rest}", token_ids=[first, *rest, EOS], finish_reason="stop")]


def test_the_program_leaves_its_advice(
    tmp_path: Path,
    redis_server: str,
    redis_client: redis.Redis,
    qwen_directory: Path,
    qwen_shapes: BaseShapes,
    optimized_reward: Path,
) -> None:
    """Doubt between the versions that votes compare, of each prompt's cluster, and the open pairs, most informative
    first."""
    rows = [pair_row(number, chosen_version=number % 2) for number in range(80)]
    snapshot = cut(tmp_path, rows, qwen_shapes)
    for number in range(6):
        sides = [{"choices": _answer(first, 40 + number, 50)} for first in (LIKED, DISLIKED)]
        put(redis_client, f"prompt {number}", *({**side, "prompt_token_ids": [4, 60, 5]} for side in sides))
    inputs = ["--base", qwen_directory, "--data", snapshot.directory, "--reward", optimized_reward, "--version", "1"]
    done = warm.run("training.choice", *map(str, inputs), "--out", str(tmp_path / "out"), REDIS_URL=redis_server)
    assert done.returncode == 0, done.stderr
    found = Choices.model_validate_json((tmp_path / "out" / "choices.json").read_text())
    assert found.versions.versions == [0, 1]
    assert 0 < found.versions.of(0, 1) < 2
    assert {row.cluster for row in rows if row.fold != "test"} < found.clusters.keys()
    assert len(found.clusters) == len({row.cluster for row in rows if row.fold != "test"}) + 6
    assert len(found.open_pairs.pairs) == 6
    assert found.open_pairs.scores == sorted(found.open_pairs.scores, reverse=True)
    assert min(found.open_pairs.scores) > 0


def test_version_votes_by_hand() -> None:
    """A tie is half a vote each way, a row weighs what it weighs."""
    won = pair_row(1, chosen_version=2, rejected_version=1, weight=0.5)
    tie = pair_row(2, chosen_version=1, rejected_version=0, tie=True)
    assert list(choice.version_votes([won, tie])) == [
        VersionVote(winner=2, loser=1, weight=0.5),
        VersionVote(winner=1, loser=0, weight=0.5),
        VersionVote(winner=0, loser=1, weight=0.5),
    ]


def test_cluster_doubt_is_the_mean_and_bounded() -> None:
    """Most doubtful first; at most a thousand."""
    assert list(choice.cluster_doubt([("a", 1.0), ("b", 5.0), ("a", 3.0)]).items()) == [("b", 5.0), ("a", 2.0)]
    assert len(choice.cluster_doubt((str(number), 1.0) for number in range(2000))) == choice.CLUSTERS


def test_a_prompt_is_asked_about_twice_at_most() -> None:
    """Of three pairs in a cluster the two best stay; order is by score, then by ids."""
    text = Text(prompt=[1], completion=[2])
    clusters = {"a": "x", "b": "x", "c": "x", "d": "y"}
    asked = [OpenPair(ids=(name, name), cluster=cluster, texts=(text, text)) for name, cluster in clusters.items()]
    found = choice.ranked(asked, np.array([0.1, 0.3, 0.2, 0.2]))
    assert [pair[0] for pair in found.pairs] == ["b", "c", "d"]
    assert found.scores == [0.3, 0.2, 0.2]
