"""A LoRA layer on a frozen linear layer, as one autograd node.

PEFT's own forward pass makes a dozen autograd nodes per layer and writes two intermediate results as large as the
output. Here y = xWᵀ + b + s·(xAᵀ)Bᵀ is two
products and one product added in place; the backward pass likewise, and nothing is computed for W.

Everything else (names, formats, switching adapters, saving) stays PEFT's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn


def lean(config: LoraConfig) -> LoraConfig:
    """Makes PEFT build our layer wherever it would wrap an `nn.Linear` (its dispatch for custom modules)."""
    config._register_custom_module({nn.Linear: LoraLinear})
    return config


class LoraLinear(PeftLinear):
    """PEFT's layer with another forward pass, exact to rounding."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters:
            return self.base_layer(x)
        (role,) = self.active_adapters
        base, first, second = self.base_layer, self.lora_A[role].weight, self.lora_B[role].weight
        device = x.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x, weight, first, second = (tensor.to(dtype) for tensor in (x, base.weight, first, second))
            bias = base.bias.to(dtype) if base.bias is not None else None
        elif x.dtype == base.weight.dtype == first.dtype:
            weight, bias = base.weight, base.bias
        else:
            return super().forward(x, *args, **kwargs)
        return _LoraProduct.apply(x, weight, bias, first, second, self.scaling[role])


class _LoraProduct(torch.autograd.Function):
    """x (…, D), W (E, D), A (r, D), B (E, r) → (…, E)."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, first: Tensor, second: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inner = rows @ first.T
        output = F.linear(rows, weight, bias).addmm_(inner, second.T, alpha=scale)
        context.save_for_backward(rows, weight, first, second, inner)
        context.scale = scale
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        rows, weight, first, second, inner = context.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        slope = (flat @ second).mul_(context.scale)
        to_x = None
        if context.needs_input_grad[0]:
            to_x = (flat @ weight).addmm_(slope, first).view(*gradient.shape[:-1], -1)
        to_second = (inner.T @ flat).mul_(context.scale).T  # twice as fast on a CPU as flat.T @ inner
        return to_x, None, None, slope.T @ rows, to_second, None
