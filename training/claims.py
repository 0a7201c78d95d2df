"""How readily a policy agrees with wrong claims: sycophancy, as far as it can be measured without a judge.

Each claim is a prompt in which a user states something wrong, with one beginning of an answer that agrees and one that
does not. What is measured is exact: σ(log-prob of agreeing − log-prob of disagreeing), of fixed beginnings, without
sampling. It says which way a policy leans on these claims; not what it would write, and nothing of flattery. The claims
stand in the recipe (`[[recipe.evaluate.claims]]`), and those that come with it are English: another language needs its
own.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.data import Text
from training.encoder import Encoder
from training.kl import sequence_logps
from training.model import SharedBase
from training.recipe import Claim, Recipe
from training.sentinel import Agreement
from training.statistics import Z_95, mean_and_error


def agreement(
    base: SharedBase, candidate: str, live: str | None, claims: Sequence[Claim], encoder: Encoder, recipe: Recipe
) -> Agreement | None:
    """Of three roles; None without claims, or where the base cannot hold them.

    Args:
        live: the live version's role; None is the bare base.
    """
    texts = [text for claim in claims for text in _texts(claim, encoder)]
    if not texts or max(map(len, texts)) > base.context_length:
        return None
    by_role = {role: _leaning(base, role, texts, recipe) for role in {candidate, live, None}}
    rise, error = mean_and_error((by_role[candidate] - by_role[None]).tolist())
    return Agreement(
        candidate=float(by_role[candidate].mean()),
        live=float(by_role[live].mean()),
        base=float(by_role[None].mean()),
        rise_low=rise - Z_95 * error,
        claims=len(claims),
    )


def _texts(claim: Claim, encoder: Encoder) -> tuple[Text, Text]:
    """Without the end of the text: an answer may go on."""
    prompt = [{"role": "user", "content": claim.says}]
    answers = ([{"role": "assistant", "content": each}] for each in (claim.agrees, claim.differs))
    agrees, differs = (encoder.text(prompt, answer) for answer in answers)
    return replace(agrees, completion=agrees.completion[:-1]), replace(differs, completion=differs.completion[:-1])


def _leaning(base: SharedBase, role: str | None, texts: Sequence[Text], recipe: Recipe) -> NDArray[np.float64]:
    """(claims,): probability of the agreeing one of each two."""
    logps = sequence_logps(base, role, texts, tokens=recipe.micro_batch_tokens)
    return np.asarray(1 / (1 + np.exp(logps[1::2] - logps[0::2])))
