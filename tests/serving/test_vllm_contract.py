"""What serving/engine.py and its parts take for granted of vLLM 0.32: a new one must fail here, not in production."""

import inspect
import re
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.engine


def test_the_version_is_pinned() -> None:
    """Every guard was measured on this version."""
    import vllm

    assert vllm.__version__.split("+")[0] == "0.32.0"


def test_generate_is_called_as_we_override_it() -> None:
    """Prompt, parameters and request id come first; the adapter is a keyword of its own."""
    from vllm.v1.engine.async_llm import AsyncLLM

    parameters = inspect.signature(AsyncLLM.generate).parameters
    assert list(parameters)[1:4] == ["prompt", "sampling_params", "request_id"]
    assert parameters["lora_request"].kind == inspect.Parameter.KEYWORD_ONLY


def test_the_serving_objects_have_the_fields_that_we_set() -> None:
    """Adapter names are a plain dict, the fingerprint an attribute; without an HTTP request the id is the body's."""
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels
    from vllm.entrypoints.serve.engine.serving import BaseServing

    assert "self.lora_requests: dict[str, LoRARequest] = {}" in inspect.getsource(OpenAIServingModels.__init__)
    assert "system_fingerprint" in inspect.getsource(OpenAIServingChat.chat_completion_full_generator)
    assert list(inspect.signature(OpenAIServingChat.create_chat_completion).parameters)[1:] == [
        "request",
        "raw_request",
    ]
    assert BaseServing._base_request_id(None, "ours") == "ours"


def test_the_engines_life_has_the_calls_that_we_make() -> None:
    """Adapters, shutdown and the flag of a dead engine."""
    from vllm.v1.engine.async_llm import AsyncLLM

    for name in ("add_lora", "remove_lora", "collective_rpc", "shutdown", "get_supported_tasks", "errored"):
        assert hasattr(AsyncLLM, name)


def test_the_engines_process_is_made_where_we_replace_its_making() -> None:
    """By the module's own `get_mp_context`, with the three keywords that our process takes."""
    from vllm.v1.engine import utils

    source = inspect.getsource(utils.CoreEngineProcManager.__init__)
    assert "context = get_mp_context()" in source
    made = source[source.index("context.Process(") :]
    assert re.findall(r"^ {20}(\w+)=", made, re.MULTILINE) == ["target", "name", "kwargs"]


def test_our_lora_operators_stand_in_for_the_stock_ones() -> None:
    """Same names and the same number of positional arguments as the functions that they replace."""
    from vllm.lora.ops import torch_ops

    from serving import lora_cpu

    for name, ours in lora_cpu._OURS.items():
        stock = inspect.signature(getattr(torch_ops, name)).parameters
        assert len(inspect.signature(ours).parameters) == len(stock)


@pytest.mark.parametrize("slots", [[0, 1, 2, 1, 0], [1, 1, 1, 1, 1]])
def test_our_lora_operators_compute_what_the_stock_ones_do(slots: list[int]) -> None:
    """G2: wherever every row has an adapter, decode and prefill forms agree with vLLM's own."""
    from vllm.lora.ops import torch_ops

    from serving import lora_cpu

    torch.manual_seed(0)
    indices = torch.tensor(slots)
    x, a, b = torch.randn(5, 12), torch.randn(3, 1, 4, 12), torch.randn(3, 1, 6, 4)
    for shrink, expand in (
        (lora_cpu.shrink, lora_cpu.expand_slice),
        (torch_ops.bgmv_shrink, torch_ops.bgmv_expand_slice),
    ):
        low, out = torch.zeros(5, 4), torch.ones(5, 10)
        shrink(x, a, low, indices, 0.5)
        expand(low, b, out, indices, 2, 6, True)
        if shrink is lora_cpu.shrink:
            ours = out
    torch.testing.assert_close(ours, out)
    lengths, start, ids = torch.tensor([2, 3]), torch.tensor([0, 2]), torch.tensor([0, 2])
    outs = []
    for module_shrink, module_expand in (
        (lora_cpu.shrink_sequences, lora_cpu.expand_sequences),
        (torch_ops.sgmv_shrink, torch_ops.sgmv_expand),
    ):
        low, out = torch.zeros(5, 4), torch.ones(5, 6)
        module_shrink(x, a, low, start, lengths, ids, 2, 3, 5, 0.5)
        module_expand(low, b, out, start, lengths, ids, 2, 3, 5, True)
        outs.append(out)
    torch.testing.assert_close(outs[0], outs[1])


def test_rows_without_an_adapter_are_left_alone() -> None:
    """G1: index -1 means none; the stock operator would take the last slot."""
    from serving import lora_cpu

    x, a, b = torch.randn(3, 12), torch.randn(2, 1, 4, 12), torch.randn(2, 1, 6, 4)
    low, out = torch.zeros(3, 4), torch.zeros(3, 6)
    indices = torch.tensor([-1, 1, -1])
    lora_cpu.shrink(x, a, low, indices, 1.0)
    lora_cpu.expand(low, b, out, indices, True)
    torch.testing.assert_close(out[1], b[1, 0] @ a[1, 0] @ x[1])
    assert not out[0].any()
    assert not out[2].any()


def test_rows_without_an_index_have_no_adapter() -> None:
    """A prompt that is scored beside streams brings more rows to the LM head than there are indices; it must not be
    fatal, and those rows keep what they hold."""
    from serving import lora_cpu

    x, a, b = torch.randn(6, 12), torch.randn(2, 1, 4, 12), torch.randn(2, 1, 6, 4)
    low, out = torch.zeros(6, 4), torch.zeros(6, 6)
    indices = torch.tensor([0, 1, 0])
    lora_cpu.shrink(x, a, low, indices, 1.0)
    lora_cpu.expand(low, b, out, indices, True)
    torch.testing.assert_close(out[1], b[1, 0] @ a[1, 0] @ x[1])
    assert out[:3].any(dim=1).all()
    assert not out[3:].any()


def test_an_lm_head_without_adapters_costs_nothing_and_one_with_them_is_served() -> None:
    """Zeros are not multiplied into the vocabulary; where an adapter has a head, vLLM's own code runs."""
    from types import SimpleNamespace

    from vllm.lora.punica_wrapper import punica_cpu

    from serving import lora_cpu

    wrapper: Any = SimpleNamespace(sampler_indices=torch.tensor([1, 0]))
    x, a, b = torch.randn(2, 12), torch.zeros(2, 1, 4, 12), torch.randn(2, 1, 6, 4)
    y = torch.zeros(2, 6)
    lora_cpu.head(wrapper, y, x, a, torch.full_like(b, torch.nan), 1.0)
    assert not y.any()
    a[1] = torch.randn(1, 4, 12)
    lora_cpu.head(wrapper, y, x, a, b, 1.0)
    torch.testing.assert_close(y[0], b[1, 0] @ a[1, 0] @ x[0])
    assert not y[1].any()
    assert punica_cpu.PunicaWrapperCPU.add_lora_logits is lora_cpu.head
