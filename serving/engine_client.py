"""vLLM's engine client: built, ended, and listened to.

We subclass `AsyncLLM` for one reason: its `generate` sees what every request really samples.
"""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import utils as engine_utils
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor import Executor, UniProcExecutor

from serving import engine_process
from serving.engine_errors import api_error
from serving.protocol import Capture, Sampled

STOP_TIMEOUT_S = 15.0
MAX_WHITE_SPACE = 2  # characters in a row, within a tool call
_RECORDED = (
    *("n", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "min_tokens", "stop", "logit_bias"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
)


class PolicyLLM(AsyncLLM):
    """vLLM's engine client, which also fills the `Capture` that waits under a request's id; others pass untouched."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.captures: dict[str, Capture] = {}

    def __del__(self) -> None:
        """Not vLLM's own, which would shut down once more, at interpreter exit with half of its modules gone."""

    async def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        capture = self.captures.get(request_id)
        if capture is not None:
            capture.sampling = _sampling(sampling_params)
        _bound_white_space(sampling_params)
        try:
            async with aclosing(super().generate(prompt, sampling_params, request_id, **options)) as outputs:
                async for output in outputs:
                    if capture is not None:
                        _fill(capture, output, grows=sampling_params.output_kind == RequestOutputKind.DELTA)
                    yield output
        except Exception as error:
            if capture is not None:
                capture.error = api_error(error)
            raise


def build(config: VllmConfig) -> PolicyLLM:
    """Starts the engine core in a process of its own; blocks until it has loaded the base."""
    # vLLM would put a worker process behind the engine's on CPU, only to pin its threads. The worker polls for a second
    # after each step, which under a steady trickle of chats is all the time: a core that the trainer needs.
    if not current_platform.is_cpu():
        return _connected(config, Executor.get_class(config))
    with engine_process.forked(engine_utils):
        return _connected(config, UniProcExecutor)


def _connected(config: VllmConfig, executor: type[Executor]) -> PolicyLLM:
    return PolicyLLM(vllm_config=config, executor_class=executor, log_stats=True, log_requests=False)


def shut_down(llm: PolicyLLM) -> None:
    """Returns when the children are gone: a clean exit takes them some 5 s, which is when vLLM's default kills them."""
    children = llm.engine_core.resources.engine_manager.processes
    llm.shutdown(timeout=STOP_TIMEOUT_S)
    for child in children:
        child.join(STOP_TIMEOUT_S)


def _sampling(parameters: SamplingParams) -> dict[str, Any]:
    """What is recorded of them."""
    values = {name: getattr(parameters, name) for name in _RECORDED}
    return {name: value for name, value in values.items() if value not in (None, [], {})}


def _bound_white_space(parameters: SamplingParams) -> None:
    """`disable_any_whitespace` does not reach the JSON of tool calls."""
    forced = parameters.structured_outputs
    if forced is not None and isinstance(forced.structural_tag, str):
        forced.structural_tag = json.dumps(_bounded(json.loads(forced.structural_tag)))


def _bounded(tag: Any) -> Any:
    """A structural tag of xgrammar's; JSON schemas inside stay as they are."""
    if isinstance(tag, list):
        return [_bounded(each) for each in tag]
    if not isinstance(tag, dict):
        return tag
    if tag.get("type") == "json_schema":
        return tag | {"max_whitespace_cnt": tag.get("max_whitespace_cnt") or MAX_WHITE_SPACE}
    return {name: _bounded(value) for name, value in tag.items()}


def _fill(capture: Capture, output: RequestOutput, *, grows: bool) -> None:
    if output.prompt_token_ids and not capture.prompt_token_ids:
        capture.prompt_token_ids = list(output.prompt_token_ids)
    for part in output.outputs:
        if not grows:
            capture.choices.pop(part.index, None)
        sampled = capture.choices.setdefault(part.index, Sampled())
        sampled.text += part.text
        sampled.token_ids.extend(part.token_ids)
        sampled.logprobs.extend(_logprobs(part))
        sampled.finish_reason = part.finish_reason or sampled.finish_reason
        if part.token_ids and capture.first_token is None:
            capture.first_token = time.monotonic()
    capture.finished = output.finished


def _logprobs(part: CompletionOutput) -> list[float]:
    pairs = zip(part.token_ids, part.logprobs or [], strict=False)
    return [candidates[token].logprob for token, candidates in pairs if candidates is not None]
