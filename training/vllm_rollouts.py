"""Rollouts from vLLM: an engine of the trainer's own, that gets the policy as an adapter before each iteration.

The engine's core runs in a child process over a second copy of the base; a few megabytes of adapter are what changes
hands. Each iteration's adapter has a new name, number and directory: reloaded in place, it would meet key-value blocks
of the old one in the prefix cache (training notes §0, fact 4).

Samples are the policy's own distribution (temperature 1, no top-p, no top-k), their log-probs the ones that were
sampled from ("processed"). Old log-probs still come from the trainer; the difference becomes importance weights
(training/experience.py). The only module of `training` that imports vllm. Run on CPU only so far: what is said of GPUs
here follows vLLM's documentation.
"""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")  # before vllm is imported, as all below
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.update(VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")

import torch
from vllm import ModelRegistry, SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.request import LoRARequest
from vllm.model_executor.models.interfaces import supports_lora
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.executor import Executor, UniProcExecutor

from training.data import Text
from training.model import SharedBase
from training.recipe import Recipe
from training.rollouts import Rollout, Sampler

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM accepts as the largest rank of an adapter."""
_WARM_UP_TOKENS = 64
_STOP_TIMEOUT_S = 15.0
_GPU_SHARE = 0.4
"""Of a GPU's memory, for the engine: the trainer lives on the same device. More would only cache more keys."""


def takes_adapters(directory: Path) -> bool:
    """Whether vLLM has LoRA for the class of this base; False for a class that it does not know."""
    names = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    known = [ModelRegistry.models[name] for name in names if name in ModelRegistry.models]
    return any(supports_lora(model.load_model_cls()) for model in known)


@contextmanager
def vllm_sampler(base: SharedBase, role: str, directory: Path, recipe: Recipe, *, seed: int) -> Iterator[Sampler]:
    """Starts an engine, which is gone at the end of the block.

    Args:
        base: holds the policy.
        role: the policy's name there.
        directory: of the base model.
        seed: of the engine's random numbers; another one for each process that samples.
    """
    engine = _build(directory, recipe, base, seed=seed)
    numbers = count(1)  # of adapters: none is used twice in the life of an engine
    scratch = Path(tempfile.mkdtemp(prefix="plumbline-rollouts-"))
    try:
        _warm_up(engine, vocabulary=len(base.head))
        yield lambda prompts, _: _sample(engine, base, role, prompts, recipe, scratch, next(numbers))
    finally:
        _shut_down(engine)
        shutil.rmtree(scratch, ignore_errors=True)


def _sample(
    engine: LLMEngine,
    base: SharedBase,
    role: str,
    prompts: Sequence[list[int]],
    recipe: Recipe,
    scratch: Path,
    number: int,
) -> list[Rollout]:
    """One completion a prompt by the policy as it is now, the engine's adapter `number`."""
    directory = scratch / f"policy-{number}"
    base.save(role, directory)
    adapter = LoRARequest(directory.name, number, str(directory))
    if not engine.add_lora(adapter):
        raise RuntimeError(f"vLLM refused the adapter {directory}")
    parameters = SamplingParams(
        temperature=1.0,
        top_p=1.0,
        top_k=-1,
        max_tokens=recipe.sampling.max_new_tokens,
        stop_token_ids=base.eos_ids,
        logprobs=0,
        detokenize=False,
    )
    outputs = _generate(engine, prompts, parameters, adapter, directory.name)
    engine.remove_lora(number)
    shutil.rmtree(directory)
    return [_rollout(prompt, output) for prompt, output in zip(prompts, outputs, strict=True)]


def _generate(
    engine: LLMEngine,
    prompts: Sequence[list[int]],
    parameters: SamplingParams,
    adapter: LoRARequest | None,
    name: str,
) -> list[RequestOutput]:
    """Finished outputs in the order of the prompts."""
    names = [f"{name}-{place}" for place in range(len(prompts))]
    for request, prompt in zip(names, prompts, strict=True):
        engine.add_request(request, {"prompt_token_ids": prompt}, parameters, lora_request=adapter)
    found: dict[str, RequestOutput] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                assert isinstance(output, RequestOutput)
                found[output.request_id] = output
    return [found[request] for request in names]


def _warm_up(engine: LLMEngine, *, vocabulary: int) -> None:
    """The first batch must not be tiny: with 1 or 2 tokens the CPU worker dies of an illegal instruction."""
    size = min(_WARM_UP_TOKENS, engine.model_config.max_model_len - 4)
    prompt = [token % vocabulary for token in range(size)]
    _generate(engine, [prompt], SamplingParams(max_tokens=1, detokenize=False), None, "warm-up")


def _shut_down(engine: LLMEngine) -> None:
    """Returns when the child is gone: a clean exit takes it some 5 s, which is when vLLM's default kills it."""
    children = engine.engine_core.resources.engine_manager.processes
    engine.engine_core.shutdown(timeout=_STOP_TIMEOUT_S)
    for child in children:
        child.join(_STOP_TIMEOUT_S)


def _build(directory: Path, recipe: Recipe, base: SharedBase, *, seed: int) -> LLMEngine:
    """The settings are those of serving (serving/engine.py says why), without its many adapters at a time."""
    on_cpu = current_platform.is_cpu()
    rank = next(allowed for allowed in _RANKS if allowed >= recipe.lora.rank)
    options: dict[str, Any] = {"dtype": str(base.dtype).removeprefix("torch."), "max_lora_rank": rank}
    if not on_cpu:
        options["gpu_memory_utilization"] = _GPU_SHARE
    else:
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
        options |= {"enforce_eager": True, "enable_chunked_prefill": False}
        options["worker_extension_cls"] = "serving.lora_cpu.WorkerExtension"
    arguments = EngineArgs(
        model=str(directory),
        max_model_len=min(recipe.max_length, base.context_length),
        enable_lora=True,
        max_loras=1,
        logprobs_mode="processed_logprobs",
        seed=seed,
        **options,
    )
    with warnings.catch_warnings(), _only(base.device):
        warnings.simplefilter("ignore")
        config = arguments.create_engine_config()
        # vLLM would put a worker process behind the engine's on CPU, only to pin its threads.
        executor = UniProcExecutor if on_cpu else Executor.get_class(config)
        return LLMEngine(vllm_config=config, executor_class=executor, log_stats=False, multiprocess_mode=True)


@contextmanager
def _only(device: torch.device) -> Iterator[None]:
    """A child that is started in this block sees no other GPU than the trainer's: of several trainers each has its
    own engine. The trainer itself looked at the variable when it began."""
    name, before = "CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")
    if device.type != "cuda":
        yield
        return
    visible = before.split(",") if before else [str(number) for number in range(torch.cuda.device_count())]
    os.environ[name] = visible[device.index or 0]
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _rollout(prompt: list[int], output: RequestOutput) -> Rollout:
    (found,) = output.outputs
    tokens = list(found.token_ids)
    candidates = zip(tokens, found.logprobs or [], strict=True)
    values = [among[token].logprob for token, among in candidates if among is not None]
    return Rollout(text=Text(prompt=list(prompt), completion=tokens), logprobs=values)
