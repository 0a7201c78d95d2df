"""Which of several processes this one is, and sums over all of them.

`torchrun --nproc-per-node N -m training.dpo …` starts the same program N times. Every process reads all rows and takes
every N-th micro-batch of a step; since each share of the loss is already divided by the weight of the *whole* step,
the gradient of the step is the plain sum over processes. That is data parallelism (DDP) with one reduction a step, of
adapter gradients only: a few megabytes. The frozen base is whole on every device, or with `recipe.shard` in parts on
all of them (`sharded`), which then make the same number of forward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

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

    def spare(self, items: Sequence[T]) -> list[T]:
        """One item more for a process whose share is smaller, to be computed and thrown away: it would only wait."""
        return list(items[: -(-len(items) // self.count) - len(self.mine(items))])

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes, in one message."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.reshape(tensor.shape))

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, in the order of their ranks."""
        if self.count == 1:
            return list(items)
        parts: list[Sequence[T]] = [[] for _ in range(self.count)]
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def agree(self, value: T) -> T:
        """The first process's value."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


@cache
def devices() -> Devices:
    """Of this process; with torchrun it joins the others (gloo on CPU, nccl on GPU)."""
    state = PartialState(cpu=not torch.cuda.is_available())
    return Devices(rank=state.process_index, count=state.num_processes, device=state.device)


def sharded(model: PreTrainedModel) -> None:
    """Splits the weights of the decoder's layers over all devices (FSDP2): each is gathered where it is used, forward
    and backward. Embeddings and LM head stay whole: they are read outside of the model, too."""
    if devices().count == 1:
        return
    mesh = init_device_mesh(devices().device.type, (devices().count,))
    decoder = model.base_model
    whole = set(decoder.parameters())
    for layer in decoder.layers:
        whole -= set(layer.parameters())
        fully_shard(layer, mesh=mesh)
    fully_shard(decoder, mesh=mesh, ignored_params=whole)
