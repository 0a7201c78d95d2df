"""The reward model against TRL's, with the usual head on the last token."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.parity import trl_side
from tests.parity.conftest import CURVE, LORA, ORDER, SEED, TRL_CURVE, assert_same_gradient, gradient_of, in_order, rows
from training import reward_fit
from training.data import Pair
from training.model import load_base
from training.recipe import Recipe, RewardRecipe
from training.reward_model import RewardModel


def with_margins() -> list[Pair]:
    return [replace(pair, margin=0.25 * (number % 4 + 1)) for number, pair in enumerate(rows())]


CASES = {"plain": (rows, 0.0), "centering": (rows, 0.05), "margins": (with_margins, 0.0)}
"""The pairs, and the weight of the centering term."""


RUNS = [*((case, "qwen3") for case in CASES), ("plain", "llama")]
"""A family of models matters to the forward pass alone, so one case is enough for the other one."""


@pytest.mark.parametrize(("case", "model_directory"), RUNS, indirect=["model_directory"], scope="session")
def test_losses_and_gradient_are_trls(case: str, model_directory: Path, tmp_path: Path) -> None:
    """Twenty AdamW steps on adapter and head: each loss within 1e-4. First step: every gradient within 1e-5."""
    make, centering = CASES[case]
    pairs = make()
    first = load_base(model_directory, base_sha256="0" * 64, attention="eager")
    first.add_fresh("reward", LORA, seed=SEED)
    RewardModel(first, "last", seed=SEED).save(tmp_path)
    settings = {"center_rewards_coefficient": centering or None, **TRL_CURVE}
    expected = trl_side.reward(model_directory, tmp_path, in_order(pairs), LORA, **settings)

    recipe = Recipe(lora=LORA, reward=RewardRecipe(**CURVE, head_learning_rate=1e-3, centering=centering))
    shares = reward_fit.shares(
        RewardModel(first, "last", seed=SEED).members[0], pairs, None, recipe, ORDER[: recipe.reward.batch_rows]
    )
    gradient = gradient_of(first, "reward", shares)
    base = load_base(model_directory, base_sha256="0" * 64, attention="eager")
    _, metrics = reward_fit.fit(base, pairs, recipe, seed=SEED)

    assert_same_gradient(expected.gradient, gradient)
    torch.testing.assert_close([step.loss for step in metrics], expected.losses, atol=1e-4, rtol=0)
    assert max(expected.losses) - min(expected.losses) > 0.01
