"""Snapshots → rows: ids as they were served, every table, and the same from an export."""

import json
from pathlib import Path

import pytest

from core.adapters import BaseShapes
from core.errors import UsageError
from feedback import snapshot as snapshots
from feedback.export import Format, export
from feedback.snapshot import DemonstrationRow, RankingRow, RatingRow, Snapshot, ThumbRow
from tests.training.conftest import EOS
from tests.training.examples import REWARD, pair_row, trainer_options
from tests.training.test_sources import USER, W1, W2, W3
from training import reward, sft, sources
from training.data import Demonstration, Text
from training.encoder import Encoder
from training.reward_rows import Ranking, Rating, parts


def thumb_row(number: int, **given: object) -> ThumbRow:
    fields: dict[str, object] = {
        "feedback_id": f"fb_t{number}",
        "completion_id": f"chatcmpl-{number}",
        "created_at": float(number),
        "cluster": f"thumbed-{number}",
        "fold": "optimize",
        "prompt": "[]",
        "prompt_token_ids": [4, 30, 5],
        "completion_token_ids": [31, 32, EOS],
        "completion_text": "",
        "version": 0,
        "up": False,
        "trains_policy": True,
        "weight": 0.5,
        "rater": "-",
    }
    return ThumbRow(**(fields | given))


def test_a_snapshots_ids_are_trained_on_as_they_are(tmp_path: Path, qwen_shapes: BaseShapes) -> None:
    """Trap 9: even ids that no text would give, such as an end-of-text token in the middle, are never re-encoded;
    and which rows train what is the snapshot's word."""
    odd = [7, EOS, 96, 0, EOS]
    rows = [
        pair_row(0, fold="optimize", chosen_token_ids=odd, weight=0.5),
        pair_row(1, fold="optimize", trains_policy=False),
        pair_row(2, fold="judge"),
        pair_row(3, fold="test"),
    ]
    thumbs = [thumb_row(0, completion_token_ids=odd), thumb_row(1, trains_policy=False), thumb_row(2, fold="judge")]
    written = snapshots.write(
        tmp_path,
        pairs=rows,
        thumbs=thumbs,
        prompts=[],
        created=0.0,
        last_event="1-0",
        dropped={},
        live_version=0,
        base_sha256=qwen_shapes.sha256,
        tokenizer_sha256=qwen_shapes.tokenizer_sha256,
    ).directory
    (pair,) = sources.policy_pairs(written, None)
    trained, tested = parts(sources.reward_votes(written, None), ["optimize"])
    first, second = sources.policy_thumbs(written, None)

    assert (pair.chosen.completion, pair.chosen.prompt, pair.weight) == (odd, rows[0].prompt_token_ids, 0.5)
    assert [vote.id for vote in trained] == ["fb_0000", "fb_0001", "fb_t0", "fb_t1"]
    assert [(vote.id, vote.fold, vote.version, vote.rater_kind) for vote in tested] == [("fb_0003", "test", 0, "human")]
    assert (first.text, first.up, first.weight) == (Text(prompt=[4, 30, 5], completion=odd), False, 0.5)
    assert trained[2].row == first
    assert second.text.completion == [31, 32, EOS]


PROMPT = json.dumps([USER])
SERVED = [4, W1, 5]
"""The prompt's ids, as the chat template makes them."""


def of_vote(name: str, number: int, **given: object) -> dict[str, object]:
    """What rows of all kinds share; prompts and answers are words of the tokenizer."""
    fields: dict[str, object] = {
        "feedback_id": f"fb_{name}{number:02}",
        "created_at": float(number),
        "fold": "optimize",
    }
    fields |= {
        "cluster": f"{name}-{number}",
        "prompt": PROMPT,
        "prompt_token_ids": SERVED,
        "weight": 0.5,
        "rater": "ab",
    }
    return fields | given


def ranking_row(number: int, **given: object) -> RankingRow:
    """Four answers, of which the first is the best and the last two are as good as each other."""
    words = [10 + (number + place) % 80 for place in range(4)]
    fields = {"comparison_id": f"cmp_{number}", "versions": [1, 3, 2, 0], "ranks": [1, 2, 3, 3]}
    fields |= {
        "completion_token_ids": [[word, EOS] for word in words],
        "completion_texts": [f"w{w - 6}" for w in words],
    }
    return RankingRow(**of_vote("r", number, **(fields | given)))  # type: ignore[arg-type]


def rating_row(number: int, **given: object) -> RatingRow:
    fields = {"completion_id": f"chatcmpl-{number}", "version": 2, "stars": 1 + number % 5}
    fields |= {"completion_token_ids": [W1 + number, EOS], "completion_text": f"w{1 + number}"}
    return RatingRow(**of_vote("s", number, **(fields | given)))  # type: ignore[arg-type]


def demonstration_row(number: int, **given: object) -> DemonstrationRow:
    fields = {"completion_id": f"chatcmpl-{number}", "version": 2, "text": f"w2 w{number}", "trains_policy": True}
    return DemonstrationRow(**of_vote("d", number, **(fields | given)))  # type: ignore[arg-type]


def freeze(directory: Path, shapes: BaseShapes, **tables: object) -> Snapshot:
    fields: dict[str, object] = {"pairs": [], "prompts": [], "created": 0.0, "last_event": "1-0", "dropped": {}}
    fields |= {"live_version": 0, "base_sha256": shapes.sha256, "tokenizer_sha256": shapes.tokenizer_sha256}
    return snapshots.write(directory, **(fields | tables))  # type: ignore[arg-type]


