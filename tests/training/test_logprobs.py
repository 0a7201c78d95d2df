"""Chunked log-probs and KL against the naive way, and against everything that padding could do."""

import math

import pytest
import torch
from torch import Tensor

from training import logprobs

ROWS, WIDTH, VOCABULARY = 11, 8, 53


def naive(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    return (hidden @ head.T).log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def random_case(seed: int = 0, vocabulary: int = VOCABULARY) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) * 2
    head = torch.randn(vocabulary, WIDTH, generator=generator, dtype=torch.float64)
    return hidden, head, torch.randint(vocabulary, (ROWS,), generator=generator)


@pytest.mark.parametrize("chunk_rows", [1, 7, ROWS])
@pytest.mark.parametrize("vocabulary", [2, 52, 53])
def test_chunked_equals_naive(chunk_rows: int, vocabulary: int) -> None:
    """Value within 1e-5 and gradient within 1e-6 of log_softmax in float64, whatever the chunk and the vocabulary."""
    hidden, head, targets = random_case(vocabulary=vocabulary)
    exact = hidden.clone().requires_grad_()
    own = hidden.float().requires_grad_()
    weights = torch.linspace(-1, 2, ROWS, dtype=torch.float64)

    expected = naive(exact, head, targets)
    actual = logprobs.token_logprobs(own, head.float(), targets, chunk_rows=chunk_rows)
    (expected * weights).sum().backward()
    (actual * weights.float()).sum().backward()

    torch.testing.assert_close(actual.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(own.grad.double(), exact.grad, atol=1e-5, rtol=1e-5)


def test_peaked_logits() -> None:
    """Logits of ±500 neither overflow nor lose the certain token: its log-prob is 0, the other's −1000."""
    head = torch.tensor([[1.0], [-1.0]])

    actual = logprobs.token_logprobs(torch.tensor([[500.0], [500.0]]), head, torch.tensor([0, 1]))

    assert actual.tolist() == [0.0, -1000.0]


def test_bfloat16_is_close_and_unbiased() -> None:
    """bf16 products with float32 sums: at most 0.05 a token from float32, and no drift in the mean."""
    generator = torch.Generator().manual_seed(1)
    hidden, head = torch.randn(4000, 64, generator=generator), torch.randn(997, 64, generator=generator) * 0.2
    targets = torch.randint(997, (4000,), generator=generator)

    exact = logprobs.token_logprobs(hidden, head, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rough = logprobs.token_logprobs(hidden, head, targets)

    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() <= 5e-2
    assert (rough - exact).mean().abs() <= 2e-3


def test_first_completion_token_is_scored_from_the_last_prompt_position() -> None:
    """Token i is predicted at i − 1: with one-hot states and an identity head the sum can be read off."""
    hidden = torch.zeros(1, 4, 5)
    hidden[0, 1, 3] = math.log(2)  # position 1, the last of the prompt, makes token 3 twice as likely as each other
    token_ids = torch.tensor([[0, 1, 3, 4]])
    completion = torch.tensor([[False, False, True, True]])

    actual = logprobs.sequence_logps(hidden, torch.eye(5), token_ids, completion)

    assert actual.item() == pytest.approx(math.log(2 / 6) + math.log(1 / 5))


def test_a_fully_masked_row_is_zero_with_zero_gradient() -> None:
    """A row without completion tokens neither counts nor turns anything into NaN."""
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    completion = torch.tensor([[False, True, True], [False, False, False]])

    actual = logprobs.sequence_logps(hidden, torch.randn(6, 4), torch.tensor([[1, 2, 3], [1, 2, 3]]), completion)
    actual.sum().backward()

    assert actual[1].item() == 0.0
    assert hidden.grad[0].abs().sum() > 0
    assert hidden.grad[1].abs().sum() == 0


def test_surprise_is_logprob_and_gap_to_the_likeliest() -> None:
    """For probabilities ½, ¼, ¼ token 1 has log-prob ln ¼ and a gap of ln ½; the likeliest has gap 0."""
    head = torch.tensor([[math.log(2)], [0.0], [0.0]])

    actual = logprobs.token_surprise(torch.ones(2, 1), head, torch.tensor([0, 1]))

    torch.testing.assert_close(actual, torch.tensor([[math.log(0.5), 0.0], [math.log(0.25), math.log(0.5)]]))


def test_kl_by_hand_and_to_itself() -> None:
    """KL((¾, ¼) ‖ (½, ½)) = ¾ ln 3/2 + ¼ ln 1/2; KL of a policy to itself is exactly 0."""
    head = torch.tensor([[1.0], [0.0]])
    p, q = torch.tensor([[math.log(3)]]), torch.tensor([[0.0]])

    assert logprobs.token_kl(p, q, head).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert logprobs.token_kl(p, p, head).item() == 0.0


@pytest.mark.parametrize("chunk_rows", [1, 7, ROWS])
def test_kl_of_bfloat16_states_is_computed_in_float32(chunk_rows: int) -> None:
    """From bf16 states the KL is within 1e-3 of float64 on the same states: the sums are never bf16."""
    hidden, head, _ = random_case()
    p, q = hidden.bfloat16(), (hidden + 0.1).bfloat16()
    expected = _exact_kl(p, q, head.bfloat16())

    actual = logprobs.token_kl(p, q, head.bfloat16(), chunk_rows=chunk_rows)

    torch.testing.assert_close(actual.double(), expected, atol=1e-3, rtol=0)


def _exact_kl(p: Tensor, q: Tensor, head: Tensor) -> Tensor:
    first, second = ((states.double() @ head.double().T).log_softmax(-1) for states in (p, q))
    return (first.exp() * (first - second)).sum(-1)
