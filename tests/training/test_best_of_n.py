"""Several completions a prompt and the one that a reward model likes most."""

import torch

from training.best_of_n import Draws, draw
from training.data import Text
from training.model import SharedBase
from training.on_policy import ranked
from training.recipe import Recipe, SamplingRecipe
from training.reward_model import RewardModel

PROMPTS = [[4, 40, 5], [4, 41, 42, 5], [4, 43, 5]]


def text(*completion: int) -> Text:
    return Text(prompt=[4, 5], completion=list(completion))


def draws() -> Draws:
    texts = [text(1), text(2), text(3), text(4), text(5), text(6)]
    return Draws(texts=texts, scores=torch.tensor([[0.1, 0.9, -3.0], [2.0, 2.0, 2.0]]))


def test_the_best_by_hand() -> None:
    """Of scores (.1, .9, −3) the second is best and the third worst; among equal ones the first is taken."""
    assert draws().at(draws().scores.argmax(1)) == [text(2), text(4)]
    assert draws().at(draws().scores.argmin(1)) == [text(3), text(4)]


def test_a_pair_of_equal_scores_weighs_nothing() -> None:
    """Best against worst; where all are worth the same there is nothing to prefer."""
    first, second = ranked(draws())

    assert (first.chosen, first.rejected, first.weight) == (text(2), text(3), 1.0)
    assert second.weight == 0.0


def test_draws_are_in_the_order_of_the_prompts(qwen: SharedBase) -> None:
    """Three answers to each prompt, each scored as it is when scored alone."""
    qwen.add_fresh("reward", Recipe().lora, seed=3)
    judge = RewardModel(qwen, "last", seed=0)
    recipe = Recipe(sampling=SamplingRecipe(max_new_tokens=5))

    found = draw(qwen, None, PROMPTS, judge, recipe, n=3, seed=0)

    assert [each.prompt for each in found.texts] == [prompt for prompt in PROMPTS for _ in range(3)]
    assert found.scores.shape == (3, 3)
    for place, each in enumerate(found.texts):
        torch.testing.assert_close(judge.score([each])[0], found.scores.flatten()[place], rtol=0, atol=1e-4)
