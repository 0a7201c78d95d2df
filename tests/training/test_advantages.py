"""From scores to advantages: hand values, and plain loops over ragged, non-square batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training import advantages

LENGTHS = [3, 1, 5, 4]
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]


def random(seed: int) -> Tensor:
    return torch.randn((4, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_three_estimators() -> None:
    """k = log π − log π_ref = ln 2: k1 = 0.6931, k2 = 0.2402, k3 = ½ − 1 + ln 2 = 0.1931; at k = 0 all are 0."""
    policy, reference = torch.tensor([math.log(0.5), 0.3]), torch.tensor([math.log(0.25), 0.3])
    expected = {"k1": 0.693147, "k2": 0.240227, "k3": 0.193147}

    for kind, value in expected.items():
        assert advantages.kl_estimate(policy, reference, kind).tolist() == pytest.approx([value, 0.0], abs=1e-6)


def test_k1_and_k3_have_the_mean_of_the_kl() -> None:
    """Σ p·k1 = Σ p·k3 = KL(p‖q) for whole distributions; k2 is another number."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.3])
    kl = (p * (p / q).log()).sum().item()
    means = {kind: (p * advantages.kl_estimate(p.log(), q.log(), kind)).sum().item() for kind in ("k1", "k2", "k3")}

    assert means["k1"] == pytest.approx(kl, abs=1e-6)
    assert means["k3"] == pytest.approx(kl, abs=1e-6)
    assert abs(means["k2"] - kl) > 1e-3


def test_a_missing_end_costs() -> None:
    """Only completions without end-of-text: 1 less, or −1 whatever they were worth. A score of 0.0 is a score."""
    scores, ended = torch.tensor([2.0, 0.0, 3.0]), torch.tensor([True, True, False])

    assert advantages.end_penalty(scores, ended, 1.0).tolist() == [2.0, 0.0, 2.0]
    assert advantages.end_penalty(scores, ended, 1.0, overwrite=True).tolist() == [2.0, 0.0, -1.0]


def test_the_score_stands_on_the_last_token() -> None:
    """For lengths 1, mid and the longest (trap 36); `post_eos` is one further, where the row has a place there."""
    scores = torch.tensor([10.0, 20.0, 30.0, 40.0])
    kl = torch.ones(4, 5)
    at_eos = advantages.token_rewards(scores, kl, MASK, beta=0.5)
    behind = advantages.token_rewards(scores, kl, MASK, beta=0.5, score_at="post_eos")

    assert at_eos.tolist() == [
        [-0.5, -0.5, 9.5, 0.0, 0.0],
        [19.5, 0.0, 0.0, 0.0, 0.0],
        [-0.5, -0.5, -0.5, -0.5, 29.5],
        [-0.5, -0.5, -0.5, 39.5, 0.0],
    ]
    assert behind[:, 3].tolist() == [10.0, 0.0, -0.5, -0.5]
    assert behind[:, 4].tolist() == [0.0, 0.0, 29.5, 40.0]
    assert behind[1].tolist() == [-0.5, 20.0, 0.0, 0.0, 0.0]


def test_gae_by_hand() -> None:
    """Rewards 1, 2, values 0.5, 0.25, γ = 0.5, λ = 0.5: A₁ = 1.75, A₀ = 0.625 + 0.25 · 1.75; returns are A + V."""
    rewards, values = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.5, 0.25, 9.0]])
    gains, returns = advantages.gae(rewards, values, torch.tensor([[True, True, False]]), gamma=0.5, lam=0.5)

    assert gains.tolist() == [[1.0625, 1.75, 0.0]]
    assert returns.tolist() == [[1.5625, 2.0, 0.0]]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.0), (0.97, 1.0)])
def test_gae_equals_the_sum_of_discounted_errors(gamma: float, lam: float) -> None:
    """A_t = Σ_l (γλ)^l δ_{t+l}, each row by itself, whatever stands behind its end."""
    rewards, values = random(0), random(1)
    gains, returns = advantages.gae(rewards, values, MASK, gamma=gamma, lam=lam)

    for row, length in enumerate(LENGTHS):
        following = [*values[row, 1:length].tolist(), 0.0]
        errors = [rewards[row, t].item() + gamma * following[t] - values[row, t].item() for t in range(length)]
        for t in range(length):
            expected = sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, length))
            assert gains[row, t].item() == pytest.approx(expected, abs=1e-12)
            assert returns[row, t].item() == pytest.approx(expected + values[row, t].item(), abs=1e-12)
    assert not gains[~MASK].any()
    assert not returns[~MASK].any()


