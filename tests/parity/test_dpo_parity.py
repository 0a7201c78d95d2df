"""DPO against TRL's: the same model, rows, order and start give the same losses and gradients."""

from pathlib import Path

import pytest
import torch

from tests.parity import trl_side
from tests.parity.conftest import CURVE, LORA, ORDER, SEED, TRL_CURVE, assert_same_gradient, gradient_of, in_order, rows
from tests.training.test_model import disturb
from training import dpo_fit
from training.model import load_base
from training.recipe import DpoRecipe, Recipe

CASES = {
    "sigmoid": ({}, {"loss_type": ["sigmoid"]}),
    "ipo": ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
    "norm": ({"loss": "norm"}, {"loss_type": ["sigmoid_norm"]}),
    "robust": ({"loss": "robust", "label_smoothing": 0.1}, {"loss_type": ["robust"], "label_smoothing": 0.1}),
    "hinge": ({"loss": "hinge"}, {"loss_type": ["hinge"]}),
    "sigmoid + sft": ({"nll_coef": 0.5}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}),
}
"""Our settings and TRL's. Conservative DPO is not among them: TRL 1.16 has label smoothing in `robust` only."""


RUNS = [*((case, "qwen3") for case in CASES), ("sigmoid", "llama")]
"""A family of models matters to the forward pass alone, so one case is enough for the other one."""


@pytest.mark.parametrize(("case", "model_directory"), RUNS, indirect=["model_directory"], scope="session")
def test_losses_and_gradient_are_trls(case: str, model_directory: Path, tmp_path: Path) -> None:
    """Twenty AdamW steps: each loss within 1e-4. First step: every gradient within 1e-5. From an adapter that is not
    zero, so policy and reference differ from the start."""
    ours, theirs = CASES[case]
    base = load_base(model_directory, base_sha256="0" * 64, attention="eager")
    base.add_fresh(dpo_fit.POLICY, LORA, seed=SEED)
    disturb(base, dpo_fit.POLICY)
    base.save(dpo_fit.POLICY, tmp_path)
    expected = trl_side.dpo(
        model_directory,
        tmp_path,
        in_order(rows()),
        LORA,
        beta=0.3,
        precompute_ref_log_probs=True,
        **TRL_CURVE,
        **theirs,
    )

    recipe = Recipe(lora=LORA, dpo=DpoRecipe(beta=0.3, **CURVE, **ours))
    reference = dpo_fit.reference_logps(base, None, rows(), recipe)
    shares = dpo_fit.shares(base, rows(), reference, recipe, ORDER[: recipe.dpo.batch_rows])
    gradient = gradient_of(base, dpo_fit.POLICY, shares)
    metrics = dpo_fit.fit(base, rows(), recipe, seed=SEED, reference=None)

    assert_same_gradient(expected.gradient, gradient)
    torch.testing.assert_close([step.loss for step in metrics], expected.losses, atol=1e-4, rtol=0)
    assert max(expected.losses) - min(expected.losses) > 0.01
