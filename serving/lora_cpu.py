"""LoRA on CPU as it should be: vLLM 0.32's own torch operators replaced inside the worker process.

vLLM loads this module there as its `worker_extension_cls`. The stock operators (vllm/lora/ops/torch_ops) index the
adapter table with -1 for requests that have no adapter, so those get the *last* slot's adapter (vLLM pull request
48421), and they copy the whole B matrix once for every token, which costs five times the base model. Ours multiply once
per distinct adapter in the batch. GPUs use other kernels and never load this.

Tables are (slots, 1, out, in) or (slots, out, in); rows are tokens; index -1 means no adapter.
"""

from collections.abc import Iterator

import torch
from vllm.lora.punica_wrapper import punica_cpu

_Rows = torch.Tensor | slice


def _groups(indices: torch.Tensor, tokens: int) -> Iterator[tuple[int, _Rows]]:
    """The distinct adapters of a batch and the rows of each; a batch with one adapter is not gathered."""
    indices = indices[:tokens]
    if tokens == 0:
        return
    low, high = int(indices.min()), int(indices.max())
    if low == high:
        if low >= 0:
            yield low, slice(0, tokens)
        return
    for slot in torch.unique(indices).tolist():
        if slot >= 0:
            yield slot, (indices == slot).nonzero(as_tuple=True)[0]


def _matrix(table: torch.Tensor, slot: int, like: torch.Tensor) -> torch.Tensor:
    matrix = table[slot]
    return (matrix[0] if matrix.dim() == 3 else matrix).to(like.dtype)


def shrink(x: torch.Tensor, table: torch.Tensor, y: torch.Tensor, indices: torch.Tensor, scale: float = 1.0) -> None:
    """`y[t, :rank] = scale * A[slot(t)] @ x[t]`; rows without an adapter keep what they hold."""
    for slot, rows in _groups(indices, x.shape[0]):
        a = _matrix(table, slot, y)
        y[rows, : a.shape[0]] = scale * torch.nn.functional.linear(x[rows].to(y.dtype), a)


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
    for slot, rows in _groups(indices, x.shape[0]):
        delta = torch.nn.functional.linear(x[rows].to(y.dtype), _matrix(table, slot, y)[:size])
        if add_inputs:
            y[rows, offset : offset + size] += delta
        else:
            y[rows, offset : offset + size] = delta


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


def install() -> None:
    """Puts our operators where vLLM's CPU wrapper looks them up."""
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
