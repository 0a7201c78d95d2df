"""Rollouts from a real vLLM engine: the policy as it is now, its own distribution, and the weights that follow."""

import argparse
from pathlib import Path

import pytest
import torch

from core.adapters import base_shapes
from core.errors import UsageError
from tests.serving.tiny import write_base
from training import ppo
from training.data import collate
from training.experience import POLICY, completion_states, completion_tokens
from training.logprobs import token_logprobs
from training.model import load_base
from training.recipe import LoraRecipe, Recipe, SamplingRecipe

pytestmark = pytest.mark.engine

PROMPTS = [[1, *range(20, 20 + length), 3, 2] for length in (7, 1, 3, 5)] * 4


def test_each_call_samples_the_policy_as_it_is_now(tmp_path: Path) -> None:
    """Two iterations with other weights: each token's log-prob is the trainer's of that moment, so nothing of the
    first adapter is left in the engine; completions end at end-of-text or at the limit."""
    from training.vllm_rollouts import vllm_sampler

    directory = write_base(tmp_path / "base")
    base = load_base(directory, base_sha256=base_shapes(directory).sha256)
    recipe = Recipe(lora=LoraRecipe(rank=4, alpha=8), sampling=SamplingRecipe(max_new_tokens=12), max_length=64)
    base.add_fresh(POLICY, recipe.lora, seed=0)
    first = []
    with vllm_sampler(base, POLICY, directory, recipe, seed=0) as sampler:
        for iteration in range(2):
            generator = torch.Generator().manual_seed(iteration)
            for parameter in base.parameters(POLICY).values():
                parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
            rollouts = sampler(PROMPTS, iteration)

            assert [rollout.text.prompt for rollout in rollouts] == PROMPTS
            first.append([rollout.text.completion for rollout in rollouts])
            for rollout in rollouts:
                batch = collate([rollout.text])
                with base.acting(POLICY), torch.no_grad():
                    values = token_logprobs(completion_states(base, batch), base.head, completion_tokens(batch))
                assert rollout.logprobs == pytest.approx(values.tolist(), abs=1e-4)
                ended = rollout.text.completion[-1] in base.eos_ids
                assert ended or len(rollout.text.completion) == 12
    assert first[0] != first[1]


def test_a_model_without_lora_in_vllm_issampled_by_the_trainer(tmp_path: Path, qwen_directory: Path) -> None:
    """Qwen3 takes adapters, BLOOM and what vLLM does not know do not; asked for all the same, vLLM is refused."""
    from training.vllm_rollouts import takes_adapters

    assert takes_adapters(qwen_directory)
    for name in ("BloomForCausalLM", "NobodyForCausalLM"):
        (tmp_path / "config.json").write_text(f'{{"architectures": ["{name}"]}}')
        assert not takes_adapters(tmp_path)
        asked = argparse.Namespace(base=tmp_path, rollout="vllm")
        with pytest.raises(UsageError, match="use --rollout hf"):
            ppo.sampled_by(asked)
        assert ppo.sampled_by(argparse.Namespace(base=tmp_path, rollout=None)) == "hf"
