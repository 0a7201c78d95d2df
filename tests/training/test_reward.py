"""The reward model: reads the right tokens, learns an order, keeps its scale, repeats itself."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import EOS
from tests.training.examples import pairs
from training import reward_fit, reward_report
from training.data import Batch, Pair, Text, Thumb, collate
from training.model import SharedBase, load_base
from training.recipe import LoraRecipe, Recipe, RewardRecipe
from training.reward_card import Member, RewardCard
from training.reward_heads import HEADS, Points
from training.reward_model import HEAD, RewardModel, load_reward_model
from training.reward_rows import Ranking, Rating, Row

LORA = LoraRecipe(rank=4, alpha=8)
TEXTS = [Text(prompt=[4, EOS, 31, EOS, 5], completion=[40, 41, EOS]), Text(prompt=[4, 5], completion=[50, EOS])]


def recipe(head: str, *, label_smoothing: float = 0.0, **changes: object) -> Recipe:
    rates = {"learning_rate": 1e-2, "head_learning_rate": 1e-2}
    reward = RewardRecipe(head=head, epochs=8, batch_rows=16, label_smoothing=label_smoothing, **rates)
    return Recipe(precision="float32", lora=LORA, reward=reward, **changes)


def untrained(base: SharedBase, head: str) -> RewardModel:
    """With random numbers in every weight, so that each input counts."""
    base.add_fresh("reward", LORA, seed=0)
    model = RewardModel(base, head)
    generator = torch.Generator().manual_seed(0)
    for parameter in (*base.parameters("reward").values(), *model.members[0].head.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return model


def raw(model: RewardModel, batch: Batch, texts: list[Text]) -> torch.Tensor:
    surprise = model.surprise(texts, tokens=1000)
    with model.base.acting("reward"), torch.no_grad():
        return model.members[0].raw(batch, surprise)


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

    accuracy, count = reward_report.accuracy(model, new)
    assert accuracy > 0.75
    assert count == 32  # every fifth is a tie and has no order
    assert metrics[-1].loss < metrics[0].loss


@pytest.mark.parametrize("head", HEADS)
def test_head_and_adapter_have_gradients_and_are_saved(qwen: SharedBase, head: str, tmp_path: Path) -> None:
    """Both get a gradient, and what is read back gives the same scores (a head that is not saved would not)."""
    votes = pairs(16)
    model, _ = reward_fit.fit(qwen, votes, recipe(head), seed=0)
    surprise = reward_fit.surprise_of(model, votes, recipe(head))
    (member,) = model.members
    (compute,) = reward_fit.shares(member, votes, surprise, recipe(head), range(16))
    with qwen.acting("reward"):
        compute().loss.backward()
    gradients = [p.grad for p in (*member.head.parameters(), *qwen.parameters("reward").values())]
    assert all(gradient is not None for gradient in gradients)
    assert sum(gradient.abs().sum() for gradient in gradients[: len(list(member.head.parameters()))]) > 0

    model.set_scale(TEXTS * 20)
    model.save(tmp_path)
    (tmp_path / "reward.json").write_text(card(model, qwen).model_dump_json())
    again = load_base_like(qwen)
    loaded, _ = load_reward_model(again, tmp_path)

    assert load_file(tmp_path / HEAD).keys() == member.head.state_dict().keys()
    assert torch.equal(loaded.score(TEXTS), model.score(TEXTS))


def card(model: RewardModel, base: SharedBase) -> RewardCard:
    return RewardCard(
        head=model.head_name,
        mean=model.members[0].mean,
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

    spread = model.set_scale(texts)

    assert model.score(texts).mean().item() == pytest.approx(0.0, abs=1e-5)
    assert model.score(texts).std().item() == pytest.approx(1.0, abs=1e-5)
    assert spread == 0


@pytest.mark.parametrize("head", HEADS)
def test_two_runs_are_the_same(qwen_directory: Path, head: str) -> None:
    """Same votes, same seed, same threads: identical weights; another seed gives others."""
    runs = []
    for seed in (3, 3, 4):
        torch.rand(5)  # what was drawn before must not matter
        base = load_base(qwen_directory, base_sha256="0" * 64, attention="eager")
        model, _ = reward_fit.fit(base, pairs(24), recipe(head), seed=seed)
        runs.append(model.score(TEXTS))

    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def gradient(model: RewardModel, rows: Sequence[Row], settings: Recipe) -> tuple[torch.Tensor, float]:
    """Of the whole step on adapter, head and points; and its loss."""
    (member,) = model.members
    surprise = reward_fit.surprise_of(model, rows, settings)
    points = list(member.points.parameters()) if member.points is not None else []
    parameters = [*model.base.parameters("reward").values(), *member.head.parameters(), *points]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    loss = 0.0
    with model.base.acting("reward"):
        for compute in reward_fit.shares(member, rows, surprise, settings, range(len(rows))):
            share = compute()
            share.loss.backward()
            loss += share.loss.item()
    return torch.cat([parameter.grad.flatten() for parameter in parameters]), loss


def mixed() -> list[Row]:
    """Rows of all kinds, of unequal lengths and weights."""
    votes = pairs(10)
    texts = [text for vote in votes[5:] for text in (vote.chosen, vote.rejected)]
    rankings = [
        Ranking(texts=texts[:3], ranks=[1, 1, 2], weight=2.0),
        Ranking(texts=texts[3:7], ranks=[1, 2, 3, 4], weight=0.5),
    ]
    points = [Thumb(text=texts[7], up=True, weight=1.0), Thumb(text=texts[8], up=False, weight=3.0)]
    return [*votes[:5], *rankings, *points, *(Rating(text=texts[9], stars=stars, weight=1.5) for stars in (1, 4))]


@pytest.mark.parametrize("head", HEADS)
def test_micro_batches_change_no_gradient(qwen: SharedBase, head: str) -> None:
    """Ragged, weighted rows of all kinds in few large batches or each alone: the same gradients."""
    model, rows = untrained(qwen, head), mixed()
    model.members[0].points = Points()
    whole, loss = gradient(model, rows, recipe(head, micro_batch_tokens=10_000))
    parts, again = gradient(model, rows, recipe(head, micro_batch_tokens=1))

    assert loss == pytest.approx(again, rel=1e-5)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


def test_a_ranking_is_its_pairs(qwen: SharedBase) -> None:
    """Three completions in order, weight 3: the loss and the gradient of three pairs of weight 1, from three passes."""
    model, texts = untrained(qwen, "last"), [vote.chosen for vote in pairs(3)]
    ranking = Ranking(texts=texts, ranks=[1, 2, 2], weight=3.0)
    order = [(0, 1, False), (0, 2, False), (1, 2, True)]
    whole = [Pair(chosen=texts[i], rejected=texts[j], tie=tie, weight=1.0) for i, j, tie in order]
    settings = recipe("last", label_smoothing=0.1)
    (share,) = reward_fit.shares(model.members[0], [ranking], None, settings, [0])
    with qwen.acting("reward"):
        assert share().tokens == sum(len(text) for text in texts)

    torch.testing.assert_close(gradient(model, [ranking], settings), gradient(model, whole, settings))


def test_a_step_is_one_mean_over_all_its_rows(qwen: SharedBase) -> None:
    """Σ w·l / Σ w by hand: a pair of weight 2 with a margin, a thumb and a rating that weigh half of theirs."""
    model, vote = untrained(qwen, "last"), pairs(1)[0]
    model.members[0].points = Points()
    pair = Pair(chosen=vote.chosen, rejected=vote.rejected, tie=False, weight=2.0, margin=0.7)
    thumb, rating = Thumb(text=vote.chosen, up=False, weight=1.0), Rating(text=vote.rejected, stars=5, weight=3.0)
    up, down = model.raw_scores([vote.chosen, vote.rejected])[0].tolist()
    compared = math.log1p(math.exp(0.7 - (up - down))) + 0.01 * (up + down) ** 2
    liked = math.log1p(math.exp(up))
    starred = math.log1p(math.exp(1.5 - down))  # fresh thresholds are −1.5, −0.5, 0.5 and 1.5

    _, loss = gradient(model, [pair, thumb, rating], recipe("last"))

    assert loss == pytest.approx((2 * compared + 0.5 * liked + 1.5 * starred) / (2 + 0.5 + 1.5), rel=1e-4)


@pytest.mark.parametrize("kind", ["rankings", "thumbs", "ratings"])
def test_it_learns_an_order_from(qwen: SharedBase, kind: str) -> None:
    """Rows of one kind alone teach which completions people like; new votes are predicted."""
    votes = [vote for vote in pairs(120, seed=1) if not vote.tie]
    rows: dict[str, list[Row]] = {
        "rankings": [Ranking(texts=[v.chosen, v.rejected], ranks=[1, 2], weight=1.0) for v in votes],
        "thumbs": [
            Thumb(text=t, up=up, weight=1.0) for v in votes for t, up in ((v.chosen, True), (v.rejected, False))
        ],
        "ratings": [Rating(text=t, stars=n, weight=1.0) for v in votes for t, n in ((v.chosen, 5), (v.rejected, 2))],
    }
    model, _ = reward_fit.fit(qwen, rows[kind], recipe("mean"), seed=0)

    assert reward_report.accuracy(model, pairs(60, seed=2))[0] > 0.75
    assert (model.members[0].points is None) == (kind == "rankings")


def test_members_are_models_of_other_seeds(qwen_directory: Path, tmp_path: Path) -> None:
    """The second of two is what the next seed trains alone; the score is their mean, with mean 0 and sd 1; the worst
    case is the lower of the two; and what is read back says the same."""
    votes, texts = pairs(24), [pair.chosen for pair in pairs(60, seed=3)]
    settings = recipe("mean")
    alone = []
    for seed in (3, 4):
        base = load_base(qwen_directory, base_sha256="0" * 64, attention="eager")
        alone.append(reward_fit.fit(base, votes, settings, seed=seed)[0].raw_scores(texts)[0])
    base = load_base(qwen_directory, base_sha256="0" * 64, attention="eager")
    several = settings.model_copy(update={"reward": settings.reward.model_copy(update={"members": 2})})
    model, steps = reward_fit.fit(base, votes, several, seed=3, out=tmp_path)
    assert torch.equal(model.raw_scores(texts), torch.stack(alone))
    assert len(steps) == 2 * len((tmp_path / "member-2" / "metrics.jsonl").read_text().splitlines())

    spread = model.set_scale(texts)
    each, score = model.member_scores(texts), model.score(texts)
    assert score.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert score.std().item() == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(each.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(score, (each[0] + each[1]) / 2)
    assert torch.equal(model.worst(texts), torch.minimum(*each))
    assert spread == pytest.approx(((each[0] - each[1]).abs() / 2).mean().item(), rel=1e-4)

    members = [Member(seed=0, mean=member.mean, test_accuracy=None) for member in model.members]
    model.save(tmp_path)
    (tmp_path / "reward.json").write_text(card(model, base).model_copy(update={"members": members}).model_dump_json())
    loaded, _ = load_reward_model(load_base_like(base), tmp_path)
    assert torch.equal(loaded.member_scores(texts), each)


def test_points_are_kept(qwen: SharedBase, tmp_path: Path) -> None:
    """What thumbs and ratings taught beside the head is read back, and thresholds still increase."""
    model, _ = reward_fit.fit(qwen, mixed(), recipe("mean"), seed=0)
    model.save(tmp_path)
    (tmp_path / "reward.json").write_text(card(model, qwen).model_dump_json())
    loaded, _ = load_reward_model(load_base_like(qwen), tmp_path)
    points, again = model.members[0].points, loaded.members[0].points

    assert points.bias.item() != 0
    assert torch.equal(points.thresholds, again.thresholds)
    assert torch.equal(points.bias, again.bias)
    assert (points.thresholds.diff() > 0).all()
    assert Points().thresholds.tolist() == [-1.5, -0.5, 0.5, 1.5]
