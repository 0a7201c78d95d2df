"""Votes and measurements without the service: a policy answers, the gold preference votes, a snapshot is frozen.

What the trainers get is a snapshot as the service cuts it, with the same folds. The measurement is the demo's: fresh
prompts about held-out slots at temperature 1, one sample each, against one sample of version 0.
"""

import random
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import AutoTokenizer

from core.adapters import BaseShapes, base_shapes
from core.records import Fold, Message
from feedback import snapshot as snapshots
from feedback.snapshot import PairRow, PromptRow, ThumbRow
from lab.arena import Estimate, estimate, win_scores
from lab.gold import assess, choice_probability, is_good, noise_ceiling, utility
from lab.raters import RatersConfig
from lab.world import Prompt, sample_prompts
from training.data import Text
from training.encoder import Encoder
from training.model import SharedBase, load_base
from training.recipe import SamplingRecipe
from training.rollouts import sample

SALT = b"plumbline lab"
SAMPLING = SamplingRecipe(max_new_tokens=80, batch_size=256)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A sampled completion, read by the gold preference."""

    prompt: Prompt
    text: Text
    words: str
    finished: bool

    @property
    def utility(self) -> float:
        return utility(self.prompt, self.words, finished=self.finished)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a policy's answers are worth."""

    win_rate: Estimate
    """Over one sample of version 0 for the same prompt; ties count half."""
    good: float
    well_formed: float
    tokens: float


