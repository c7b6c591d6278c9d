"""Text comes in whole code points, without control tokens, and never with a part of a stop string."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.convert_slow_tokenizer import bytes_to_unicode

from app.worker.detokenizer import REPLACEMENT, Detokenizer, StopStrings
from app.worker.vocabulary import Vocabulary
from prompts.formats import sentencepiece_model
from tests.fakes.checkpoints import TOKENIZER, as_first_generation

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pieces(vocabulary: Vocabulary, ids: list[int], prompt: str = "") -> list[str]:
    prompt_ids = vocabulary.encode(prompt, add_special_tokens=False)
    detokenizer = Detokenizer(vocabulary, hidden_ids=vocabulary.special_ids, prompt_ids=prompt_ids)
    return [*(detokenizer.push(token) for token in ids), detokenizer.finish()]


@quick
@given(text=st.text(max_size=40).filter(lambda text: REPLACEMENT not in text), prompt=st.text(max_size=10))
def test_the_pieces_are_the_text_and_no_piece_ends_inside_a_code_point(
    vocabulary: Vocabulary, text: str, prompt: str
) -> None:
    found = pieces(vocabulary, vocabulary.encode(text.replace("<", ""), add_special_tokens=False), prompt)

    assert "".join(found) == text.replace("<", "")
    assert not any(REPLACEMENT in piece for piece in found)


BYTE_0 = 216  # of the small tokenizer in `tests/data`: `<0x00>`
a_byte = st.integers(0, 255) | st.sampled_from(list("海🙂\ufffd▁ ".encode()))
as_bytes = st.text("海🙂é\ufffd a", max_size=6).map(lambda text: [BYTE_0 + one for one in text.encode()])
broken = st.lists(a_byte.map(lambda byte: BYTE_0 + byte), min_size=12, max_size=50)
some_ids = st.lists(
    as_bytes | broken | st.lists(st.integers(0, 599) | a_byte.map(lambda byte: BYTE_0 + byte), max_size=8)
).map(lambda lists: [one for some in lists for one in some])


@pytest.fixture(scope="module", params=["Baichuan2", "first generation", "byte-level"])
def any_vocabulary(
    request: pytest.FixtureRequest, vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory
) -> Vocabulary:
    if request.param == "byte-level":
        return vocabulary
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    shutil.copyfile(TOKENIZER, file)
    return Vocabulary(sentencepiece_model.convert(as_first_generation(file) if request.param != "Baichuan2" else file))


def byte_ids(vocabulary: Vocabulary) -> list[int]:
    """Return the 256 tokens of one byte each."""
    names = {vocabulary.token(at): at for at in range(600)}
    letters: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call]
    return [names.get(f"<0x{byte:02X}>", names.get(letter, 0)) for byte, letter in sorted(letters.items())]


def stays(vocabulary: Vocabulary, ids: list[int]) -> None:
    """See that what is shown is the decoded text, of which nothing is taken back."""
    ids = [one for one in ids if vocabulary.token(one)]
    whole = vocabulary.decode([one for one in ids if one not in vocabulary.special_ids])
    found = pieces(vocabulary, ids)
    for at in range(len(found)):
        assert whole.startswith("".join(found[:at]))
    assert "".join(found).rstrip(REPLACEMENT) == whole.rstrip(REPLACEMENT)


@settings(max_examples=400, deadline=None)
@given(ids=some_ids)
def test_any_ids_give_their_decoded_text_and_nothing_that_was_shown_changes(
    any_vocabulary: Vocabulary, ids: list[int]
) -> None:
    stays(any_vocabulary, ids)


@pytest.mark.parametrize("begin", [b"", b" \xe6\xb5"])
@pytest.mark.parametrize("broken", [b"\xbf", b"\xf0", b"\xe6\xb5", b"\xef\xbf\xbd", b"\xbd\xef\xbf", b"\xf0\x9f"])
def test_a_code_point_after_any_number_of_broken_bytes_is_shown_once_it_is_whole(
    begin: bytes, broken: bytes, any_vocabulary: Vocabulary
) -> None:
    ids = byte_ids(any_vocabulary)
    for length in range(50):
        noise = (broken * length)[:length]
        for end in ("海", "🙂", "é", " a"):
            text = begin + noise + end.encode() + noise + end.encode()
            stays(any_vocabulary, [ids[byte] for byte in text])


def test_control_tokens_are_not_shown(vocabulary: Vocabulary) -> None:
    assert "".join(pieces(vocabulary, [3, *vocabulary.encode("the", add_special_tokens=False), 4, 2])) == "the"


def test_a_code_point_of_four_tokens_comes_out_once_it_is_whole(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode("🙂", add_special_tokens=False)

    assert len(ids) == 4
    assert pieces(vocabulary, ids) == ["", "", "", "🙂", ""]


def test_a_text_that_ends_inside_a_code_point_ends_before_it(vocabulary: Vocabulary) -> None:
    assert "".join(pieces(vocabulary, vocabulary.encode("a海", add_special_tokens=False)[:-1])) == "a"


def test_bytes_that_never_become_text_are_not_held_for_ever(vocabulary: Vocabulary) -> None:
    broken = vocabulary.encode("海", add_special_tokens=False)[0]

    assert REPLACEMENT in "".join(pieces(vocabulary, [broken] * 40)[:-1])


@quick
@given(
    parts=st.lists(st.text(alphabet="abc", max_size=4), max_size=12),
    stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
)
def test_what_is_free_is_the_text_before_the_first_stop_string_however_it_is_cut(
    parts: list[str], stops: list[str]
) -> None:
    text = "".join(parts)
    matcher = StopStrings(stops)
    shown, met = "", None
    for part in parts:
        free, met = matcher.push(part)
        shown += free
        if met is not None:
            break
    else:
        shown += matcher.finish()

    # Whichever stop string is complete first ends the text; what was shown holds none, nor a beginning of it.
    assert not any(stop in shown for stop in stops)
    assert text.startswith(shown)
    if met is None:
        assert shown == text
    else:
        assert text[len(shown) :].startswith(met)


def test_nothing_is_held_back_that_cannot_become_a_stop_string() -> None:
    matcher = StopStrings(["END"])

    assert matcher.push("a story E") == ("a story ", None)
    assert matcher.push("N") == ("", None)
    assert matcher.push("J") == ("ENJ", None)
    assert matcher.push("oy END of it") == ("oy ", "END")
