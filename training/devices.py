"""Which of several processes this one is, and sums over all of them.

`torchrun --nproc-per-node N -m training.dpo …` starts the same program N times. Every process reads all rows and takes
every N-th micro-batch of a step; since each share of the loss is already divided by the weight of the *whole* step,
the gradient of the step is the plain sum over processes. That is data parallelism (DDP) with one reduction a step, of
adapter gradients only: a few megabytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Devices:
    """`Devices(rank=0, count=1, device=torch.device("cpu"))` is a program that nobody launched in parts."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """This process writes the files."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> list[T]:
        """This process's share of a step's micro-batches."""
        return list(items[self.rank :: self.count])

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes, in one message."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.reshape(tensor.shape))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


@cache
def devices() -> Devices:
    """Of this process; with torchrun it joins the others (gloo on CPU, nccl on GPU)."""
    state = PartialState(cpu=not torch.cuda.is_available())
    return Devices(rank=state.process_index, count=state.num_processes, device=state.device)
