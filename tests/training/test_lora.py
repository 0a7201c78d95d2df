"""Our LoRA layer against PEFT's own."""

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear
from torch import Tensor, nn

from core.adapters import WEIGHTS
from tests.training.test_model import LORA, disturb
from training.lora import LoraLinear, lean
from training.model import SharedBase


def both(*, bias: bool) -> tuple[Linear, LoraLinear]:
    """PEFT's layer and ours with the same numbers, B not zero."""
    layers = []
    for config in (LoraConfig(r=3, lora_alpha=12, target_modules=["0"]) for _ in range(2)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5, bias=bias)).requires_grad_(False)
        layer = get_peft_model(model, lean(config) if layers else config).base_model.model[0]
        nn.init.normal_(layer.lora_B["default"].weight)
        layers.append(layer)
    theirs, ours = layers
    assert type(theirs) is Linear
    assert type(ours) is LoraLinear
    return theirs, ours


def results(layer: Linear, x: Tensor) -> list[Tensor]:
    """Output, and gradients of input, A and B."""
    x = x.clone().requires_grad_()
    output = layer(x)
    leaves = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
    return [output.detach(), *torch.autograd.grad((output.float() * weights).sum(), leaves)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6)])
def test_values_and_gradients_are_pefts(shape: tuple[int, ...], bias: bool) -> None:
    """float32: the same numbers to rounding, for inputs of any rank."""
    theirs, ours = both(bias=bias)
    x = torch.randn(shape)

    for expected, actual in zip(results(theirs, x), results(ours, x), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_mixed_precision_is_pefts() -> None:
    """Under bfloat16 autocast: bfloat16 out, float32 gradients of A and B, equal within a bfloat16 digit or two."""
    theirs, ours = both(bias=True)
    x = torch.randn(7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = list(zip(results(theirs, x), results(ours, x), strict=True))

    for expected, actual in pairs:
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual.float(), expected.float(), atol=0.1, rtol=0.05)


def test_a_base_in_another_precision_is_left_to_peft() -> None:
    """bfloat16 weights with a float32 adapter and no autocast: bit by bit what PEFT computes."""
    theirs, ours = both(bias=False)
    for layer in (theirs, ours):
        layer.base_layer.to(torch.bfloat16)
    x = torch.randn(4, 6).bfloat16()

    assert torch.equal(ours(x), theirs(x))


def test_nothing_is_computed_for_an_input_that_needs_no_gradient() -> None:
    """The first layer's input is the frozen embedding: its gradient is skipped, A's and B's are not."""
    _, ours = both(bias=False)
    ours(torch.randn(4, 6)).sum().backward()

    assert ours.lora_A["default"].weight.grad.abs().max() > 0
    assert ours.base_layer.weight.grad is None


def test_every_adapted_layer_is_ours(base: SharedBase, tmp_path: Path) -> None:
    """Also of roles that are loaded or added later."""
    base.add_fresh("policy", LORA, seed=0)
    disturb(base, "policy")
    base.save("policy", tmp_path)
    assert (tmp_path / WEIGHTS).exists()
    base.load("second", tmp_path)

    layers = [module for module in base.model.modules() if isinstance(module, Linear)]

    assert len(layers) == 2 * 7
    assert {type(layer) for layer in layers} == {LoraLinear}


def test_a_copy_of_the_configuration_stays_plain() -> None:
    """What PEFT writes to disk names no class of ours."""
    config = lean(LoraConfig(r=2, target_modules=["0"]))

    assert "LoraLinear" not in str(copy.deepcopy(config).to_dict())
