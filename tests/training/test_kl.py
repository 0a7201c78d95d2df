"""The KL of a role to another, and a training that stops where it is too large."""

import pytest
import torch

from tests.training.examples import pairs
from tests.training.test_dpo import with_roles
from training import dpo_fit
from training.data import collate
from training.kl import kl, measured, until
from training.model import SharedBase
from training.recipe import DpoRecipe, LoraRecipe, Recipe, SamplingRecipe

LORA = LoraRecipe(rank=4, alpha=8)


def recipe(**dpo: object) -> Recipe:
    settings = DpoRecipe(learning_rate=3e-2, batch_rows=4, epochs=4, **dpo)
    return Recipe(precision="float32", lora=LORA, dpo=settings, sampling=SamplingRecipe(max_new_tokens=6))


def test_kl_equals_brute_force(base: SharedBase) -> None:
    """Σ_t Σ_v p(v)·(log p(v) − log q(v)) over completion positions of the whole logits, averaged over completions."""
    with_roles(base)
    texts = [pair.chosen for pair in pairs(5)]

    actual = kl(base, dpo_fit.POLICY, None, texts, tokens=20)

    totals = []
    for text in texts:
        batch = collate([text])
        logs = []
        for role in (dpo_fit.POLICY, None):
            with base.acting(role), torch.no_grad():
                logits = base.model(input_ids=batch.token_ids).logits[0, len(text.prompt) - 1 : -1]
            logs.append(logits.double().log_softmax(-1))
        totals.append((logs[0].exp() * (logs[0] - logs[1])).sum().item())
    assert actual.per_completion == pytest.approx(sum(totals) / 5, rel=1e-3)
    assert actual.per_token == pytest.approx(sum(totals) / sum(len(text.completion) for text in texts), rel=1e-3)
    assert actual.error > 0


def test_kl_to_oneself_is_zero(base: SharedBase) -> None:
    """Policy and reference compute the same function."""
    with_roles(base)
    texts = [pair.chosen for pair in pairs(5)]

    found = kl(base, dpo_fit.POLICY, dpo_fit.REFERENCE, texts, tokens=64)

    assert found.per_completion == pytest.approx(0.0, abs=1e-4)


def test_a_training_measures_it_ten_times(qwen: SharedBase) -> None:
    """Of forty steps every fourth has a KL; it grows from near nothing; measuring changes no weight."""
    metrics = dpo_fit.fit(with_roles(qwen), pairs(40), recipe(kl_samples=8), seed=0)
    found = [step.kl for step in metrics]

    assert [step.step for step in metrics if step.kl is not None] == [3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
    assert found[3] < found[39]
    silent = dpo_fit.fit(_again(qwen), pairs(40), recipe(kl_samples=0), seed=0)
    assert [step.loss for step in silent] == [step.loss for step in metrics]


def test_a_training_stops_where_the_kl_is_too_large(qwen: SharedBase) -> None:
    """The last step is the first one that was further away than allowed."""
    whole = dpo_fit.fit(with_roles(qwen), pairs(40), recipe(kl_samples=8), seed=0)
    largest = whole[7].kl
    assert largest is not None

    cut = dpo_fit.fit(_again(qwen), pairs(40), recipe(kl_samples=8, kl_stop=0.9 * largest), seed=0)

    assert len(cut) < len(whole)
    assert cut[-1].kl is not None and cut[-1].kl > 0.9 * largest
    assert all(step.kl is None or step.kl <= 0.9 * largest for step in cut[:-1])
    assert cut == whole[: len(cut)]


def test_prompts_that_leave_no_room_are_not_asked(qwen: SharedBase) -> None:
    """A prompt that fills the window cannot be answered: no KL is measured, and nothing fails."""
    settings = recipe(kl_samples=8)
    full = [list(range(30, 90)) * 4 + [30] * 14]
    measure = measured(with_roles(qwen), dpo_fit.POLICY, None, full, settings, settings.dpo, steps=10)

    assert measure(9) == {}


def test_until_keeps_the_step_that_stopped() -> None:
    """Steps without a KL never stop anything."""
    steps = [_step(0, None), _step(1, 0.5), _step(2, None), _step(3, 2.0), _step(4, 0.1)]

    assert [step.step for step in until(steps, 1.0)] == [0, 1, 2, 3]
    assert len(until(steps, None)) == 5


def _step(number: int, found: float | None) -> dpo_fit.DpoStep:
    zeros = dict.fromkeys(("loss", "gradient_norm", "rate", "preference_loss", "nll", "accuracy", "margin"), 0.0)
    return dpo_fit.DpoStep(step=number, tokens=1, mix_nll=0.0, kl=found, **zeros)


def _again(base: SharedBase) -> SharedBase:
    """Policy as it was at the beginning."""
    generator = torch.Generator().manual_seed(1)
    for parameter in base.parameters(dpo_fit.POLICY).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return base
