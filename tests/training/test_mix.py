"""Demonstrations beside a preference: the gradient is the sum of both, and their figures are kept apart."""

import pytest
import torch

from tests.training.examples import pairs
from tests.training.test_dpo import LORA, with_roles
from tests.training.test_sft import demonstrations
from training import dpo_fit, sft_fit
from training.mix import Mix
from training.model import SharedBase
from training.recipe import DpoRecipe, MixRecipe, Recipe

RECIPE = Recipe(
    precision="float32",
    lora=LORA,
    dpo=DpoRecipe(beta=0.3, learning_rate=3e-3, batch_rows=8, epochs=1, kl_samples=0),
    mix=MixRecipe(coef=0.5, batch_rows=4),
)


def gradient(base: SharedBase, computes: list) -> torch.Tensor:
    parameters = list(base.parameters(dpo_fit.POLICY).values())
    loss = sum(compute().loss for compute in computes)
    return torch.cat([value.flatten() for value in torch.autograd.grad(loss, parameters)])


def test_the_gradient_is_the_sum(base: SharedBase) -> None:
    """With all four demonstrations in the step: DPO's gradient and half the mean token NLL's."""
    with_roles(base)
    rows, votes = demonstrations(4), pairs(8)
    reference = dpo_fit.reference_logps(base, None, votes, RECIPE)

    def shares(step: range) -> list:
        return dpo_fit.shares(base, votes, reference, RECIPE, step)

    mixed = Mix(base=base, demonstrations=rows, recipe=RECIPE).beside(shares)(range(8))
    expected = gradient(base, shares(range(8))) + 0.5 * gradient(base, sft_fit.shares(base, rows, RECIPE, range(4)))

    torch.testing.assert_close(gradient(base, mixed), expected, rtol=1e-4, atol=1e-6)


def test_metrics_are_kept_apart(qwen: SharedBase) -> None:
    """`loss` is what is minimised, `preference_loss` is as without the mix at the first step, `mix_nll` is theirs."""
    votes, rows = pairs(16), demonstrations(20)
    mix = Mix(base=qwen, demonstrations=rows, recipe=RECIPE)
    mixed = dpo_fit.fit(with_roles(qwen), votes, RECIPE, seed=0, mix=mix)

    assert all(step.mix_nll > 0 for step in mixed)
    assert [step.loss for step in mixed] == pytest.approx([s.preference_loss + 0.5 * s.mix_nll for s in mixed])
    assert mixed[0].preference_loss == pytest.approx(0.6931, abs=1e-3)


def test_which_demonstrations_is_a_function_of_the_step(qwen: SharedBase) -> None:
    """The same step draws the same ones, so a training that goes on needs no memory; other steps draw others."""
    mix = Mix(base=with_roles(qwen), demonstrations=demonstrations(40), recipe=RECIPE)
    first, again, other = ([c().loss.item() for c in mix.beside(lambda _: [])(rows)] for rows in ([1, 2], [1, 2], [3]))

    assert first == again != other
