"""Rows for tests: token ids out of a generator, and a preference that a reward model can learn."""

import random
from pathlib import Path

from core.adapters import BaseShapes
from core.records import Fold
from feedback import snapshot as snapshots
from feedback.snapshot import PairRow, PromptRow, Snapshot, fold_of
from training.data import Pair, Text

EOS = 3
LIKED, DISLIKED = 10, 20
"""First tokens of chosen and of rejected completions."""


SETTINGS = ["lora.rank=2", "precision=float32", "threads=1", "attention=eager", "sampling.max_new_tokens=6"]
REWARD = ["min_reward_pairs=10", "reference_samples=32", "batch_rows=64"]
"""Settings for trainers of a second."""


def trainer_options(base: Path, data: Path, out: Path, *settings: str) -> list[str]:
    """A trainer's arguments, with these settings besides `SETTINGS`."""
    found = [part for setting in [*SETTINGS, *settings] for part in ("--set", setting)]
    return ["--base", str(base), "--data", str(data), "--out", str(out), *found]


def ids(rng: random.Random, low: int, high: int) -> list[int]:
    return [rng.randrange(30, 97) for _ in range(rng.randint(low, high))]


def pairs(count: int, *, seed: int = 0, ragged: bool = True) -> list[Pair]:
    """Pairs of unequal lengths and weights; every fifth is a tie."""
    rng = random.Random(seed)
    longest = 12 if ragged else 5
    shortest = 1 if ragged else 5
    found = []
    for number in range(count):
        prompt = [4, *ids(rng, shortest, longest), 5]
        chosen, rejected = ([first, *ids(rng, shortest, longest), EOS] for first in (LIKED, DISLIKED))
        found.append(
            Pair(
                chosen=Text(prompt=prompt, completion=chosen),
                rejected=Text(prompt=prompt, completion=rejected),
                tie=number % 5 == 4,
                weight=1.0 + number % 3,
            )
        )
    return found


def pair_row(number: int, *, fold: Fold | None = None, seed: int = 0, **changes: object) -> PairRow:
    """A vote for the completion that begins with LIKED."""
    rng = random.Random(f"{seed}/{number}")
    cluster = f"cluster-{number}"
    fold = fold or fold_of(b"salt", cluster)
    fields: dict[str, object] = {
        "feedback_id": f"fb_{number:04d}",
        "comparison_id": f"cmp_{number:04d}",
        "created_at": float(number),
        "cluster": cluster,
        "fold": fold,
        "prompt": "[]",
        "prompt_token_ids": [4, *ids(rng, 1, 4), 5],
        "chosen_token_ids": [LIKED, *ids(rng, 1, 8), EOS],
        "rejected_token_ids": [DISLIKED, *ids(rng, 1, 8), EOS],
        "chosen_text": "",
        "rejected_text": "",
        "chosen_version": 0,
        "rejected_version": 0,
        "tie": False,
        "trains_policy": fold == "optimize",
        "weight": 1.0,
        "rater": "-",
    }
    return PairRow(**(fields | changes))


def prompt_row(row: PairRow) -> PromptRow:
    return PromptRow(cluster=row.cluster, fold=row.fold, prompt=row.prompt, prompt_token_ids=row.prompt_token_ids)


def cut(parent: Path, rows: list[PairRow], shapes: BaseShapes) -> Snapshot:
    """A snapshot of these votes and their prompts, of a base of these shapes."""
    return snapshots.write(
        parent,
        pairs=rows,
        prompts=[prompt_row(row) for row in rows],
        created=0.0,
        last_event="1-0",
        dropped={},
        live_version=0,
        base_sha256=shapes.sha256,
        tokenizer_sha256=shapes.tokenizer_sha256,
    )
