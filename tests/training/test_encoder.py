"""Text to ids, with and without BOS, pad = eos: each special token once, and the ids of serving."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from core.adapters import base_shapes
from tests.training.conftest import BOS, EOS, write_model, write_tokenizer
from training.encoder import Encoder

ASK = [{"role": "user", "content": "w1 w2"}]
ANSWER = [{"role": "assistant", "content": "w3 w4"}]
UNEVEN = "{% for m in messages %}{{ m.content }} {% endfor %}{% if add_generation_prompt %}assistant {% endif %}"


@pytest.fixture(params=["without BOS", "with BOS"])
def tokenizer_directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_tokenizer(tmp_path, begins=request.param == "with BOS")
    return tmp_path


@pytest.fixture
def first(tokenizer_directory: Path) -> list[int]:
    """What a text begins with."""
    return [BOS] if AutoTokenizer.from_pretrained(tokenizer_directory).bos_token else []


@pytest.fixture
def encoder(tokenizer_directory: Path) -> Encoder:
    return Encoder(tokenizer_directory, [EOS])


def w(*numbers: int) -> list[int]:
    return [number + 6 for number in numbers]


def test_bos_begins_the_prompt_once_and_the_completion_never(encoder: Encoder, first: list[int]) -> None:
    """Trap 5: neither twice, by tokenizer and template or by the text itself, nor again before the completion."""
    text = encoder.text("w1 w2", "w3")

    assert (text.prompt, text.completion) == ([*first, *w(1, 2)], [*w(3), EOS])
    assert encoder.text(ASK, ANSWER).prompt == [*first, 4, *w(1, 2), 5]
    if first:
        assert encoder.text("<bos> w1 w2", "w3").prompt == text.prompt


def test_prompts_are_encoded_as_serving_does(encoder: Encoder, tokenizer_directory: Path) -> None:
    """Trap 6: the ids of the template itself, the same for a prompt alone and for one with an answer."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_directory)
    served = tokenizer.apply_chat_template(ASK, add_generation_prompt=True, return_dict=False)

    assert encoder.prompt(ASK) == served == encoder.text(ASK, ANSWER).prompt


@pytest.mark.parametrize("completion", ["w3 w4", "w3 w4 <eos>", "w3 w4 <eos> <eos>", "w3 w4 <eos> w5"])
def test_completions_end_with_one_end_of_text(encoder: Encoder, completion: str) -> None:
    """Traps 4 and 7: where sampling would have stopped, whether or not the text says so, and with pad = eos."""
    assert encoder.text("w1", completion).completion == [*w(3, 4), EOS]


def test_a_conversation_ends_with_the_templates_own_end_of_text(encoder: Encoder) -> None:
    """Trap 7: no second one is added."""
    assert encoder.text(ASK, ANSWER).completion == [*w(3, 4), EOS]


def test_only_the_last_turn_is_the_completion(encoder: Encoder, first: list[int]) -> None:
    """Earlier answers belong to the prompt, and are not trained on."""
    context = [*ASK, *ANSWER, {"role": "user", "content": "w5"}]
    expected = [*first, 4, *w(1, 2), 5, *w(3, 4), EOS, 4, *w(5), 5]

    assert encoder.text(context, [{"role": "assistant", "content": "w6"}]).prompt == expected
    assert encoder.text(ASK, [*context[1:], {"role": "assistant", "content": "w6"}]).prompt == expected


def test_both_sides_of_a_pair_have_one_prompt(encoder: Encoder) -> None:
    """Trap 8: whatever follows, the prompt's ids are the same, and prompt and completion are the whole rendering."""
    sides = [encoder.text(ASK, [{"role": "assistant", "content": text}]) for text in ("w3", "w4 w5")]

    assert sides[0].prompt == sides[1].prompt


def test_a_template_that_rewrites_the_prompt_is_refused(tmp_path: Path) -> None:
    """Trap 8: a prompt that looks different once there is an answer would be trained on in a form that is never
    served."""
    write_tokenizer(tmp_path, template=UNEVEN)

    with pytest.raises(ValueError, match="renders the prompt differently"):
        Encoder(tmp_path, [EOS]).text(ASK, ANSWER)


def test_one_character_of_the_template_is_another_tokenizer(tmp_path: Path) -> None:
    """Trap 10: the digest that snapshots carry changes with the chat template."""
    write_model(tmp_path, "qwen3")
    before = base_shapes(tmp_path).tokenizer_sha256
    template = tmp_path / "chat_template.jinja"
    template.write_text(template.read_text() + " ")

    assert base_shapes(tmp_path).tokenizer_sha256 != before


@pytest.mark.parametrize(
    ("prompt", "completion", "message"),
    [
        ("w1", ANSWER, "both be text, or both be lists"),
        ("", "w1", "prompt is empty"),
        ("w1", "", "completion is empty"),
        ("w1", "  ", "completion is empty"),
        ("w1", "<eos>", "completion is empty"),
        ([], ANSWER, "a message each"),
        (ASK, ASK, "must end with a message of the assistant"),
        (ASK, [{"role": "assistant", "content": " "}], "that says something"),
        (ASK, [{"role": "assistant"}], "a message is"),
        (["w1"], ANSWER, "a message is"),
        (ASK, [{"role": "assistant", "content": [{"type": "image"}]}], "a message is"),
        ("w1 " * 30, "w1", "the base's window 20"),
    ],
)
def test_what_cannot_be_encoded_is_refused(tmp_path: Path, prompt: object, completion: object, message: str) -> None:
    write_tokenizer(tmp_path)

    with pytest.raises(ValueError, match=message):
        Encoder(tmp_path, [EOS], window=20).text(prompt, completion)
