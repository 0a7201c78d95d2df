"""The choice of a version is a pure function of the requested name and the resident set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotFound
from serving.assignment import ResidentSet, assign

RESIDENTS = ResidentSet(generation=5, live=3, policies={0: "zero", 2: "two", 3: "three"})


def test_the_alias_is_the_live_version() -> None:
    """Resolved once, to a version with its adapter."""
    assignment = assign("assistant", RESIDENTS)
    assert (assignment.name, assignment.adapter_sha256) == ("assistant@v3", "three")
    assert (assignment.how, assignment.propensity) == ("live", 1.0)


def test_a_resident_version_can_be_pinned() -> None:
    """Also the live one; then it is a pin all the same."""
    assert [assign(f"assistant@v{version}", RESIDENTS).how for version in (0, 2, 3)] == ["pinned"] * 3
    assert assign("assistant@v2", RESIDENTS).adapter_sha256 == "two"


@pytest.mark.parametrize(
    "model", ["assistant@v1", "assistant@v03", "assistant@", "assistant@v-1", "Assistant", "", "@v0"]
)
def test_any_other_name_is_unknown(model: str) -> None:
    """One spelling per version, and nothing that is not resident."""
    with pytest.raises(NotFound) as raised:
        assign(model, RESIDENTS)
    assert (raised.value.error_code, raised.value.param) == ("model_not_found", "model")


@given(st.dictionaries(st.integers(0, 50), st.text(min_size=1), min_size=1), st.data(), st.text())
def test_only_resident_versions_are_ever_assigned(policies: dict[int, str], data: st.DataObject, noise: str) -> None:
    """Whatever is asked for, the answer is resident or an error, and the adapter belongs to the version."""
    residents = ResidentSet(generation=1, live=data.draw(st.sampled_from(sorted(policies))), policies=policies)
    model = data.draw(st.sampled_from(["assistant", noise, *(f"assistant@v{number}" for number in range(52))]))
    try:
        assignment = assign(model, residents)
    except NotFound:
        assert model != "assistant"
    else:
        assert policies[assignment.version] == assignment.adapter_sha256
