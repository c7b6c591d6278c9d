"""The evidence box: what it closes it opens again, for the right decision and with the right key only."""

import base64
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import EvidenceSealed, InvalidInput
from app.domain.models import Evidence
from app.domain.verdicts import SealedText
from app.domain.words import LANGUAGES, describe
from app.safety.evidence_box import AesBox, new_key, parse_key

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = bytes(range(32))
BOX = AesBox(KEY)


def sealed(text: str = "what somebody wrote") -> Evidence:
    return BOX.seal(SealedText(text, start=7), decision_id="d", at=AT)


def why_not(box: AesBox, evidence: Evidence) -> object:
    with pytest.raises(EvidenceSealed) as caught:
        box.open(evidence)
    assert all("–" not in describe(caught.value, language) for language in LANGUAGES)
    return caught.value.data["kind"]


@given(st.text(alphabet=st.characters(codec=None), max_size=60))
def test_a_text_comes_back_as_it_was_and_is_not_in_what_is_kept(text: str) -> None:
    evidence = sealed(text)
    opened = BOX.open(evidence)
    assert (opened.unsealed(), opened.start) == (text, 7)
    assert len(text) < 4 or text.encode("utf-8", "surrogatepass") not in evidence.sealed


def test_the_same_text_is_never_closed_the_same_way() -> None:
    assert sealed().sealed != sealed().sealed
    assert "somebody" not in repr(sealed())


def test_another_key_a_missing_key_and_damage_are_told_apart() -> None:
    other = AesBox(bytes(31) + b"x")
    assert why_not(other, sealed()) == "key_other"
    assert why_not(AesBox(None), sealed()) == "key_missing"
    assert why_not(BOX, replace(sealed(), sealed=b"short")) == "damaged"
    flipped = bytearray(sealed().sealed)
    flipped[-1] ^= 1
    assert why_not(BOX, replace(sealed(), sealed=bytes(flipped))) == "damaged"


def test_what_was_moved_to_another_decision_does_not_open() -> None:
    assert why_not(BOX, replace(sealed(), decision_id="other")) == "damaged"


def test_without_a_key_nothing_is_sealed() -> None:
    with pytest.raises(EvidenceSealed):
        AesBox(None).seal(SealedText("x"), decision_id="d", at=AT)
    assert not AesBox(None).has_key
    assert BOX.has_key


def test_a_key_is_read_with_and_without_its_padding() -> None:
    text = new_key()
    assert parse_key(text) == parse_key(text.rstrip("=") + "\n") == base64.urlsafe_b64decode(text)


@pytest.mark.parametrize("text", ["", "changeme", "x" * 44, "A" * 43, new_key()[:-4], new_key() + "AAAA", "ключ" * 11])
def test_what_is_no_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_key(text)
    assert not text or text not in str(caught.value)
