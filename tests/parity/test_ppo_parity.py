"""PPO's arithmetic against one recorded update of TRL 1.12.0 (record_trl_ppo.py), and against a step in plain numpy.

TRL's choices where ours differ by default: the score stands behind the end-of-text token, whitening divides by n − 1,
the critic's mean includes that place too.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from training import advantages, losses, ppo_losses

RECORD = json.loads(Path(__file__).with_name("trl_ppo.json").read_text())
SETTINGS = RECORD["settings"]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def recorded(name: str, place: dict[str, object] | None = None) -> Tensor:
    return torch.tensor((place or RECORD["rollout"])[name])


MASK = ~recorded("padding_mask")
"""Tokens of the answers; `with_next` is TRL's mask "p1"."""


def with_next(mask: Tensor) -> Tensor:
    """The mask and one place more in each row: where `post_eos` puts the score and a value is still read."""
    return mask | torch.cat([mask[:, :1], mask[:, :-1]], dim=1)


def mean(values: Tensor, mask: Tensor) -> float:
    return losses.weighted_mean(values, mask.float(), mask.sum().item()).item()


def test_the_recording_is_ragged_and_moves() -> None:
    """Answers of several lengths, with and without an end; the second epoch clips some ratios but not all."""
    lengths = MASK.sum(-1)

    assert len(lengths.unique()) > 2
    assert 0 < recorded("contain_eos_token").sum() < len(lengths)
    assert 0 < RECORD["updates"][1]["pg_clipfrac"] < 1


def test_rewards() -> None:
    """−β·k1 on each token, the score behind the last one; the recorded scores have lost their penalty already."""
    kl = advantages.kl_estimate(recorded("logprobs"), recorded("ref_logprobs"))
    actual = advantages.token_rewards(recorded("scores"), kl, MASK, beta=SETTINGS["kl_coef"], score_at="post_eos")

    torch.testing.assert_close(actual, recorded("rewards"), **CLOSE)
    assert torch.equal(with_next(MASK), ~recorded("padding_mask_p1"))


def test_advantages_and_returns() -> None:
    """Generalized advantage estimation over the answer and the place behind it, then whitened over the answers."""
    mask = with_next(MASK)
    actual, returns = advantages.gae(
        recorded("rewards"), recorded("values"), mask, gamma=SETTINGS["gamma"], lam=SETTINGS["lam"]
    )

    torch.testing.assert_close(actual[mask], recorded("advantages")[mask], **CLOSE)
    torch.testing.assert_close(returns[mask], recorded("returns")[mask], **CLOSE)
    torch.testing.assert_close(advantages.whiten(actual, MASK, bessel=True)[MASK], recorded("whitened")[MASK], **CLOSE)


@pytest.mark.parametrize("epoch", [0, 1])
def test_losses_and_clipping(epoch: int) -> None:
    """In the first epoch the ratio is 1 and nothing is clipped; in the second the clipped branches count."""
    update = RECORD["updates"][epoch]
    rows = recorded("micro_batch_inds", update)
    mask, critic = MASK[rows], with_next(MASK)[rows]
    new, old = recorded("new_logprobs", update), recorded("logprobs")[rows]
    gain, clip = recorded("mb_advantage", update), SETTINGS["cliprange"]

    policy = mean(ppo_losses.policy_loss(new, old, gain, clip=clip), mask)
    value = mean(
        ppo_losses.value_loss(
            recorded("vpred", update),
            recorded("values")[rows],
            recorded("mb_return", update),
            clip=SETTINGS["cliprange_value"],
        ),
        critic,
    )
    clipped = mean(ppo_losses.is_clipped(new, old, gain, clip=clip).float(), mask)

    assert update["pg_loss"] == pytest.approx(policy, abs=1e-5)
    assert update["vf_loss"] == pytest.approx(value, abs=1e-5)
    assert update["loss"] == pytest.approx(policy + SETTINGS["vf_coef"] * value, abs=1e-5)
    assert update["pg_clipfrac"] == pytest.approx(clipped, abs=1e-6)
    torch.testing.assert_close(ppo_losses.ratio(new, old)[mask], recorded("ratio", update)[mask], **CLOSE)


@pytest.mark.parametrize("score_at", ["eos", "post_eos"])
def test_a_whole_step_in_plain_numpy(score_at: advantages.Placement) -> None:
    """From log-probs, values and scores to the loss, row by row and token by token, in float64 loops."""
    rng = np.random.default_rng(0)
    shape, lengths = (3, 5), [5, 2, 4]
    old, reference, new, values, moved = (rng.normal(size=shape) for _ in range(5))
    new, moved = old + 0.2 * new, values + 0.3 * moved
    scores, beta, gamma, lam, clip, clip_value = rng.normal(size=3), 0.1, 0.97, 0.9, 0.1, 0.2
    expected = _numpy_step(
        old, reference, new, values, moved, scores, lengths, beta, gamma, lam, clip, clip_value, score_at == "post_eos"
    )

    tensors = [torch.tensor(array) for array in (old, reference, new, values, moved, scores)]
    old_, reference_, new_, values_, moved_, scores_ = tensors
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    critic = with_next(mask) if score_at == "post_eos" else mask
    kl = advantages.kl_estimate(old_, reference_)
    rewards = advantages.token_rewards(scores_, kl, mask, beta=beta, score_at=score_at)
    gains, returns = advantages.gae(rewards, values_, critic, gamma=gamma, lam=lam)
    white = advantages.whiten(gains, mask)
    actual = (
        mean(ppo_losses.policy_loss(new_, old_, white, clip=clip), mask),
        mean(ppo_losses.value_loss(moved_, values_, returns, clip=clip_value), critic),
    )

    np.testing.assert_allclose(actual, expected, atol=1e-6)


def _numpy_step(
    old: np.ndarray,
    reference: np.ndarray,
    new: np.ndarray,
    values: np.ndarray,
    moved: np.ndarray,
    scores: np.ndarray,
    lengths: list[int],
    beta: float,
    gamma: float,
    lam: float,
    clip: float,
    clip_value: float,
    behind: bool,
) -> tuple[float, float]:
    """Policy loss and value loss of one step, written out from the equations."""
    gains: list[list[float]] = []
    for row, length in enumerate(lengths):
        last = min(length, old.shape[1] - 1) if behind else length - 1
        rewards = [-beta * (old[row, t] - reference[row, t]) if t < length else 0.0 for t in range(last + 1)]
        rewards[last] += scores[row]
        gain = [0.0] * (last + 2)
        for t in range(last, -1, -1):
            following = values[row, t + 1] if t < last else 0.0
            gain[t] = rewards[t] + gamma * following - values[row, t] + gamma * lam * gain[t + 1]
        gains.append(gain[:-1])
    policy, critic = [], []
    known = [gains[row][t] for row, length in enumerate(lengths) for t in range(length)]
    for row, length in enumerate(lengths):
        for t, gain in enumerate(gains[row]):
            goal, step = gain + values[row, t], np.clip(moved[row, t] - values[row, t], -clip_value, clip_value)
            critic.append(0.5 * max((moved[row, t] - goal) ** 2, (values[row, t] + step - goal) ** 2))
            if t < length:
                white = (gain - np.mean(known)) / np.sqrt(np.var(known) + 1e-8)
                rho = np.exp(new[row, t] - old[row, t])
                policy.append(max(-white * rho, -white * np.clip(rho, 1 - clip, 1 + clip)))
    return float(np.mean(policy)), float(np.mean(critic))
