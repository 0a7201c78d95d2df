"""Receipts: what was signed comes back, and nothing else is taken."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.errors import Forbidden, Unauthorized
from core.records import Kind, Target
from feedback.receipts import MAX_LIFE_S, Key, KeyRing, check_scope, issue, verify

NOW = 1_790_000_000.5
RING = KeyRing(keys=(Key(id="0000beef", secret="ab" * 32, created=NOW - 100),))
TARGET = Target(type="completion", id="chatcmpl-41ab")


def _token(*, ring: KeyRing = RING, rater: str = "user-7", kinds: tuple[Kind, ...] = ("thumb", "comment")) -> str:
    return issue(ring, target=TARGET, rater=rater, kinds=kinds, expires_in=3600, now=NOW)[0]


def _refusal(token: str, *, ring: KeyRing = RING, now: float = NOW) -> str | None:
    with pytest.raises(Unauthorized) as raised:
        verify(ring, token, now=now)
    assert raised.value.status == 401
    return raised.value.error_code


def test_a_token_is_what_the_docstring_says() -> None:
    """Version, key id, payload and mac; the mac computed by hand with openssl for this very key and text."""
    token = _token()
    version, key_id, payload, mac = token.split(".")
    assert (version, key_id) == ("v1", "0000beef")
    assert payload == (
        "eyJ0eXBlIjoiY29tcGxldGlvbiIsImlkIjoiY2hhdGNtcGwtNDFhYiIsInJhdGVyIjoidXNlci03Iiwia2luZHMiOlsidGh1bWIiLCJjb21tZW50"
        "Il0sImV4cGlyZXMiOjE3OTAwMDM2MDB9"
    )
    assert mac == "7Lh7F5fOZg_4xK-L6dtl1sjDROfX7N-X_lSk7hpb7Zk"


@given(
    type_=st.sampled_from(["completion", "comparison"]),
    id_=st.text(min_size=1, max_size=40),
    rater=st.text(min_size=1, max_size=128),
    kinds=st.sets(
        st.sampled_from(["thumb", "rating", "preference", "ranking", "correction", "comment", "flag"]), min_size=1
    ),
    life=st.integers(1, MAX_LIFE_S),
    later=st.floats(0, MAX_LIFE_S),
)
def test_what_was_signed_comes_back(
    type_: str, id_: str, rater: str, kinds: set[Kind], life: int, later: float
) -> None:
    """For every target, rater, kinds and life: until the second in which it expires, and never after."""
    target = Target.model_validate({"type": type_, "id": id_})
    token, receipt = issue(RING, target=target, rater=rater, kinds=sorted(kinds), expires_in=life, now=NOW)
    assert token.isascii() and token.count(".") == 3
    assert receipt.expires == int(NOW) + life
    if NOW + later < receipt.expires:
        assert verify(RING, token, now=NOW + later) == receipt
        for kind in kinds:
            check_scope(receipt, target=target, kind=kind, rater=rater)
    else:
        assert _refusal(token, now=NOW + later) == "token_expired"


def test_no_byte_can_be_changed() -> None:
    """Each of the seven bits of each character, each character left out, doubled, or followed by padding: 401."""
    token = _token()
    changed = [
        token[:place] + chr(ord(character) ^ 1 << bit) + token[place + 1 :]
        for place, character in enumerate(token)
        for bit in range(7)
    ]
    changed += [token[:place] + token[place + 1 :] for place in range(len(token))]
    changed += [token[:place] + token[place] + token[place:] for place in range(len(token))]
    assert {_refusal(other) for other in [*changed, token + "=", token + ".", " " + token] if other != token} == {
        "token_invalid"
    }


@given(st.text(max_size=200))
@example("\ud800")
def test_noise_is_no_token(noise: str) -> None:
    """Whatever it is, it is refused as invalid and is no mistake of ours; also behind a right version and key id."""
    assert _refusal(noise) == "token_invalid"
    assert _refusal("v1.0000beef." + noise) == "token_invalid"


def test_a_forged_token_is_not_told_that_it_has_expired() -> None:
    """The mac is looked at first."""
    assert _refusal(_token()[:-1], now=NOW + MAX_LIFE_S) == "token_invalid"


def test_a_receipt_is_for_one_target_rater_and_kinds() -> None:
    """Each of them another: 403, and `param` says which."""
    receipt = verify(RING, _token(), now=NOW)
    check_scope(receipt, target=TARGET, kind="comment", rater=None)
    check_scope(receipt, target=TARGET.model_copy(update={"choice_index": 1}), kind="thumb", rater="user-7")
    wrong: list[tuple[Target, Kind, str | None, str]] = [
        (Target(type="completion", id="chatcmpl-77f0"), "thumb", None, "target"),
        (Target(type="comparison", id="chatcmpl-41ab"), "thumb", None, "target"),
        (TARGET, "rating", None, "kind"),
        (TARGET, "thumb", "user-8", "rater"),
        (TARGET, "thumb", "", "rater"),
    ]
    for target, kind, rater, param in wrong:
        with pytest.raises(Forbidden) as raised:
            check_scope(receipt, target=target, kind=kind, rater=rater)
        assert (raised.value.status, raised.value.error_code, raised.value.param) == (403, "token_scope", param)


@pytest.mark.parametrize("expires_in", [-1, 0, MAX_LIFE_S + 1])
def test_a_receipt_lives_for_a_day_at_most(expires_in: int) -> None:
    """And for a second at least."""
    with pytest.raises(ValueError, match="1 to 86400 seconds"):
        issue(RING, target=TARGET, rater="user-7", kinds=["thumb"], expires_in=expires_in, now=NOW)


def test_the_newest_key_signs_and_all_verify() -> None:
    """After a rotation old tokens hold, new ones name the new key, and the old ring knows nothing of it."""
    before = _token()
    ring = RING.rotated(now=NOW)
    after = _token(ring=ring)
    assert [key.id for key in ring.keys][1:] == ["0000beef"]
    assert after.split(".")[1] == ring.keys[0].id != "0000beef"
    assert verify(ring, before, now=NOW) == verify(ring, after, now=NOW)
    assert _refusal(after) == "token_invalid"


def test_keys_leave_when_their_last_token_has_expired() -> None:
    """A key superseded at NOW may have signed a token of a whole day just before; a second later it may go."""
    ring = RING.rotated(now=NOW)
    second, first = (key.id for key in ring.keys)
    assert [key.id for key in ring.rotated(now=NOW + MAX_LIFE_S).keys][1:] == [second, first]
    assert [key.id for key in ring.rotated(now=NOW + MAX_LIFE_S + 1).keys][1:] == [second]


def test_a_retired_key_is_refused() -> None:
    """At once, with every token that it signed; the others go on, and of the only key a fresh one takes the place."""
    ring = RING.rotated(now=NOW)
    old, new = _token(), _token(ring=ring)
    retired = ring.without("0000beef", now=NOW)
    assert _refusal(old, ring=retired) == "token_invalid"
    assert verify(retired, new, now=NOW).rater == "user-7"
    fresh = RING.without("0000beef", now=NOW)
    assert len(fresh.keys) == 1
    assert _refusal(old, ring=fresh) == "token_invalid"


def test_keys_differ() -> None:
    """A new key has an id and 32 bytes of its own."""
    keys = [Key.new(now=NOW) for _ in range(100)]
    assert len({key.id for key in keys}) == len({key.secret for key in keys}) == 100
    assert {len(bytes.fromhex(key.secret)) for key in keys} == {32}
