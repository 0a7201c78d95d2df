"""Tiny random models on disk: Qwen3 with a tied head and without BOS, Llama with an untied head and BOS; both pad with
their end-of-text token, as many real models do."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: these tests share two cores

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from core.adapters import BaseShapes, base_shapes
from training.model import SharedBase, load_base

VOCABULARY, BOS, EOS, USER, ASSISTANT = 97, 1, 3, 4, 5
_CHAT = "{% for m in messages %}user {{ m.content }} {% endfor %}assistant"
_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256}


def write_model(directory: Path, kind: str) -> Path:
    """A random causal LM with a tokenizer of whole words and a chat template."""
    torch.manual_seed(0)
    ids = {"eos_token_id": EOS, "pad_token_id": EOS}
    if kind == "qwen3":
        config = Qwen3Config(**_SIZES, **_HEADS, **ids, tie_word_embeddings=True, initializer_range=0.2)
        model = Qwen3ForCausalLM(config)
    else:
        config = LlamaConfig(
            **_SIZES, **_HEADS, **ids, bos_token_id=BOS, tie_word_embeddings=False, initializer_range=0.2
        )
        model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    special = ["<unk>", "<bos>", "<sep>", "<eos>", "user", "assistant"]
    words = special + [f"w{i}" for i in range(VOCABULARY - len(special))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>")
    fast.chat_template = _CHAT
    fast.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session", params=["qwen3", "llama"])
def base_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each test with this fixture runs on both models."""
    return write_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def qwen_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("qwen3-only"), "qwen3")


@pytest.fixture(scope="session")
def qwen_shapes(qwen_directory: Path) -> BaseShapes:
    return base_shapes(qwen_directory)


@pytest.fixture
def base(base_directory: Path) -> SharedBase:
    """A fresh base without roles, float32."""
    return load_base(base_directory, base_sha256="0" * 64, attention="eager")


@pytest.fixture
def qwen(qwen_directory: Path) -> SharedBase:
    return load_base(qwen_directory, base_sha256="0" * 64, attention="eager")
