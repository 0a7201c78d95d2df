"""Several completions to each prompt and what a reward model thinks of them: best-of-n, and pairs of best and worst.

Stiennon et al. 2020, §4.1; rejection sampling for fine-tuning as in Touvron et al. 2023, "Llama 2", §3.2.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from training.data import Text
from training.model import SharedBase
from training.recipe import Recipe
from training.reward_model import RewardModel
from training.rollouts import sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """n completions to each of P prompts."""

    texts: list[Text]
    """P · n, those to one prompt together."""
    scores: Tensor
    """(P, n), float32."""

    def at(self, places: Tensor) -> list[Text]:
        """One text a prompt: `draws.at(draws.scores.argmax(1))` are the best."""
        size = self.scores.shape[1]
        return [self.texts[row * size + place] for row, place in enumerate(places.tolist())]


def draw(
    base: SharedBase,
    role: str | None,
    prompts: Sequence[list[int]],
    judge: RewardModel,
    recipe: Recipe,
    *,
    n: int,
    seed: int,
    share: tuple[float, float] = (0.0, 1.0),
) -> Draws:
    """n samples of a role at temperature 1 to each prompt, scored."""
    repeated = [prompt for prompt in prompts for _ in range(n)]
    texts = sample(base, role, repeated, recipe.sampling, seed=seed, message=f"{n} answers each", share=share)
    scores = judge.score(texts, tokens=recipe.micro_batch_tokens)
    return Draws(texts=texts, scores=scores.view(len(prompts), n))
