"""LoRA on CPU as it should be: vLLM 0.32's own torch operators replaced inside the worker process.

vLLM loads this module there as its `worker_extension_cls`. The stock operators (vllm/lora/ops/torch_ops) index the
adapter table with -1 for requests that have no adapter, so those get the *last* slot's adapter (vLLM pull request
48421), and they copy the whole B matrix once for every token, which costs five times the base model. Ours multiply once
per distinct adapter in the batch, all rows each time, and keep of the product the rows that are its own: a few rows
more to multiply cost less than to gather and scatter them. GPUs use other kernels and never load this.

Tables are (slots, 1, out, in) or (slots, out, in); rows are tokens; index -1 means no adapter.
"""

from typing import Any

import torch
from vllm.lora.punica_wrapper import punica_cpu


def _parts(indices: torch.Tensor, tokens: int) -> list[tuple[int, torch.Tensor | None]]:
    """The distinct adapters of a batch and the rows of each: None for all, else a mask (tokens, 1).

    Where the LM head scores a whole prompt, vLLM gives more rows than indices; what lies beyond has no adapter.
    """
    rows = indices[:tokens]
    present = set(rows.tolist())
    if len(present) == 1:
        return [(slot, None) for slot in present if slot >= 0]
    rows = torch.nn.functional.pad(rows, (0, tokens - len(rows)), value=-1)
    return [(slot, (rows == slot).unsqueeze(1)) for slot in sorted(present) if slot >= 0]


def _matrix(table: torch.Tensor, slot: int, like: torch.Tensor) -> torch.Tensor:
    matrix = table[slot]
    return (matrix[0] if matrix.dim() == 3 else matrix).to(like.dtype)


def shrink(x: torch.Tensor, table: torch.Tensor, y: torch.Tensor, indices: torch.Tensor, scale: float = 1.0) -> None:
    """`y[t, :rank] = scale * A[slot(t)] @ x[t]`; rows without an adapter keep what they hold."""
    for slot, rows in _parts(indices, x.shape[0]):
        a = _matrix(table, slot, y)
        low, target = scale * torch.nn.functional.linear(x.to(y.dtype), a), y[:, : a.shape[0]]
        target.copy_(low if rows is None else torch.where(rows, low, target))


def expand_slice(
    x: torch.Tensor,
    table: torch.Tensor,
    y: torch.Tensor,
    indices: torch.Tensor,
    offset: int,
    size: int,
    add_inputs: bool = True,
) -> None:
    """`y[t, offset:offset+size] += B[slot(t)] @ x[t]` (or `=` unless `add_inputs`)."""
    for slot, rows in _parts(indices, x.shape[0]):
        delta = torch.nn.functional.linear(x.to(y.dtype), _matrix(table, slot, y)[:size])
        target = y[:, offset : offset + size]
        if add_inputs:
            target.add_(delta if rows is None else torch.where(rows, delta, 0.0))
        else:
            target.copy_(delta if rows is None else torch.where(rows, delta, target))


def expand(
    x: torch.Tensor, table: torch.Tensor, y: torch.Tensor, indices: torch.Tensor, add_inputs: bool = True
) -> None:
    """`expand_slice` over the whole output; adapter and model may pad it differently."""
    expand_slice(x, table, y, indices, 0, min(table.shape[-2], y.shape[1]), add_inputs)


# The prefill forms name each sequence's slot and length instead of each token's slot.


def shrink_sequences(
    x: torch.Tensor,
    table: torch.Tensor,
    y: torch.Tensor,
    _starts: torch.Tensor,
    lengths: torch.Tensor,
    slots: torch.Tensor,
    _batches: int,
    _longest: int,
    _tokens: int,
    scaling: float,
) -> None:
    shrink(x, table, y, torch.repeat_interleave(slots, lengths), scaling)


def expand_sequences(
    x: torch.Tensor,
    table: torch.Tensor,
    y: torch.Tensor,
    _starts: torch.Tensor,
    lengths: torch.Tensor,
    slots: torch.Tensor,
    _batches: int,
    _longest: int,
    _tokens: int,
    add_inputs: bool = False,
) -> None:
    expand(x, table, y, torch.repeat_interleave(slots, lengths), add_inputs)


def expand_slice_sequences(
    x: torch.Tensor,
    table: torch.Tensor,
    y: torch.Tensor,
    _starts: torch.Tensor,
    lengths: torch.Tensor,
    slots: torch.Tensor,
    _batches: int,
    _longest: int,
    _tokens: int,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = False,
) -> None:
    expand_slice(x, table, y, torch.repeat_interleave(slots, lengths), slice_offset, slice_size, add_inputs)


_OURS = {
    "bgmv_shrink": shrink,
    "bgmv_expand": expand,
    "bgmv_expand_slice": expand_slice,
    "sgmv_shrink": shrink_sequences,
    "sgmv_expand": expand_sequences,
    "sgmv_expand_slice": expand_slice_sequences,
}


_stock_head = punica_cpu.PunicaWrapperCPU.add_lora_logits


def head(
    wrapper: punica_cpu.PunicaWrapperCPU,
    y: torch.Tensor,
    x: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    scale: float,
    **options: Any,
) -> None:
    """The LM head's adapters, which hardly any policy has: vLLM would multiply zeros into a whole vocabulary, for each
    adapter of the batch."""
    if a.any():
        _stock_head(wrapper, y, x, a, b, scale, **options)


def install() -> None:
    """Puts our operators where vLLM's CPU wrapper looks them up."""
    punica_cpu.PunicaWrapperCPU.add_lora_logits = head  # type: ignore[method-assign, assignment]
    for name, operator in _OURS.items():
        if not hasattr(punica_cpu, name):
            raise RuntimeError(f"vLLM's punica_cpu has no {name}: serving/lora_cpu.py is written against vLLM 0.32.0")
        setattr(punica_cpu, name, operator)


class WorkerExtension:
    """vLLM mixes this into its CPU worker; loading the module there installs the operators."""

    def plumbline_lora_operators(self) -> list[str]:
        """Names of the operators in force, as `module.function`; asked over RPC before the engine is called ready."""
        return [f"{getattr(punica_cpu, name).__module__}.{getattr(punica_cpu, name).__name__}" for name in _OURS]


install()
