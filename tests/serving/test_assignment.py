"""The choice of a version is a pure function of the requested name and the resident set."""

import hashlib
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotFound
from serving.assignment import Canary, ResidentSet, assign, place

RESIDENTS = ResidentSet(generation=5, live=3, policies={0: "zero", 2: "two", 3: "three"})


def test_the_alias_is_the_live_version() -> None:
    """Resolved once, to a version with its adapter."""
    assignment = assign("assistant", RESIDENTS, "ann")
    assert (assignment.name, assignment.adapter_sha256) == ("assistant@v3", "three")
    assert (assignment.how, assignment.propensity, assignment.release) == ("live", 1.0, None)


def test_a_resident_version_can_be_pinned() -> None:
    """Also the live one; then it is a pin all the same."""
    assert [assign(f"assistant@v{version}", RESIDENTS, "ann").how for version in (0, 2, 3)] == ["pinned"] * 3
    assert assign("assistant@v2", RESIDENTS, "ann").adapter_sha256 == "two"


@pytest.mark.parametrize(
    "model", ["assistant@v1", "assistant@v03", "assistant@", "assistant@v-1", "Assistant", "", "@v0"]
)
def test_any_other_name_is_unknown(model: str) -> None:
    """One spelling per version, and nothing that is not resident."""
    with pytest.raises(NotFound) as raised:
        assign(model, RESIDENTS, "ann")
    assert (raised.value.error_code, raised.value.param) == ("model_not_found", "model")


@given(st.dictionaries(st.integers(0, 50), st.text(min_size=1), min_size=1), st.data(), st.text())
def test_only_resident_versions_are_ever_assigned(policies: dict[int, str], data: st.DataObject, noise: str) -> None:
    """Whatever is asked for, the answer is resident or an error, and the adapter belongs to the version."""
    residents = ResidentSet(generation=1, live=data.draw(st.sampled_from(sorted(policies))), policies=policies)
    model = data.draw(st.sampled_from(["assistant", noise, *(f"assistant@v{number}" for number in range(52))]))
    try:
        assignment = assign(model, residents, "ann")
    except NotFound:
        assert model != "assistant"
    else:
        assert policies[assignment.version] == assignment.adapter_sha256


def released(share: float, release: str = "rel_2") -> ResidentSet:
    """Version 2 is on its way."""
    return replace(RESIDENTS, canary=Canary(release=release, version=2, share=share))


def arm(unit: str, share: float, release: str = "rel_2") -> str:
    return assign("assistant", released(share, release), unit).how


def test_places_are_a_hash_of_release_and_end_user() -> None:
    """The first 64 bits of SHA-256, as a fraction: computed by hand."""
    digest = hashlib.sha256(b"rel_7\nuser-1").hexdigest()
    assert place("rel_7", "user-1") == int(digest[:16], 16) / 2**64
    assert place("rel_7", "user-1") != place("rel_8", "user-1")


@given(unit=st.text(), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_assignment_is_sticky_and_monotone(unit: str, shares: tuple[float, float]) -> None:
    """Asked again the same arm; who meets the canary at a share meets it at every larger one."""
    low, high = sorted(shares)
    assert arm(unit, low) == arm(unit, low)
    assert arm(unit, high) == "canary" or arm(unit, low) == "live"


@given(unit=st.text(), share=st.floats(0, 1))
def test_propensities_sum_to_one(unit: str, share: float) -> None:
    """Of the arm that it is and the other; the version and its adapter are the arm's, and both name the release."""
    found = assign("assistant", released(share), unit)
    expected = {"canary": (2, "two", share), "live": (3, "three", 1.0 - share)}[found.how]
    assert (found.version, found.adapter_sha256, found.propensity, found.release) == (*expected, "rel_2")
    assert math.isclose(share + (1.0 - share), 1.0)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_of_100_000_end_users(share: float) -> None:
    """Within four standard deviations of a binomial draw; and of two releases the canaries' users are independent."""
    units = [f"user-{number}" for number in range(100_000)]
    met = [arm(unit, share) == "canary" for unit in units]
    assert abs(sum(met) - 100_000 * share) < 4 * math.sqrt(100_000 * share * (1 - share))
    again = [both and arm(unit, share, "rel_3") == "canary" for unit, both in zip(units, met, strict=True)]
    both = share * share
    assert abs(sum(again) - 100_000 * both) < 4 * math.sqrt(100_000 * both * (1 - both))


def test_a_pinned_canary_is_no_arm() -> None:
    """Who names a version gets it, and is not counted for the release."""
    found = assign("assistant@v2", released(0.01), "ann")
    assert (found.version, found.how, found.propensity, found.release) == (2, "pinned", 1.0, None)
