"""Peak memory of PPO with its four roles on one frozen base, beside four copies of the model.

    python -m benchmarks.memory --json results.json

Both layouts run the same code on the same rollouts: one iteration of sampling, scoring and updating. Each is a process
of its own, and both must come to the same loss and reward. `copies` loads the base once for each of policy, reference,
reward model and critic; with full fine-tuning each would also have its own gradients and optimizer, which is left out
here: both layouts train the same LoRA adapter and the same small critic. Everything is float32 on a CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel

from benchmarks.meter import Memory, prepare

if TYPE_CHECKING:
    from training.model import SharedBase
    from training.ppo_fit import Iterations

Layout = Literal["shared", "copies"]
PROMPTS, PROMPT_TOKENS, NEW_TOKENS, BATCH_ROWS, MICRO_BATCH_TOKENS = 16, 32, 32, 8, 256
SEED, TOLERANCE = 0, 1e-4
MB = 1e6


class Measured(BaseModel):
    """What a process prints as its last line."""

    layout: Layout
    weights_mb: float
    """Of all copies of the base."""
    adapters_mb: float
    """Of all roles, without gradients and optimizer state."""
    peak_mb: float
    """Peak resident memory beyond the process with its libraries but without any model."""
    loss: float
    """Of the last optimizer step."""
    reward: float
    versions: dict[str, str]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures both layouts; prints and writes them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--model", default="100m", help="a shape of benchmarks/models.py (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layout", choices=get_args(Layout), help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    prepare(options.threads)
    if options.layout is not None:
        print(measure(options.layout, options.base, threads=options.threads).model_dump_json())
        return
    document = compare(options.model, threads=options.threads)
    text = json.dumps(document, indent=2) + "\n"
    print(text, end="")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text, encoding="utf-8")


def compare(model: str, *, threads: int) -> dict[str, Any]:
    """Both layouts, each in its own process.

    Raises:
        SystemExit: they did not compute the same thing, so that their memory cannot be compared.
    """
    from benchmarks import models

    with tempfile.TemporaryDirectory() as scratch:
        base = models.write(Path(scratch) / "base", model)
        rows = [_in_a_process(layout, base, threads) for layout in get_args(Layout)]
    shared, copies = rows
    if max(abs(shared.loss - copies.loss), abs(shared.reward - copies.reward)) > TOLERANCE:
        raise SystemExit(f"the layouts disagree: {shared} and {copies}")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": "cpu",
        "model": model,
        "threads": threads,
        "rollouts": PROMPTS,
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": NEW_TOKENS,
        "micro_batch_tokens": MICRO_BATCH_TOKENS,
        "memory_ratio": round(shared.peak_mb / copies.peak_mb, 3),
        "rows": [row.model_dump() for row in rows],
    }


def _in_a_process(layout: Layout, base: Path, threads: int) -> Measured:
    command = [sys.executable, "-m", "benchmarks.memory", "--layout", layout, "--base", base, "--threads", threads]
    found = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
    return Measured.model_validate_json(found.stdout.splitlines()[-1])


def measure(layout: Layout, directory: Path, *, threads: int) -> Measured:
    """One iteration of PPO in this process."""
    import torch
    import transformers

    from training import ppo_fit

    torch.set_num_threads(threads)
    memory = Memory()
    memory.start()
    bases = [_load(directory) for _ in range(1 if layout == "shared" else 4)]
    iterations = _iterations(bases)
    metrics = ppo_fit.fit(iterations)
    peak = memory.peak()
    adapters = [tensor for base in bases for name, tensor in base.model.named_parameters() if ".lora_" in name]
    weights = [tensor for base in bases for name, tensor in base.model.named_parameters() if ".lora_" not in name]
    return Measured(
        layout=layout,
        weights_mb=sum(tensor.nbytes for tensor in weights) / MB,
        adapters_mb=sum(tensor.nbytes for tensor in adapters) / MB,
        peak_mb=peak / MB,
        loss=metrics[-1].loss,
        reward=metrics[-1].reward,
        versions={"torch": torch.__version__, "transformers": transformers.__version__},
    )


def _load(directory: Path) -> "SharedBase":
    """The base with weights in memory of its own: a file that is mapped several times would be counted as often, but
    held once."""
    from training.model import load_base

    base = load_base(directory, base_sha256="benchmark")
    for parameter in base.model.parameters():
        parameter.data = parameter.data.clone()
    return base


def _iterations(bases: "Sequence[SharedBase]") -> "Iterations":
    """PPO with an adapter for the policy and one for the reward model, held to the bare base."""
    from training.experience import POLICY, REFERENCE
    from training.ppo_fit import Iterations
    from training.recipe import LoraRecipe, PpoRecipe, Recipe, SamplingRecipe
    from training.reward_model import RewardModel
    from training.rollouts import roll_out
    from training.value_model import ValueModel

    ppo = PpoRecipe(iterations=1, rollouts=PROMPTS, batch_rows=BATCH_ROWS, epochs=1, learning_rate=1e-3)
    sampling = SamplingRecipe(max_new_tokens=NEW_TOKENS, batch_size=PROMPTS)
    recipe = Recipe(
        precision="float32", lora=LoraRecipe(), ppo=ppo, sampling=sampling, micro_batch_tokens=MICRO_BATCH_TOKENS
    )
    policy, scored = bases[0], bases[-1]
    policy.add_fresh(POLICY, recipe.lora, seed=SEED)
    scored.add_fresh("reward", recipe.lora, seed=SEED)
    reward = RewardModel(scored, "last", seed=SEED)
    prompts = [[8 + (31 * row + place) % 1000 for place in range(PROMPT_TOKENS)] for row in range(PROMPTS)]
    separate = len(bases) > 1
    return Iterations(
        base=_with_copies(policy, reference=bases[1], critic=bases[2]) if separate else policy,
        prompts=prompts,
        reward=reward,
        value=ValueModel(policy.head.shape[1], seed=SEED),
        recipe=recipe,
        reference=REFERENCE if separate else None,
        sampler=lambda asked, seed: roll_out(policy, POLICY, asked, recipe.sampling, seed=seed),
        own_sampler=True,
    )


def _with_copies(policy: "SharedBase", *, reference: "SharedBase", critic: "SharedBase") -> "SharedBase":
    """The policy's base, in which the reference and the critic's states come from models of their own."""
    from training.data import Batch
    from training.experience import REFERENCE
    from training.model import SharedBase

    class WithCopies(SharedBase):
        def __init__(self) -> None:
            self.__dict__.update(policy.__dict__)
            self._acting: SharedBase = policy

        @contextmanager
        def acting(self, role: str | None) -> Iterator[None]:
            others = {REFERENCE: reference, None: critic}
            self._acting = others.get(role, policy)
            with self._acting.acting(None if role in others else role):
                yield

        def hidden(self, batch: Batch) -> Any:
            return self._acting.hidden(batch)

    return WithCopies()


if __name__ == "__main__":
    main()
