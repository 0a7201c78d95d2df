"""PPO on a tiny model: the identities at the start, the invariances, that it learns and that the KL term holds it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.conftest import EOS
from training import ppo_fit
from training.data import Text
from training.experience import POLICY, REFERENCE, Experience, experience
from training.model import SharedBase
from training.ppo_fit import Iterations, StoredRollouts
from training.recipe import LoraRecipe, PpoRecipe, Recipe, SamplingRecipe
from training.rollouts import Rollout, roll_out
from training.value_model import ValueModel

LORA = LoraRecipe(rank=4, alpha=8)
FAST = {"learning_rate": 2e-2, "rollouts": 64, "batch_rows": 32, "iterations": 8}
PROMPTS = [[4, *range(30, 30 + length), 5] for length in (7, 1, 3, 5, 2, 4)]


class LikesLowTokens:
    """A reward that is known: the share of tokens below 50, from −1 to 1."""

    def score(self, texts: Sequence[Text], *, tokens: int) -> Tensor:
        return torch.tensor([2 * sum(token < 50 for token in t.completion) / len(t.completion) - 1 for t in texts])


class Doubted(LikesLowTokens):
    """Another member thinks nothing of any answer."""

    def worst(self, texts: Sequence[Text], *, tokens: int) -> Tensor:
        return self.score(texts, tokens=tokens).clamp(max=-2.0)


def recipe(*, micro_batch_tokens: int = 16384, **changes: object) -> Recipe:
    settings = {"learning_rate": 1e-2, "value_learning_rate": 1e-2, "iterations": 12, "rollouts": 24, "batch_rows": 12}
    ppo = PpoRecipe(**(settings | {"beta": 0.02, "warmup": 0.0, "group": 4} | changes))
    sampling = SamplingRecipe(max_new_tokens=8, batch_size=16)
    return Recipe(precision="float32", lora=LORA, ppo=ppo, sampling=sampling, micro_batch_tokens=micro_batch_tokens)


def with_roles(base: SharedBase) -> SharedBase:
    """Policy and reference compute the same function, and it is not the base's."""
    for role in (POLICY, REFERENCE):
        base.add_fresh(role, LORA, seed=0)
        generator = torch.Generator().manual_seed(1)
        for parameter in base.parameters(role).values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return base


def iterations(base: SharedBase, settings: Recipe, *, reference: str | None = REFERENCE) -> Iterations:
    gae = settings.ppo.advantage == "gae"
    return Iterations(
        base=base,
        prompts=PROMPTS,
        reward=LikesLowTokens(),
        value=ValueModel(base.head.shape[1], seed=0) if gae else None,
        recipe=settings,
        reference=reference,
        sampler=lambda prompts, seed: roll_out(base, POLICY, prompts, settings.sampling, seed=seed),
        own_sampler=True,
    )


def test_the_first_ratio_is_1(base: SharedBase) -> None:
    """Before the first update the policy is the one that sampled and the one it is held to, which is not the base:
    ratio 1, nothing clipped, KL 0; the sampler's log-probs are the trainer's; the critic says 0."""
    metrics = ppo_fit.fit(iterations(with_roles(base), recipe(iterations=1, epochs=1)))[0]

    assert metrics.ratio == pytest.approx(1.0, abs=1e-5)
    assert metrics.clipped == 0.0
    assert metrics.approximate_kl == pytest.approx(0.0, abs=1e-9)
    assert metrics.kl == pytest.approx(0.0, abs=1e-4)
    assert metrics.kl_exact == pytest.approx(0.0, abs=1e-4)
    assert metrics.mismatch_p95 < 1e-4
    assert (metrics.capped, metrics.explained_variance) == (0.0, pytest.approx(0.0, abs=1e-5))


@pytest.mark.parametrize("advantage", ["gae", "grpo", "rloo"])
def test_it_learns_what_is_rewarded(qwen: SharedBase, advantage: str) -> None:
    """After a few iterations the reward has risen, and the policy has left the reference; only the policy moved."""
    qwen = with_roles(qwen)
    frozen = {name: tensor.clone() for name, tensor in qwen.parameters(REFERENCE).items()}
    metrics = ppo_fit.fit(iterations(qwen, recipe(advantage=advantage, **FAST)))

    assert metrics[-1].reward > metrics[0].reward + 0.12
    assert metrics[-1].kl_exact > 0.1
    for name, tensor in qwen.parameters(REFERENCE).items():
        assert torch.equal(tensor, frozen[name])


