"""KTO on a tiny model: its baseline against brute force, the invariances, and that it learns."""

import pytest
import torch

from tests.training.examples import pairs
from tests.training.test_dpo import with_roles
from training import kto_fit
from training.data import Text, Thumb, collate
from training.model import SharedBase
from training.recipe import KtoRecipe, LoraRecipe, Recipe

LORA = LoraRecipe(rank=4, alpha=8)


def recipe(**changes: object) -> Recipe:
    kto = KtoRecipe(beta=0.3, nll_coef=0.5, learning_rate=3e-3, batch_rows=8, epochs=4, kl_samples=0)
    return Recipe(precision="float32", lora=LORA, kto=kto, **changes)


def thumbs(count: int) -> list[Thumb]:
    """In turn a liked and a disliked completion of ragged length and weight 1, 2 or 3."""
    found = []
    for number, pair in enumerate(pairs(count)):
        text = pair.chosen if number % 2 == 0 else pair.rejected
        found.append(Thumb(text=text, up=number % 2 == 0, weight=pair.weight))
    return found


def moved_away(base: SharedBase) -> SharedBase:
    """Policy and reference differ."""
    with_roles(base)
    generator = torch.Generator().manual_seed(7)
    for parameter in base.parameters(kto_fit.POLICY).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return base


def log_ratio(base: SharedBase, text: Text) -> float:
    """log π(y|x) − log π_ref(y|x), alone in its batch."""
    with torch.no_grad():
        values = []
        for role in (kto_fit.POLICY, kto_fit.REFERENCE):
            with base.acting(role):
                values.append(base.sequence_logps(collate([text])).item())
    return values[0] - values[1]


def gradients(base: SharedBase, rows: list[Thumb], settings: Recipe) -> tuple[torch.Tensor, dict[str, float], int]:
    """All gradients of one step over these rows, the step's means, and its number of micro-batches."""
    logps = kto_fit.reference_logps(base, kto_fit.REFERENCE, [row.text for row in rows], settings)
    computes = kto_fit.shares(base, rows, logps, settings, kto_fit.REFERENCE, range(len(rows)))
    parameters = base.parameters(kto_fit.POLICY).values()
    for parameter in parameters:
        parameter.grad = None
    shares = [compute() for compute in computes]
    sum(share.loss for share in shares).backward()
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    return flat, {n: sum(s.metrics[n].item() for s in shares) for n in shares[0].metrics}, len(shares)


@pytest.mark.parametrize("tokens", [16384, 1])
def test_the_baseline_equals_brute_force(base: SharedBase, tokens: int) -> None:
    """z = max(0, Σ w·r′ / Σ w), r′ of each prompt with the completion of the row before, whatever the micro-batches."""
    moved_away(base)
    rows = thumbs(9)
    settings = recipe(micro_batch_tokens=tokens)

    actual = kto_fit.baseline(base, rows, settings, kto_fit.REFERENCE).item()

    ratios = [
        log_ratio(base, Text(prompt=row.text.prompt, completion=rows[i - 1].text.completion))
        for i, row in enumerate(rows)
    ]
    mean = sum(r.weight * ratio for r, ratio in zip(rows, ratios, strict=True)) / sum(row.weight for row in rows)
    assert actual == pytest.approx(max(0.0, mean), abs=1e-3)


def test_a_negative_baseline_is_cut_at_zero(base: SharedBase) -> None:
    """Of policy and reference, taken either way round, one has a negative mean: that z is 0."""
    moved_away(base)
    rows = thumbs(9)
    there = kto_fit.baseline(base, rows, recipe(), kto_fit.REFERENCE).item()
    with torch.no_grad():  # the two change places
        for name, parameter in base.parameters(kto_fit.POLICY).items():
            other = base.model.get_parameter(name.replace(f".{kto_fit.POLICY}.", f".{kto_fit.REFERENCE}."))
            kept = parameter.clone()
            parameter.copy_(other)
            other.copy_(kept)
    back = kto_fit.baseline(base, rows, recipe(), kto_fit.REFERENCE).item()

    assert min(there, back) == 0.0 < max(there, back)


def test_the_first_loss_is_half_the_weight(base: SharedBase) -> None:
    """At the reference r = z = 0: every row loses half its weight, and liked ones weigh what the others do together."""
    rows = thumbs(8)
    up, down = (sum(row.weight for row in rows if row.up == liked) for liked in (True, False))

    metrics = kto_fit.fit(with_roles(base), rows, recipe(), seed=0)

    assert kto_fit.balance(rows) == pytest.approx(down / up)
    assert metrics[0].baseline == pytest.approx(0.0, abs=1e-5)
    assert metrics[0].preference_loss == pytest.approx(0.5 * 2 * down / (up + down), abs=1e-5)


def test_micro_batches_change_no_gradient_and_no_metric(base: SharedBase) -> None:
    """Ten ragged, weighted rows at once or one by one: the same gradients, the same logged means; z too."""
    moved_away(base)
    whole, whole_means, one = gradients(base, thumbs(10), recipe())
    split, split_means, ten = gradients(base, thumbs(10), recipe(micro_batch_tokens=1))

    assert (one, ten) == (1, 10)
    torch.testing.assert_close(whole, split, rtol=1e-4, atol=1e-6)
    assert whole_means == pytest.approx(split_means, rel=1e-4)


@pytest.mark.parametrize("liked", [True, False])
def test_a_step_of_one_class_is_finite(base: SharedBase, liked: bool) -> None:
    """A step in which everybody liked everything, or nothing, has finite losses and gradients."""
    moved_away(base)
    rows = [Thumb(text=row.text, up=liked, weight=1.0) for row in thumbs(8)]

    flat, means, _ = gradients(base, rows, recipe())

    assert torch.isfinite(flat).all()
    assert all(abs(value) < 1e6 for value in means.values())
    assert flat.abs().max() > 0


def test_no_step_is_too_small_for_its_baseline() -> None:
    """19 rows in steps of 8: the last three join the second step; every row stands in one step of each epoch."""
    steps = kto_fit.steps_of(19, KtoRecipe(batch_rows=8, epochs=2), seed=0)

    assert [len(step) for step in steps] == [8, 11, 8, 11]
    assert sorted(steps[0] + steps[1]) == list(range(19)) == sorted(steps[2] + steps[3])


def test_it_learns_what_is_liked(qwen: SharedBase) -> None:
    """After a few epochs nearly all rows are on the right side of the baseline; the reference did not move."""
    with_roles(qwen)
    before = {name: parameter.clone() for name, parameter in qwen.parameters(kto_fit.REFERENCE).items()}

    metrics = kto_fit.fit(qwen, thumbs(48), recipe(), seed=0)

    assert metrics[-1].accuracy > 0.9
    assert metrics[-1].preference_loss < 0.8 * metrics[0].preference_loss
    assert all(torch.equal(parameter, before[name]) for name, parameter in qwen.parameters(kto_fit.REFERENCE).items())
