"""On-policy DPO on a tiny model: fresh pairs in each epoch, of the policy as it is then, and more reward in the end."""

from pathlib import Path

import pytest
import torch

from training import dpo_fit, on_policy
from training.best_of_n import draw
from training.checkpoint import Checkpoint
from training.model import SharedBase
from training.recipe import DpoRecipe, LoraRecipe, Recipe, SamplingRecipe
from training.reward_model import RewardModel

PROMPTS = [[4, 30 + i, 5] for i in range(24)]
RECIPE = Recipe(
    precision="float32",
    lora=LoraRecipe(rank=4, alpha=8),
    dpo=DpoRecipe(beta=0.1, learning_rate=3e-2, batch_rows=8, epochs=8, kl_samples=0),
    sampling=SamplingRecipe(max_new_tokens=6),
)


def epochs(base: SharedBase) -> on_policy.Epochs:
    base.add_fresh("reward", RECIPE.lora, seed=3)
    base.add_fresh(dpo_fit.POLICY, RECIPE.lora, seed=0)
    reward = RewardModel(base, "last", seed=0)
    return on_policy.Epochs(base=base, prompts=PROMPTS, reward=reward, recipe=RECIPE, reference=None, n=4)


def test_it_earns_more_reward(qwen: SharedBase, tmp_path: Path) -> None:
    """After eight epochs the policy's answers score higher than the base's, by the reward model that ranked them, by
    half of what the base's own differ."""
    asked = epochs(qwen)
    before = draw(qwen, None, PROMPTS, asked.reward, RECIPE, n=8, seed=99).scores

    metrics = on_policy.fit(asked, mix=None, out=tmp_path, checkpoint=Checkpoint(tmp_path, identity="x", every_s=1e9))

    after = draw(qwen, dpo_fit.POLICY, PROMPTS, asked.reward, RECIPE, n=8, seed=99).scores
    assert len(metrics) == 24
    assert metrics[0].preference_loss == pytest.approx(0.6931, abs=1e-3)
    assert after.mean() > before.mean() + 0.5 * before.std()


def test_each_epoch_has_pairs_of_its_own(qwen: SharedBase) -> None:
    """The first step of an epoch draws new answers, the others take the same ones; an epoch is the same each time."""
    asked = epochs(qwen)
    first, again, second = (_losses(asked, rows) for rows in (range(8), range(8), range(24, 32)))

    assert first == again != second
    other = on_policy.Epochs(base=qwen, prompts=PROMPTS, reward=asked.reward, recipe=RECIPE, reference=None, n=4)
    assert _losses(other, range(24, 32)) == second


def _losses(asked: on_policy.Epochs, rows: range) -> list[float]:
    with torch.no_grad():
        return [compute().metrics["nll"].item() for compute in asked.shares(rows)]
