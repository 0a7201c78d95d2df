"""The reward model: reads the right tokens, learns an order, keeps its scale, repeats itself."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import EOS
from tests.training.examples import pairs
from training import reward_fit
from training.data import Batch, Text, collate
from training.model import SharedBase, load_base
from training.recipe import LoraRecipe, Recipe, RewardRecipe
from training.reward_model import HEAD, HEADS, RewardCard, RewardModel, load_reward_model

LORA = LoraRecipe(rank=4, alpha=8)
TEXTS = [Text(prompt=[4, EOS, 31, EOS, 5], completion=[40, 41, EOS]), Text(prompt=[4, 5], completion=[50, EOS])]


def recipe(head: str, **changes: object) -> Recipe:
    reward = RewardRecipe(head=head, learning_rate=1e-2, head_learning_rate=1e-2, epochs=8, batch_rows=16)
    return Recipe(precision="float32", lora=LORA, reward=reward, **changes)


def untrained(base: SharedBase, head: str) -> RewardModel:
    """With random numbers in every weight, so that each input counts."""
    base.add_fresh("reward", LORA, seed=0)
    model = RewardModel(base, head)
    generator = torch.Generator().manual_seed(0)
    for parameter in (*base.parameters("reward").values(), *model.head.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return model


def raw(model: RewardModel, batch: Batch, texts: list[Text]) -> torch.Tensor:
    surprise = model.surprise(texts, tokens=1000)
    with model.base.acting("reward"), torch.no_grad():
        return model.raw(batch, surprise)


def moved(batch: Batch, shift: int) -> Batch:
    """All columns moved to the right, around the end: right padding becomes left padding."""
    names = ("token_ids", "attention_mask", "completion_mask")
    return Batch(**{name: getattr(batch, name).roll(shift, dims=1) for name in names})


@pytest.mark.parametrize("head", HEADS)
def test_padding_on_any_side_changes_no_score(base: SharedBase, head: str) -> None:
    """Left, right or no padding, with end-of-text as the padding id and inside the prompt: the same score."""
    model = untrained(base, head)
    for text in TEXTS:
        alone = collate([text], padding_id=EOS)
        right = first_row(collate([text, Text(prompt=[4] * 30, completion=[40])], padding_id=EOS))
        expected = raw(model, alone, [text])

        for padded in (right, moved(right, 31 - len(text))):
            torch.testing.assert_close(raw(model, padded, [text]), expected, atol=2e-5, rtol=0)


def first_row(batch: Batch) -> Batch:
    return Batch(
        token_ids=batch.token_ids[:1],
        attention_mask=batch.attention_mask[:1],
        completion_mask=batch.completion_mask[:1],
    )


@pytest.mark.parametrize("head", HEADS)
def test_the_end_of_text_token_is_read(base: SharedBase, head: str) -> None:
    """Another embedding of the end-of-text token changes the score: nothing stops one token early."""
    model = untrained(base, head)
    text = Text(prompt=[4, 5], completion=[40, 41, EOS])
    before = model.raw_scores([text])

    with torch.no_grad():
        model.base.model.get_input_embeddings().weight[EOS] += 0.5

    assert (model.raw_scores([text]) - before).abs().item() > 1e-3


@pytest.mark.parametrize("head", HEADS)
def test_it_learns_an_order(qwen: SharedBase, head: str) -> None:
    """From 80 votes for completions that begin with one token it predicts new ones."""
    train, new = pairs(80, seed=1), pairs(40, seed=2)

    model, metrics = reward_fit.fit(qwen, train, recipe(head), seed=0)

    accuracy, count = reward_fit.accuracy(model, new)
    assert accuracy > 0.75
    assert count == 32  # every fifth is a tie and has no order
    assert metrics[-1].loss < metrics[0].loss


@pytest.mark.parametrize("head", HEADS)
def test_head_and_adapter_have_gradients_and_are_saved(qwen: SharedBase, head: str, tmp_path: Path) -> None:
    """Both get a gradient, and what is read back gives the same scores (a head that is not saved would not)."""
    votes = pairs(16)
    model, _ = reward_fit.fit(qwen, votes, recipe(head), seed=0)
    surprise = reward_fit.surprise_of(model, votes, recipe(head))
    (compute,) = reward_fit.shares(model, votes, surprise, recipe(head), range(16))
    with qwen.acting("reward"):
        compute().loss.backward()
    gradients = [p.grad for p in (*model.head.parameters(), *qwen.parameters("reward").values())]
    assert all(gradient is not None for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients[: len(list(model.head.parameters()))]) > 0

    model.calibrate(TEXTS * 20)
    model.save(tmp_path)
    (tmp_path / "reward.json").write_text(card(model, qwen).model_dump_json())
    again = load_base_like(qwen)
    loaded, _ = load_reward_model(again, tmp_path)

    assert load_file(tmp_path / HEAD).keys() == model.head.state_dict().keys()
    assert torch.equal(loaded.score(TEXTS), model.score(TEXTS))


def card(model: RewardModel, base: SharedBase) -> RewardCard:
    return RewardCard(
        head=model.head_name,
        mean=model.mean,
        sd=model.sd,
        base_sha256=base.base_sha256,
        data="",
        folds=["optimize"],
        seed=0,
        pairs=16,
        ties=0,
        dropped={},
        train_accuracy=1.0,
        test_accuracy=None,
        test_accuracy_low=None,
        test_pairs=0,
    )


def load_base_like(base: SharedBase) -> SharedBase:
    return load_base(Path(base.model.config._name_or_path), base_sha256=base.base_sha256, attention="eager")


def test_scale_is_mean_0_sd_1_on_the_reference_completions(qwen: SharedBase) -> None:
    """Calibrated scores of the reference completions have mean 0 and standard deviation 1."""
    model = untrained(qwen, "last")
    texts = [pair.chosen for pair in pairs(60)]

    model.calibrate(texts)

    assert model.score(texts).mean().item() == pytest.approx(0.0, abs=1e-5)
    assert model.score(texts).std().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_two_runs_are_the_same(qwen_directory: Path, head: str) -> None:
    """Same votes, same seed, same threads: identical weights; another seed gives others."""
    runs = []
    for seed in (3, 3, 4):
        torch.rand(5)  # what was drawn before must not matter
        base = load_base(qwen_directory, base_sha256="0" * 64, attention="eager")
        model, _ = reward_fit.fit(base, pairs(24), recipe(head), seed=seed)
        runs.append(model.raw_scores(TEXTS))

    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("head", HEADS)
def test_micro_batches_change_no_gradient(qwen: SharedBase, head: str) -> None:
    """Eight ragged, weighted pairs with ties in one batch of 8 or in 8 of 1: the same gradients."""
    model, votes = untrained(qwen, head), pairs(8)
    gradients = []
    for tokens in (10_000, 1):
        settings = recipe(head, micro_batch_tokens=tokens)
        surprise = reward_fit.surprise_of(model, votes, settings)
        shares = reward_fit.shares(model, votes, surprise, settings, range(8))
        assert len(shares) == (1 if tokens > 1 else 8)
        parameters = [*qwen.parameters("reward").values(), *model.head.parameters()]
        for parameter in parameters:
            parameter.grad = None
        with qwen.acting("reward"):
            for compute in shares:
                compute().loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))

    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
