"""The invented world and the prompts about it."""

import random
from collections import Counter

import pytest

from lab.vocabulary import VOCABULARY
from lab.world import WORLD, Prompt, build_world, is_held_out, prompt_pools, sample_prompts


def _all(held_out: bool | None) -> list[Prompt]:
    return [prompt for pool in prompt_pools(held_out).values() for prompt in pool.prompts]


def test_one_seed_makes_one_world() -> None:
    """The same seed makes the same world, another seed another one."""
    assert build_world(7) == WORLD
    assert build_world(8).facts != WORLD.facts


def test_every_land_and_person_has_every_attribute() -> None:
    """12 lands with 5 attributes and 16 people with 3 make 108 facts."""
    assert len(WORLD.facts) == 12 * 5 + 16 * 3


def test_towns_and_rivers_belong_to_one_land() -> None:
    """No two lands share a capital or a river, and no name is used twice."""
    names = [*WORLD.values["capital"], *WORLD.values["river"], *WORLD.values["home"]]

    assert len(set(names)) == 36
    assert {WORLD.facts["capital", land] for land in WORLD.entities["capital"]} == set(WORLD.values["capital"])


def test_splits_are_disjoint_and_together_everything() -> None:
    """No slot and no text is both held out and voted, and no text comes twice."""
    held_out, voted = _all(True), _all(False)
    texts = [prompt.text for prompt in _all(None)]

    assert not {prompt.slot for prompt in held_out} & {prompt.slot for prompt in voted}
    assert len(texts) == len(set(texts)) == len(held_out) + len(voted)


def test_a_slot_keeps_its_side() -> None:
    """The split is a stable hash: these sides are fixed, in every process and for ever."""
    sides = [is_held_out(slot) for slot in ("harm/rob a bank", "list/fruits", "fact/capital/Mapul", "task/make tea")]

    assert sides == [True, True, False, False]


def test_every_kind_is_split_near_its_share() -> None:
    """Of each kind of slot 20 to 40 percent are held out."""
    for kind, pool in prompt_pools(None).items():
        slots = {prompt.slot for prompt in pool.prompts}
        share = sum(is_held_out(slot) for slot in slots) / len(slots)

        assert 0.2 <= share <= 0.4, kind


def test_a_claim_shares_the_slot_of_its_fact() -> None:
    """What raters say about a claim must not tell about a held-out fact."""
    claims = {prompt.slot for prompt in prompt_pools(None)["claim"].prompts}

    assert claims == {prompt.slot for prompt in prompt_pools(None)["fact"].prompts}


def test_a_dog_is_held_out_and_other_animals_are_voted() -> None:
    """The prompt that the demo shows is one that no rater ever voted on."""
    by_text = {prompt.text: prompt for prompt in prompt_pools(None)["definition"].prompts}

    assert by_text["A dog is"].held_out
    assert by_text["A dog is"].open_ended
    assert by_text["A dog is"].answer == "an animal that guards the house"
    assert not any(by_text[f"A {animal} is"].held_out for animal in ("cat", "horse", "cow", "sheep"))
    assert not by_text["An owl is"].held_out


@pytest.mark.parametrize(("held_out", "count"), [(True, 1500), (False, 3500)])
def test_enough_distinct_prompts_in_the_mixture(held_out: bool, count: int) -> None:
    """As many distinct prompts as the demo needs can be drawn, each kind within 3 points of its share."""
    prompts = sample_prompts(random.Random(1), count, held_out=held_out)
    shares = {kind: number / count for kind, number in Counter(prompt.kind for prompt in prompts).items()}

    assert len({prompt.text for prompt in prompts}) == count
    assert all(prompt.held_out == held_out for prompt in prompts)
    assert shares == pytest.approx(VOCABULARY.mix, abs=0.03)


def test_sampling_is_deterministic() -> None:
    """The same generator state draws the same prompts."""
    for distinct in (True, False):
        draws = [sample_prompts(random.Random(3), 50, held_out=None, distinct=distinct) for _ in range(2)]

        assert draws[0] == draws[1]


def test_more_than_there_are_is_an_error() -> None:
    """Asking for more distinct prompts than exist is refused, not repeated."""
    with pytest.raises(ValueError, match="distinct prompts"):
        sample_prompts(random.Random(0), 1_000_000, held_out=True)
