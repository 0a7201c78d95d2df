"""The models that are timed: random weights, real shapes.

PPO samples, so it is timed on the demo's own base instead (benchmarks/ppo.py).
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PADDING, EOS = 0, 1
"""In all of them; the padding token stands in no row, and the demo's base never says it."""

SHAPES: dict[str, dict[str, int]] = {
    "demo": {  # as lab/demo.toml trains it: 0.6M parameters
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "vocab_size": 1940,
    },
    "100m": {  # a hundred million, a fifth of them in the embedding
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 10,
        "num_key_value_heads": 5,
        "head_dim": 64,
        "vocab_size": 32000,
    },
}


def write(directory: Path, name: str) -> Path:
    """A random Qwen3 of this shape with a tied head, and a tokenizer: token i is the word `w<i>`, so that a text says
    exactly which tokens were sampled.

    Enough where rows are given: speed does not depend on what a model knows.
    """
    torch.manual_seed(0)
    config = Qwen3Config(
        **SHAPES[name],
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=EOS,
        pad_token_id=PADDING,
        initializer_range=0.05,
    )
    Qwen3ForCausalLM(config).save_pretrained(directory)
    words = ["<pad>", "<eos>", *(f"w{i}" for i in range(2, SHAPES[name]["vocab_size"]))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = "{% for message in messages %}{{ message['content'] }} <eos> {% endfor %}"
    fast.save_pretrained(directory)
    return directory
