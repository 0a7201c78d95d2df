"""On the real engine: what one tenant has asked makes nobody else's first token come sooner."""

import pytest
from prometheus_client import REGISTRY

from core.access import Caller
from serving.schemas import ChatBody
from tests.serving.conftest import EngineStack

pytestmark = pytest.mark.engine


def cached_tokens() -> float:
    """Prompt tokens that this process's engine ever took from its prefix cache."""
    return sum(
        sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "vllm:prefix_cache_hits_total"
    )


def taken_from_cache(stack: EngineStack, tenant: str, prompt: str) -> float:
    """How many of the prompt's tokens were cached when this tenant asked."""
    before, serving = cached_tokens(), stack.live.serving

    async def ask() -> None:
        body = ChatBody.model_validate(
            {"model": "assistant", "messages": [{"role": "user", "content": prompt}], "max_tokens": 2}
        )
        assignment = serving.replica.acquire("assistant", None)
        chat = serving.chats.open(body, caller=Caller(tenant=tenant), assignment=assignment)
        await serving.chats.answer(chat)

    stack.live.call(ask())
    return cached_tokens() - before


def test_tenants_share_no_cached_prefix(engine_stack: EngineStack) -> None:
    """The same long prompt is cached for the tenant that asked it before, and for no other, nor for the deployment."""
    prompt = "A dog is a pet. " * 40
    first, again = (taken_from_cache(engine_stack, "acme", prompt) for _ in range(2))
    assert first == 0 < again
    assert taken_from_cache(engine_stack, "beta", prompt) == 0
    assert taken_from_cache(engine_stack, "", prompt) == 0
    assert taken_from_cache(engine_stack, "acme", prompt) == again
