"""Text comes in whole code points, without control tokens, and never with a part of a stop string."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.worker.detokenizer import REPLACEMENT, Detokenizer, StopStrings
from app.worker.vocabulary import Vocabulary

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


@quick
@given(ids=st.lists(st.integers(5, 319), max_size=40))
def test_any_tokens_whatever_give_their_decoded_text_up_to_a_broken_end(vocabulary: Vocabulary, ids: list[int]) -> None:
    assert "".join(pieces(vocabulary, ids)).rstrip(REPLACEMENT) == vocabulary.decode(ids).rstrip(REPLACEMENT)


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