def test_a_stronger_kl_term_keeps_it_nearer(qwen: SharedBase) -> None:
    """Trap 31: with beta 0.5 the KL ends at less than half of what it is with 0."""
    qwen = with_roles(qwen)
    start = {name: tensor.clone() for name, tensor in qwen.parameters(POLICY).items()}
    ends = []
    for beta in (0.0, 0.5):
        for name, tensor in qwen.parameters(POLICY).items():
            tensor.data.copy_(start[name])
        ends.append(ppo_fit.fit(iterations(qwen, recipe(beta=beta, **FAST)))[-1].kl_exact)

    assert ends[1] < ends[0] / 2


def gradients(base: SharedBase, value: ValueModel, found: Experience, settings: Recipe) -> tuple[Tensor, Tensor, int]:
    """Of policy and critic over one step, and its number of micro-batches."""
    parts = iterations(base, settings)
    parts.value, parts._current = value, (0, found)
    parameters = [*base.parameters(POLICY).values(), *value.parameters()]
    for parameter in parameters:
        parameter.grad = None
    shares = [compute() for compute in parts.shares(range(24))]
    for share in shares:
        share.loss.backward()
    critic = torch.cat([parameter.grad.flatten() for parameter in value.parameters()])
    return torch.cat([p.grad.flatten() for p in base.parameters(POLICY).values()]), critic, len(shares)


