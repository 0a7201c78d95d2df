"""KTO against TRL's: the same thumbs, in the same steps, with the same mismatched completions for the KL baseline."""

from pathlib import Path

import torch

from tests.parity import trl_side
from tests.parity.conftest import CURVE, LORA, SEED, STEPS, TRL_CURVE, assert_same_gradient, gradient_of, rows
from tests.training.test_model import disturb
from training import kto_fit
from training.data import Thumb
from training.model import load_base
from training.recipe import KtoRecipe, Recipe

BATCH = 8
"""KTO's recipe allows no fewer."""


def thumbs() -> list[Thumb]:
    """Both sides of each vote on their own, two in five of them liked."""
    pairs = rows()
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    return [Thumb(text=text, up=number % 5 < 2, weight=1.0) for number, text in enumerate(texts)]


def test_losses_and_gradient_are_trls(model_directory: Path, tmp_path: Path) -> None:
    """Twenty AdamW steps: each loss within 1e-4. First step: every gradient within 1e-5. From an adapter that is not
    zero; in some steps the KL baseline acts, in others it is cut off at zero."""
    base = load_base(model_directory, base_sha256="0" * 64, attention="eager")
    base.add_fresh(kto_fit.POLICY, LORA, seed=SEED)
    disturb(base, kto_fit.POLICY)
    base.save(kto_fit.POLICY, tmp_path)
    settings = KtoRecipe(**{**CURVE, "batch_rows": BATCH}, beta=0.3, up_weight=1.5, kl_samples=0)
    recipe = Recipe(lora=LORA, kto=settings)
    steps = kto_fit.steps_of(len(thumbs()), settings, seed=SEED)
    expected = trl_side.kto(
        model_directory,
        tmp_path,
        [thumbs()[row] for step in steps for row in step],
        LORA,
        beta=0.3,
        desirable_weight=1.5,
        batch=BATCH,
        **TRL_CURVE,
    )

    reference = kto_fit.reference_logps(base, None, [thumb.text for thumb in thumbs()], recipe)
    gradient = gradient_of(base, kto_fit.POLICY, kto_fit.shares(base, thumbs(), reference, recipe, None, steps[0]))
    metrics = kto_fit.fit(base, thumbs(), recipe, seed=SEED, reference=None)

    assert len(metrics) == STEPS
    assert_same_gradient(expected.gradient, gradient)
    torch.testing.assert_close([step.loss for step in metrics], expected.losses, atol=1e-4, rtol=0)
    assert max(expected.losses) - min(expected.losses) > 0.01
    assert {step.baseline > 0 for step in metrics} == {False, True}