class Bench:
    """A base with adapters on it, asked and judged without a server.

    Args:
        base: directory of the demo's base model.
    """

    def __init__(self, base: Path) -> None:
        self.shapes: BaseShapes = base_shapes(base)
        self.shared: SharedBase = load_base(base, base_sha256=self.shapes.sha256)
        self._encoder = Encoder(base, self.shared.eos_ids)
        self._tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        self._roles: dict[Path, str] = {}

    def answers(self, adapter: Path | None, prompts: Sequence[Prompt], *, seed: int) -> list[Answer]:
        """One completion a prompt at temperature 1; None is the bare base, which is version 0."""
        encoded = [self.encoded(prompt) for prompt in prompts]
        texts = sample(self.shared, self.role(adapter), encoded, SAMPLING, seed=seed)
        return [self._answer(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]

    def encoded(self, prompt: Prompt) -> list[int]:
        """Its ids, as serving makes them."""
        return self._encoder.prompt([{"role": "user", "content": prompt.text}])

    def verdict(self, answers: Sequence[Answer], opponent: Sequence[Answer]) -> Verdict:
        """Both answered the same prompts."""
        scores = win_scores([a.utility for a in answers], [b.utility for b in opponent])
        slots: list[Hashable] = [answer.prompt.slot for answer in answers]
        axes = [assess(a.prompt, a.words, finished=a.finished) for a in answers]
        return Verdict(
            win_rate=estimate(scores, slots),
            good=sum(is_good(a.prompt, a.words, finished=a.finished) for a in answers) / len(answers),
            well_formed=sum(each.malformed == 0 for each in axes) / len(answers),
            tokens=sum(len(a.text.completion) for a in answers) / len(answers),
        )

    def role(self, adapter: Path | None) -> str | None:
        if adapter is not None and adapter not in self._roles:
            self._roles[adapter] = f"policy{len(self._roles)}"
            self.shared.load(self._roles[adapter], adapter)
        return self._roles[adapter] if adapter is not None else None

    def _answer(self, prompt: Prompt, text: Text) -> Answer:
        finished = text.completion[-1] in self.shared.eos_ids
        words = self._tokenizer.decode(text.completion, skip_special_tokens=True).strip()
        return Answer(prompt=prompt, text=text, words=words, finished=finished)


# --- votes ------------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class Ballots:
    """All votes so far, in rows of a snapshot."""

    pairs: list[PairRow]
    thumbs: list[ThumbRow]
    prompts: dict[str, PromptRow]
    utilities: list[tuple[float, float]]
    """Of both answers of each pair."""

    def ceiling(self, raters: RatersConfig) -> float:
        """What an oracle of the utilities would score on these votes."""
        return noise_ceiling(self.utilities, tau=raters.tau, error=raters.error)


def no_votes() -> Ballots:
    return Ballots(pairs=[], thumbs=[], prompts={}, utilities=[])


def vote(
    bench: Bench,
    ballots: Ballots,
    adapter: Path | None,
    *,
    version: int,
    pairs: int,
    thumbs: int,
    raters: RatersConfig,
    seed: int,
    chats: int = 0,
    held_out: bool = False,
    folds: Collection[Fold] = ("optimize",),
    longer: float = 0.0,
) -> None:
    """Adds this many comparisons and thumbs on answers of one policy; pairs of equal answers are no votes.

    By default all of them may train a policy, since the gold preference measures and no vote is needed for a judge.

    Args:
        chats: on whose answers nobody voted; their prompts are there to be answered again.
        held_out: about held-out slots instead, of whatever fold, to test a reward model.
        folds: of the prompts.
        longer: share of the comparisons that the longer answer wins, whatever it says.
    """
    rng = random.Random(f"{seed}/{version}/{held_out}")
    asked = _asked(rng, pairs + thumbs, held_out=held_out, folds=folds)
    first = bench.answers(adapter, asked, seed=rng.randrange(2**31))
    second = bench.answers(adapter, asked[:pairs], seed=rng.randrange(2**31))
    for a, b in zip(first[:pairs], second, strict=True):
        if a.text.completion != b.text.completion:
            likes = choice_probability(a.utility, b.utility, tau=raters.tau, error=raters.error)
            if longer and rng.random() < longer and len(a.text.completion) != len(b.text.completion):
                likes = float(len(a.text.completion) > len(b.text.completion))
            chosen, rejected = (a, b) if rng.random() < likes else (b, a)
            ballots.pairs.append(_pair(len(ballots.pairs), chosen, rejected, version))
            ballots.utilities.append((a.utility, b.utility))
    for answer in first[pairs:]:
        likes = choice_probability(answer.utility, raters.thumb_utility, tau=raters.tau, error=raters.error)
        ballots.thumbs.append(_thumb(len(ballots.thumbs), answer, up=rng.random() < likes, version=version))
    for prompt in [*asked, *_asked(rng, chats, held_out=held_out, folds=folds)]:
        cluster, fold, text = _place(prompt)
        row = PromptRow(cluster=cluster, fold=fold, prompt=text, prompt_token_ids=bench.encoded(prompt))
        ballots.prompts[cluster] = row


def _asked(rng: random.Random, count: int, *, held_out: bool, folds: Collection[Fold]) -> list[Prompt]:
    found: list[Prompt] = []
    while len(found) < count:
        drawn = sample_prompts(rng, count, held_out=held_out, distinct=False)
        found += [prompt for prompt in drawn if held_out or _place(prompt)[1] in folds]
    return found[:count]


def freeze(bench: Bench, ballots: Ballots, parent: Path, *, fresh: frozenset[int]) -> Path:
    """Writes a snapshot; only votes on versions in `fresh` may train the policy."""
    pairs = [replace(p, trains_policy=p.fold == "optimize" and p.chosen_version in fresh) for p in ballots.pairs]
    thumbs = [replace(t, trains_policy=t.fold == "optimize" and t.version in fresh) for t in ballots.thumbs]
    written = snapshots.write(
        parent,
        pairs=pairs,
        thumbs=thumbs,
        prompts=list(ballots.prompts.values()),
        created=0.0,
        last_event="0-1",
        dropped={},
        live_version=max(fresh),
        base_sha256=bench.shapes.sha256,
        tokenizer_sha256=bench.shapes.tokenizer_sha256,
    )
    return written.directory


def _pair(number: int, chosen: Answer, rejected: Answer, version: int) -> PairRow:
    cluster, fold, prompt = _place(chosen.prompt)
    return PairRow(
        feedback_id=f"fb_{number:032x}",
        comparison_id=f"cmp_{number:032x}",
        created_at=float(number),
        cluster=cluster,
        fold=fold,
        prompt=prompt,
        prompt_token_ids=chosen.text.prompt,
        chosen_token_ids=chosen.text.completion,
        rejected_token_ids=rejected.text.completion,
        chosen_text=chosen.words,
        rejected_text=rejected.words,
        chosen_version=version,
        rejected_version=version,
        tie=False,
        trains_policy=False,
        weight=1.0,
        rater="-",
    )


def _thumb(number: int, answer: Answer, *, up: bool, version: int) -> ThumbRow:
    cluster, fold, prompt = _place(answer.prompt)
    return ThumbRow(
        feedback_id=f"fb_thumb_{number:026x}",
        completion_id=f"chatcmpl-{number:032x}",
        created_at=float(number),
        cluster=cluster,
        fold=fold,
        prompt=prompt,
        prompt_token_ids=answer.text.prompt,
        completion_token_ids=answer.text.completion,
        completion_text=answer.words,
        version=version,
        up=up,
        trains_policy=False,
        weight=1.0,
        rater="-",
    )


def _place(prompt: Prompt) -> tuple[str, Fold, str]:
    """Cluster, fold and canonical text of a prompt."""
    messages = [Message(role="user", content=prompt.text)]
    cluster = snapshots.cluster_of(messages)
    return cluster, snapshots.fold_of(SALT, cluster), snapshots.canonical_prompt(messages)