def test_micro_batches_change_no_gradient(base: SharedBase) -> None:
    """Traps 14 and 15: 24 ragged rollouts at once or one by one give policy and critic the same gradients."""
    base, value = with_roles(base), ValueModel(base.head.shape[1], seed=0)
    torch.nn.init.normal_(value.outer.weight, generator=torch.Generator().manual_seed(2))
    settings = recipe()
    rollouts = roll_out(base, POLICY, PROMPTS * 4, settings.sampling, seed=0)
    found = experience(base, rollouts, LikesLowTokens(), value, settings, reference=None, beta=0.1, own_sampler=True)
    whole, critic, one = gradients(base, value, found, settings)
    split, split_critic, many = gradients(base, value, found, recipe(micro_batch_tokens=1))

    assert (one, many) == (1, 24)
    assert critic.abs().max() > 1e-4
    torch.testing.assert_close(whole, split, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(critic, split_critic, rtol=1e-4, atol=1e-6)


def test_a_foreign_sampler_is_corrected(base: SharedBase) -> None:
    """An engine whose log-probs are off by ln 1.5 gets the weight 1.5, one that is off by ln 4 the weight 2, and its
    share of capped tokens is told. Padding never counts."""
    base, settings = with_roles(base), recipe()
    own = roll_out(base, POLICY, PROMPTS * 4, settings.sampling, seed=0)
    for factor, weight, capped in ((1.5, 1.5, 0.0), (4.0, 2.0, 1.0)):
        shift = torch.tensor(factor).log().item()
        foreign = [Rollout(text=r.text, logprobs=[value - shift for value in r.logprobs]) for r in own]
        found = experience(base, foreign, LikesLowTokens(), None, settings, reference=None, beta=0.1, own_sampler=False)

        assert found.weights[found.mask].tolist() == pytest.approx([weight] * int(found.mask.sum()), abs=1e-3)
        assert found.figures.capped == capped
        assert found.figures.mismatch_p95 == pytest.approx(shift, abs=1e-3)


def test_a_sampler_that_is_far_off_is_told(qwen: SharedBase, caplog: pytest.LogCaptureFixture) -> None:
    """A sampler whose tokens are a fifth as likely as it says raises the alarm; our own never does."""
    parts = iterations(with_roles(qwen), recipe(iterations=1))
    own = parts.sampler
    parts.own_sampler = False
    parts._make(0)
    assert not caplog.records

    parts.sampler = lambda prompts, seed: [
        Rollout(text=r.text, logprobs=[value - 1.6 for value in r.logprobs]) for r in own(prompts, seed)
    ]
    parts._make(1)
    assert "100.0 % of weights capped" in caplog.text


def test_an_answer_that_was_cut_is_worth_less(base: SharedBase) -> None:
    """The same words with and without end-of-text: whoever did not come to an end has the lower advantages."""
    settings = recipe(missing_eos_penalty=5.0)
    texts = [Text(prompt=[4, 5], completion=[40, 41, EOS]), Text(prompt=[4, 5], completion=[40, 41, 42])]
    base.add_fresh(POLICY, LORA, seed=0)
    rollouts = [Rollout(text=text, logprobs=[-1.0] * 3) for text in texts]
    value = ValueModel(base.head.shape[1], seed=0)
    found = experience(base, rollouts, LikesLowTokens(), value, settings, reference=None, beta=0.0, own_sampler=True)

    assert (found.advantages[0] > 0).all()
    assert (found.advantages[1] < 0).all()
    assert found.figures.ended == 0.5
    assert found.returns[1, -1].item() == pytest.approx(1.0 - 5.0)


def test_the_worst_member_counts_where_it_is_asked_for(base: SharedBase) -> None:
    """The reward of an iteration is the ensemble's mean, or what its most doubtful member says."""
    base.add_fresh(POLICY, LORA, seed=0)
    rollouts = [Rollout(text=Text(prompt=[4, 5], completion=[40, EOS]), logprobs=[-1.0] * 2)] * 2
    for ensemble, reward in (("mean", 1.0), ("worst", -2.0)):
        settings = recipe(ensemble=ensemble)
        found = experience(base, rollouts, Doubted(), None, settings, reference=None, beta=0.0, own_sampler=True)
        assert found.figures.reward == reward


def test_beta_follows_the_kl(qwen: SharedBase) -> None:
    """A KL far below its target weakens beta by a fifth of n / horizon an iteration; it stays within an iteration."""
    settings = recipe(iterations=3, kl_target=1000.0, kl_horizon=48.0)
    metrics = ppo_fit.fit(iterations(with_roles(qwen), settings))

    expected = [0.02 * 0.9**i for i in range(3) for _ in range(4)]
    assert [step.beta for step in metrics] == pytest.approx(expected)


def test_an_adaptive_beta_does_not_start_at_0() -> None:
    """It is changed by factors, so it would stay there."""
    with pytest.raises(ValueError, match="beta cannot be 0"):
        recipe(beta=0.0, kl_target=1.0)


def test_it_stops_at_a_kl(qwen: SharedBase) -> None:
    """It ends with the first iteration that was further away than asked, and not within one."""
    metrics = ppo_fit.fit(iterations(with_roles(qwen), recipe(kl_stop=0.05)))

    assert len(metrics) % 4 == 0
    assert metrics[-1].kl > 0.05
    assert all(step.kl <= 0.05 for step in metrics[:-4])
    assert len(metrics) < 48


def test_every_prompt_in_its_turn() -> None:
    """Over whole passes each prompt is drawn equally often, in another order each time and with another seed."""
    drawn = [ppo_fit.drawn_prompts(PROMPTS, 4, seed=0, iteration=i) for i in range(6)]
    counts = Counter(tuple(prompt) for draw in drawn for prompt in draw)

    assert set(counts.values()) == {4}
    assert len({tuple(map(tuple, draw)) for draw in drawn}) > 3
    assert drawn[0] != ppo_fit.drawn_prompts(PROMPTS, 4, seed=1, iteration=0)


def test_groups_answer_one_prompt(qwen: SharedBase) -> None:
    """GRPO compares completions to the same prompt: advantages of each four add up to 0."""
    settings = recipe(advantage="rloo", iterations=1)
    parts = iterations(with_roles(qwen), settings)
    parts.shares(range(24))
    assert parts._current is not None
    found = parts._current[1]

    for start in range(0, 24, 4):
        assert len({tuple(text.prompt) for text in found.texts[start : start + 4]}) == 1
        assert found.advantages[start : start + 4, 0].sum().item() == pytest.approx(0.0, abs=1e-5)


def test_what_was_drawn_is_not_drawn_again(qwen: SharedBase, tmp_path: Path) -> None:
    """Rollouts that a killed attempt left are used as they are; those of another training or iteration are not."""
    parts = iterations(with_roles(qwen), recipe(iterations=1))
    parts.out, parts.identity = tmp_path, "this training"
    left = [Rollout(text=Text(prompt=[4, 5], completion=[77, 78, EOS]), logprobs=[-0.1, -1 / 3, -2.5])] * 24
    for identity, iteration, used in (("this training", 0, True), ("another", 0, False), ("this training", 1, False)):
        stored = StoredRollouts(identity=identity, iteration=iteration, rollouts=left)
        (tmp_path / ppo_fit.ROLLOUTS).write_text(stored.model_dump_json())
        found = parts._rollouts(0)

        assert (found == left) is used
        written = StoredRollouts.model_validate_json((tmp_path / ppo_fit.ROLLOUTS).read_text())
        assert (written.identity, written.iteration, written.rollouts) == ("this training", 0, found)