def test_a_reward_model_learns_from_a_snapshots_rankings_and_ratings(tmp_path: Path, qwen_shapes: BaseShapes) -> None:
    """A ranking is one vote of all its answers; its pairs, which are there for a policy, are not counted again."""
    ranked = pair_row(0, fold="optimize", ranked=True, weight=1 / 6)
    frozen = freeze(
        tmp_path,
        qwen_shapes,
        pairs=[ranked],
        rankings=[ranking_row(3)],
        ratings=[rating_row(1), rating_row(2, fold="test")],
    )
    votes = {vote.id: vote for vote in sources.reward_votes(frozen.directory, None)}
    texts = [Text(prompt=SERVED, completion=[word, EOS]) for word in (13, 14, 15, 16)]

    assert votes.keys() == {"fb_r03", "fb_s01", "fb_s02"}
    assert votes["fb_r03"].row == Ranking(texts=texts, ranks=[1, 2, 3, 3], weight=0.5)
    assert (votes["fb_r03"].version, votes["fb_r03"].rater_kind, votes["fb_r03"].fold) == (3, "human", "optimize")
    assert votes["fb_s01"].row == Rating(text=Text(prompt=SERVED, completion=[W2, EOS]), stars=2, weight=0.5)
    assert (votes["fb_s02"].fold, votes["fb_s02"].version) == ("test", 2)
    (pair,) = sources.policy_pairs(frozen.directory, None)
    assert pair == sources.stored(ranked)
    assert pair.weight == 1 / 6


def test_a_snapshots_corrections_are_demonstrations(tmp_path: Path, encoder: Encoder, qwen_shapes: BaseShapes) -> None:
    """Behind the ids that were served, whatever the prompt would be now; the edited text is encoded, and ends."""
    odd = [4, W1, 96, 5]
    rows = [demonstration_row(9, prompt_token_ids=odd, weight=0.25), demonstration_row(8, trains_policy=False)]
    frozen = freeze(tmp_path / "s", qwen_shapes, demonstrations=rows)

    assert sources.policy_demonstrations(frozen.directory, encoder) == [
        Demonstration(text=Text(prompt=odd, completion=[W2, 15, EOS]), weight=0.25)
    ]


def test_a_correction_that_cannot_be_encoded_is_named(
    tmp_path: Path, encoder: Encoder, qwen_shapes: BaseShapes
) -> None:
    frozen = freeze(tmp_path / "s", qwen_shapes, demonstrations=[demonstration_row(7, text="<eos>")])
    with pytest.raises(UsageError, match="The correction fb_d07 cannot be encoded: the completion is empty"):
        sources.policy_demonstrations(frozen.directory, encoder)


def test_programs_learn_from_a_snapshots_tables(tmp_path: Path, qwen_directory: Path, qwen_shapes: BaseShapes) -> None:
    """`reward` from rankings and ratings alone, `sft` from corrections alone."""
    frozen = freeze(
        tmp_path,
        qwen_shapes,
        rankings=[ranking_row(number) for number in range(40)],
        ratings=[rating_row(number) for number in range(40)],
        demonstrations=[demonstration_row(number) for number in range(40)],
    )
    reward.main(trainer_options(qwen_directory, frozen.directory, tmp_path / "reward", *REWARD))
    card = json.loads((tmp_path / "reward/reward.json").read_text())
    sft.main(trainer_options(qwen_directory, frozen.directory, tmp_path / "sft", "min_policy_rows=8", "batch_rows=20"))
    steps = [json.loads(line) for line in (tmp_path / "sft/metrics.jsonl").read_text().splitlines()]

    assert (card["rows"]["ranking"], card["rows"]["rating"]) == (40, 40)
    assert json.loads((tmp_path / "sft/config.json").read_text())["facts"]["demonstrations"] == 40
    assert steps[-1]["loss"] < steps[0]["loss"]


@pytest.mark.parametrize("form", ["trl-preference", "trl-kto", "trl-sft"])
def test_our_programs_read_what_we_export(
    tmp_path: Path, encoder: Encoder, qwen_shapes: BaseShapes, form: Format
) -> None:
    """The rows of an export are those of the snapshot, where text and served ids are of one tokenizer."""
    sampled = {"prompt": PROMPT, "prompt_token_ids": SERVED, "weight": 0.5}
    pair = {"chosen_token_ids": [W2, EOS], "chosen_text": "w2", "rejected_token_ids": [W3, EOS], "rejected_text": "w3"}
    thumb = {"completion_token_ids": [W3, W2, EOS], "completion_text": "w3 w2"}
    frozen = freeze(
        tmp_path / "s",
        qwen_shapes,
        pairs=[pair_row(0, fold="optimize", **sampled, **pair)],
        thumbs=[thumb_row(0, **sampled, **thumb), thumb_row(1, **sampled, **thumb, up=True)],
        demonstrations=[demonstration_row(1)],
    )
    out = tmp_path / "out.jsonl"
    export(frozen.directory, form, out)
    read: list[object]
    read, kept = {
        "trl-preference": lambda: (sources.policy_pairs(out, encoder), sources.policy_pairs(frozen.directory, None)),
        "trl-kto": lambda: (sources.policy_thumbs(out, encoder), sources.policy_thumbs(frozen.directory, None)),
        "trl-sft": lambda: (
            sources.policy_demonstrations(out, encoder),
            sources.policy_demonstrations(frozen.directory, encoder),
        ),
    }[form]()

    assert read == kept
    assert read
