"""DPO on a tiny model: the identity at the start, the closed form, the invariances, and that it learns."""

import math
from pathlib import Path

import pytest
import torch

from tests.training.examples import pairs
from training import dpo_fit
from training.data import Pair, collate
from training.model import SharedBase, load_base
from training.optimizer import rate
from training.recipe import DpoRecipe, LoraRecipe, OptimizerRecipe, Recipe

LORA = LoraRecipe(rank=4, alpha=8)


def recipe(**changes: object) -> Recipe:
    dpo = DpoRecipe(beta=0.3, nll_coef=0.5, label_smoothing=0.1, learning_rate=3e-3, batch_rows=8, epochs=3)
    return Recipe(precision="float32", lora=LORA, dpo=dpo, **changes)


def with_roles(base: SharedBase) -> SharedBase:
    """Policy and reference compute the same function, and it is not the base's."""
    for role in (dpo_fit.POLICY, dpo_fit.REFERENCE):
        base.add_fresh(role, LORA, seed=0)
        generator = torch.Generator().manual_seed(1)
        for parameter in base.parameters(role).values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return base


def gradients(base: SharedBase, votes: list[Pair], settings: Recipe) -> tuple[torch.Tensor, list[float], int]:
    """All gradients of one step over these votes, the step's means, and its number of micro-batches."""
    reference = dpo_fit.reference_logps(base, dpo_fit.REFERENCE, votes, settings) - torch.linspace(
        -1, 1, 2 * len(votes)
    ).view(-1, 2)
    computes = dpo_fit.shares(base, votes, reference, settings, range(len(votes)))
    parameters = base.parameters(dpo_fit.POLICY).values()
    for parameter in parameters:
        parameter.grad = None
    with base.acting(dpo_fit.POLICY):
        shares = [compute() for compute in computes]
        for share in shares:
            share.loss.backward()
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    means = [sum(share.metrics[name].item() for share in shares) for name in shares[0].metrics]
    return flat, means, len(shares)


def test_the_first_loss_is_ln_2(base: SharedBase) -> None:
    """The reference is the parent and not the bare base: before the first update the preference loss is ln 2, the
    margin 0, although parent and base differ."""
    metrics = dpo_fit.fit(with_roles(base), pairs(32), recipe(), seed=0)

    assert metrics[0].preference_loss == pytest.approx(math.log(2), abs=1e-5)
    assert metrics[0].margin == pytest.approx(0.0, abs=1e-5)
    assert dpo_fit.starts_at_reference(metrics, recipe().dpo)


def test_the_step_equals_the_closed_form(base: SharedBase) -> None:
    """Loss of one step = Σ w·[0.9·(−log σ(βh)) + 0.1·(−log σ(−βh))] / Σ w + ½ · Σ w·nll / Σ w·tokens, from log-probs
    taken one completion at a time."""
    with_roles(base)
    votes = pairs(6)
    reference = torch.tensor([[-20.0 - i, -22.0 + i] for i in range(6)])
    with base.acting(dpo_fit.POLICY), torch.no_grad():
        actual = sum(compute().loss.item() for compute in dpo_fit.shares(base, votes, reference, recipe(), range(6)))
        alone = [[base.sequence_logps(collate([s])).item() for s in (p.chosen, p.rejected)] for p in votes]

    preference = nll = weight = tokens = 0.0
    for vote, (chosen, rejected), (ref_chosen, ref_rejected) in zip(votes, alone, reference.tolist(), strict=True):
        h = (chosen - ref_chosen) - (rejected - ref_rejected)
        right, wrong = (math.log1p(math.exp(sign * 0.3 * h)) for sign in (-1, 1))
        preference += vote.weight * (0.9 * right + 0.1 * wrong)
        nll -= vote.weight * chosen
        weight += vote.weight
        tokens += vote.weight * len(vote.chosen.completion)
    assert actual == pytest.approx(preference / weight + 0.5 * nll / tokens, rel=1e-4)


def test_micro_batches_change_no_gradient_and_no_metric(base: SharedBase) -> None:
    """Eight ragged, weighted pairs in one batch of 8 or in 8 of 1: the same gradients, the same logged means."""
    with_roles(base)
    whole, whole_means, one = gradients(base, pairs(8), recipe())
    split, split_means, eight = gradients(base, pairs(8), recipe(micro_batch_tokens=1))

    assert (one, eight) == (1, 8)
    torch.testing.assert_close(whole, split, rtol=1e-4, atol=1e-6)
    assert whole_means == pytest.approx(split_means, rel=1e-4)


def test_it_learns_the_preference(qwen: SharedBase) -> None:
    """After a few epochs chosen gained over rejected on nearly all pairs, and the frozen roles did not move."""
    with_roles(qwen)
    before = {role: _flat(qwen, role) for role in (dpo_fit.POLICY, dpo_fit.REFERENCE)}
    frozen = {name: p.clone() for name, p in qwen.model.named_parameters() if ".lora_" not in name}

    metrics = dpo_fit.fit(qwen, pairs(32), recipe(), seed=0)

    assert metrics[-1].accuracy > 0.95
    assert metrics[-1].preference_loss < 0.6
    assert not torch.equal(_flat(qwen, dpo_fit.POLICY), before[dpo_fit.POLICY])
    assert torch.equal(_flat(qwen, dpo_fit.REFERENCE), before[dpo_fit.REFERENCE])
    assert all(torch.equal(p, frozen[n]) for n, p in qwen.model.named_parameters() if n in frozen)


def _flat(base: SharedBase, role: str) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in base.parameters(role).values()])


def test_two_runs_write_the_same_bytes(qwen_directory: Path, tmp_path: Path) -> None:
    """Same votes, same seed, same threads: identical adapter files."""
    for name in ("first", "second"):
        torch.rand(3)  # what was drawn before must not matter
        base = with_roles(load_base(qwen_directory, base_sha256="0" * 64, attention="eager"))
        dpo_fit.fit(base, pairs(24), recipe(), seed=5)
        base.save(dpo_fit.POLICY, tmp_path / name)

    first, second = ((tmp_path / n / "adapter_model.safetensors").read_bytes() for n in ("first", "second"))
    assert first == second


def test_rate_by_hand() -> None:
    """Warm-up over a fifth of ten steps, then linear to zero."""
    schedule = OptimizerRecipe(warmup=0.2, final_rate=0.0)

    assert [rate(step, 10, schedule) for step in range(10)] == pytest.approx(
        [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    )
