"""The flags of vLLM's OpenAI server that our engine is built with. Pure, and free of vllm.

Apart from engine.py so that benchmarks/serving.py can start vLLM's own server with exactly these.
"""

import json
from pathlib import Path

from serving.protocol import MAX_ADAPTERS

MAX_LORAS = 4  # adapters in one batch; more wait for their turn
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM accepts as max_lora_rank
BASE_NAME = "plumbline-base"  # vLLM wants a name for the base; no request of a caller may use it


def flags(
    base: Path, *, dtype: str, max_rank: int, max_model_len: int | None, tool_parser: str, on_cpu: bool
) -> list[str]:
    """As `vllm serve` takes them."""
    rank = next(allowed for allowed in RANKS if allowed >= max_rank)
    chosen = ["--model", str(base), "--served-model-name", BASE_NAME, "--dtype", dtype]
    chosen += ["--enable-lora", "--max-loras", str(MAX_LORAS), "--max-cpu-loras", str(MAX_ADAPTERS)]
    chosen += ["--max-lora-rank", str(rank), "--enable-prefix-caching", "--logprobs-mode", "processed_logprobs"]
    if max_model_len is not None:
        chosen += ["--max-model-len", str(max_model_len)]
    # Where any white space is allowed, a weak model may write nothing else until it is cut off.
    chosen += ["--structured-outputs-config", json.dumps({"backend": "xgrammar", "disable_any_whitespace": True})]
    if tool_parser:
        chosen += ["--enable-auto-tool-choice", "--tool-call-parser", tool_parser]
        chosen += ["--tool-strict-level", "parameter"]  # a weak model's calls parse, too
    if on_cpu:
        # Chunked prefill off: a seeded request whose prefill is chunked kills the CPU worker (G8).
        chosen += ["--enforce-eager", "--no-enable-chunked-prefill"]
        chosen += ["--worker-extension-cls", "serving.lora_cpu.WorkerExtension"]
    return chosen
