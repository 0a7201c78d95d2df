"""Rows, the shared order of rows, and our side of each comparison."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.conftest import write_model
from tests.training.examples import pairs as example_pairs
from training.data import Pair, optimizer_steps
from training.loop import Share
from training.model import SharedBase
from training.recipe import LoraRecipe

LORA = LoraRecipe(rank=4, alpha=8)
STEPS, BATCH, SEED = 20, 4, 0
ORDER = [row for step in optimizer_steps(STEPS * BATCH, batch=BATCH, epochs=1, seed=SEED) for row in step]
"""The shared index list: both sides take these rows, four at a time."""
CURVE = {"learning_rate": 1e-3, "warmup": 0.0, "final_rate": 1.0, "batch_rows": BATCH}
"""Our settings for a curve; `trl_curve` says the same to TRL."""
TRL_CURVE = {"learning_rate": 1e-3, "per_device_train_batch_size": BATCH, "max_grad_norm": 1.0, "optim": "adamw_torch"}


@pytest.fixture(scope="session", params=["qwen3", "llama"])
def model_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny random models of tests/training."""
    return write_model(tmp_path_factory.mktemp(request.param), request.param)


def rows() -> list[Pair]:
    """Eighty ragged pairs without ties, each of weight 1 (TRL knows neither)."""
    return [
        Pair(chosen=pair.chosen, rejected=pair.rejected, tie=False, weight=1.0)
        for pair in example_pairs(STEPS * BATCH, seed=5)
    ]


def in_order(items: Sequence[Pair]) -> list[Pair]:
    """As TRL is to take them, one after the other."""
    return [items[row] for row in ORDER]


def gradient_of(base: SharedBase, role: str, shares: Sequence[Callable[[], Share]]) -> dict[str, Tensor]:
    """Of the whole step, by the names that an adapter file has."""
    parameters = base.parameters(role)
    with base.acting(role):
        loss = sum(compute().loss for compute in shares)
        found = torch.autograd.grad(loss, list(parameters.values()))
    return {_filed(name, role): value for name, value in zip(parameters, found, strict=True)}


def _filed(name: str, role: str) -> str:
    return "base_model.model." + name.replace(f".{role}", "")


def assert_same_gradient(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> None:
    """Every tensor within 1e-5, and not all of them zero."""
    assert set(actual) <= set(expected)
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=0, msg=partial("{}: {}".format, name))
    assert max(value.abs().max().item() for value in actual.values()) > 1e-3