def test_gae_steps_over_tokens_that_are_not_the_policys() -> None:
    """A tool's words in the middle of a row change nothing: the row without them has the same advantages."""
    mask = torch.tensor([[True, False, False, True, True]])
    rewards, values = random(2)[:1], random(3)[:1]
    gains, _ = advantages.gae(rewards, values, mask, gamma=0.9, lam=0.8)
    short, _ = advantages.gae(rewards[mask][None], values[mask][None], torch.ones(1, 3) > 0, gamma=0.9, lam=0.8)

    assert gains[mask].tolist() == short[0].tolist()


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_whitening_against_numpy(seed: int, shift: bool, bessel: bool) -> None:
    """Mean and variance over existing tokens only, population's or Bessel's; the mean is kept if asked (trap 34)."""
    values = random(seed)
    known = values[MASK].numpy()
    sd = math.sqrt(np.var(known, ddof=int(bessel)) + 1e-8)
    expected = (known - known.mean()) / sd + (0.0 if shift else known.mean())
    actual = advantages.whiten(values, MASK, shift=shift, bessel=bessel)

    np.testing.assert_allclose(actual[MASK].numpy(), expected, atol=1e-12)
    assert not actual[~MASK].any()


def test_padding_changes_nothing() -> None:
    """A hundred empty columns more, full of nonsense: the same advantages (trap 19)."""
    wide = [torch.cat([random(seed), torch.full((4, 100), math.nan, dtype=torch.float64)], 1) for seed in (0, 1)]
    mask = torch.cat([MASK, torch.zeros((4, 100), dtype=torch.bool)], 1)
    narrow, _ = advantages.gae(random(0), random(1), MASK, gamma=1.0, lam=0.95)
    actual, _ = advantages.gae(*wide, mask, gamma=1.0, lam=0.95)

    torch.testing.assert_close(actual[:, :5], narrow)
    torch.testing.assert_close(advantages.whiten(actual, mask)[:, :5], advantages.whiten(narrow, MASK))


def test_groups_by_hand() -> None:
    """Scores 1, 2, 6 for one prompt: mean 3, sd √7; the others' means are 4, 3.5 and 1.5. A second prompt apart."""
    scores = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    root = math.sqrt(7) + 1e-4

    assert advantages.grpo(scores)[0].tolist() == pytest.approx([-2 / root, -1 / root, 3 / root], abs=1e-6)
    assert advantages.rloo(scores)[0].tolist() == pytest.approx([-3.0, -1.5, 4.5], abs=1e-6)
    assert advantages.grpo(scores)[1].tolist() == advantages.rloo(scores)[1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("estimate", [advantages.grpo, advantages.rloo])
def test_a_group_of_one_is_refused(estimate: object) -> None:
    """All of its advantages would be 0 (trap 33)."""
    with pytest.raises(ValueError, match="two completions"):
        estimate(torch.ones(4, 1))  # type: ignore[operator]


def test_the_adaptive_beta() -> None:
    """10 % above the target: ·(1 + 0.1 n/h); far above: ·(1 + 0.2 n/h); far below: ·(1 − 0.2 n/h)."""
    after = [advantages.next_beta(0.1, kl, target=6.0, horizon=1000.0, rollouts=100) for kl in (6.0, 6.6, 60.0, 0.0)]

    assert after == pytest.approx([0.1, 0.101, 0.102, 0.098])


def test_explained_variance() -> None:
    """1 for a critic that knows, 0 for one that says the mean, worse than 0 for one that says the opposite."""
    returns, mask = torch.tensor([[1.0, 3.0, 100.0]]), torch.tensor([[True, True, False]])

    for values, expected in [([1.0, 3.0], 1.0), ([2.0, 2.0], 0.0), ([-1.0, -3.0], -3.0)]:
        actual = advantages.explained_variance(torch.tensor([[*values, -7.0]]), returns, mask)
        assert actual == pytest.approx(expected, abs=1e-6)
