import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import InvalidPolicy
from app.domain.own_text import Masks
from app.domain.verdicts import NO_MASKS, Action, Checked, ReleasedText, Stage
from app.safety.filter import ContentFilter
from app.safety.normalise import MASK, fold, plain
from app.safety.personal_data import TEST_NUMBER, is_id_number
from app.safety.placeholders import MAX_NUMBER
from app.safety.policy import Layer, PhraseList, Rule, layered, make_policy, weakened
from app.safety.policy_file import load_policy

MASKING = Rule(category="personal_data", stages=frozenset(Stage), action=Action.MASK)
RETURNING = Rule(category="personal_data", stages=frozenset({Stage.INPUT}), action=Action.MASK, is_unmasked=True)
OTHERS = Rule(category="personal_data", stages=frozenset(Stage) - {Stage.INPUT}, action=Action.MASK)
FILTER = ContentFilter(make_policy("own", rules=[RETURNING, OTHERS]))
WITHOUT = ContentFilter(make_policy("own", rules=[MASKING]))
PHONE, MAIL = "13812345678", "bob.li@corp.cn"
TEXT = f"Call {PHONE} or write to {MAIL}, better {PHONE}."


def checked(text: str, *, beside: Sequence[str] | None = (), content_filter: ContentFilter = FILTER) -> Checked:
    return asyncio.run(content_filter.check(text, stage=Stage.INPUT, beside=beside))


def originals(one: Checked) -> dict[str, str]:
    return {placeholder: Masks(one.masks).unmask(ReleasedText(placeholder)) for placeholder in one.masks}


def id_number(serial: int) -> str:
    head = f"110105{1950 + serial % 60}{1 + serial % 12:02}{1 + serial % 28:02}{serial % 1000:03}"
    return next(head + last for last in "0123456789X" if is_id_number(head + last))


def test_one_placeholder_stands_for_one_original() -> None:
    one = checked(TEXT)
    assert one.text == "Call ⟦█1⟧ or write to ⟦█2⟧, better ⟦█1⟧."
    assert originals(one) == {"⟦█1⟧": PHONE, "⟦█2⟧": MAIL}
    assert PHONE not in repr(one)
    assert one.decision.action is Action.MASK


def test_without_the_policys_word_or_a_question_every_mask_is_the_same() -> None:
    expected = f"Call {MASK} or write to {MASK}, better {MASK}."
    for one in (checked(TEXT, content_filter=WITHOUT), checked(TEXT, beside=None)):
        assert (one.text, one.masks) == (expected, NO_MASKS)


def test_what_looks_like_a_placeholder_is_none() -> None:
    assert checked(f"⟦█1⟧ is {PHONE}").text == "⟦█1⟧ is ⟦█2⟧"
    assert originals(checked(f"⟦█1⟧ is {PHONE}")) == {"⟦█2⟧": PHONE}
    assert checked(PHONE, beside=["⟦█1⟧", "so ⟦█2⟧⟦█4⟧"]).text == "⟦█3⟧"
    taken = "".join(f"⟦█{number}⟧" for number in range(1, MAX_NUMBER + 1))
    one = checked(f"{PHONE} and {MAIL}", beside=[taken.replace("⟦█77⟧", "")])
    assert one.text == f"⟦█77⟧ and {MASK}"


def test_what_another_rule_a_list_or_the_program_masks_stays_masked() -> None:
    assert checked(TEST_NUMBER).text == MASK
    lists = [
        PhraseList(name="own", category="personal_data", language="en", phrases=("red fox",), action=Action.MASK),
        PhraseList(name="other", category="secret", language="en", phrases=("fox 13812345678 den", "cn house")),
    ]
    rules = [RETURNING, Rule(category="secret", stages=frozenset(Stage), action=Action.MASK)]
    both = ContentFilter(make_policy("both", rules=rules, lists=lists))
    assert checked(f"a red fox, {PHONE}", content_filter=both).text == f"a {MASK}, ⟦█1⟧"
    assert checked(f"a fox {PHONE} den", content_filter=both).text == f"a {MASK}"  # they overlap
    assert checked(f"a fox {PHONE} den", content_filter=both).masks == {}
    assert checked(f"a {MAIL} house", content_filter=both).text == f"a {MASK}"


def test_the_filter_and_the_normaliser_leave_a_placeholder_alone() -> None:
    everything = ContentFilter(load_policy())
    for placeholder in ("⟦█1⟧", f"⟦█{MAX_NUMBER}⟧"):
        assert "".join(map(fold, placeholder)) == "".join(map(plain, placeholder)) == placeholder
        for text in (placeholder, f"a{placeholder}1", f"138{placeholder}12345678", f"写给{placeholder}。"):
            for stage in Stage:
                one = asyncio.run(everything.check(text, stage=stage))
                assert (one.text, one.decision.findings) == (text, ())


def test_the_id_tells_it_where_it_is_said_and_only_there() -> None:
    split = make_policy("own", rules=[replace(RETURNING, is_unmasked=False), OTHERS])
    assert split.id == WITHOUT.policy
    assert FILTER.policy != WITHOUT.policy


def test_what_is_locked_below_stays_masked() -> None:
    locked = Rule(category="personal_data", stages=frozenset(Stage), action=Action.MASK, is_locked=True)
    layer = Layer(name="site", rules=(RETURNING,))
    base = make_policy("base", rules=[locked])
    assert list(weakened(base, layer)) == [("rule", "personal_data")]
    assert checked(PHONE, content_filter=ContentFilter(layered(base, layer))).text == MASK
    free = make_policy("base", rules=[MASKING])
    assert list(weakened(free, layer)) == []
    assert checked(PHONE, content_filter=ContentFilter(layered(free, layer))).text == "⟦█1⟧"


_RULE = 'name = "p"\n[[rules]]\ncategory = "personal_data"\nstages = [{stages}]\naction = "{action}"\nunmask = true\n'


def test_a_file_says_it(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(_RULE.format(stages='"input"', action="mask"))
    assert checked(PHONE, content_filter=ContentFilter(load_policy(path))).text == "⟦█1⟧"
    path.write_text('base = "builtin:general"\n' + _RULE.format(stages='"input"', action="mask"))
    assert checked(PHONE, content_filter=ContentFilter(load_policy(path))).text == "⟦█1⟧"


@pytest.mark.parametrize(
    ("stages", "action", "more", "reason"),
    [
        ('"input"', "flag", "", "unmask: goes with action = mask, not with flag"),
        ('"output"', "mask", "", "unmask: is about questions, so input must be among the stages"),
        ('"input"', "mask", "shadow = true\n", "unmask: a rule on trial masks nothing"),
        ('"input"', "mask", 'unmasked = "yes"\n', "there is no such key"),
    ],
)
def test_a_file_that_cannot_mean_it_is_refused(
    tmp_path: Path, stages: str, action: str, more: str, reason: str
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(_RULE.format(stages=stages, action=action) + more)
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(path)
    assert re.fullmatch(rf"p\.toml:[27]: rules\.1(\.unmasked)?: {re.escape(reason)}", caught.value.faults[0])


PARTS = st.lists(
    st.one_of(
        st.text(alphabet="ab 中⟦█1⟧2\n。", max_size=6),
        st.sampled_from(["⟦█1⟧", "⟦█2⟧", "⟦█", "█1⟧", MASK]),
        st.integers(0, 30).map(lambda n: f" {id_number(n)} "),
        st.integers(0, 30).map(lambda n: f" 139{n:08} "),
    ),
    max_size=8,
)


@given(PARTS)
def test_the_owner_reads_what_they_wrote(parts: list[str]) -> None:
    text = "".join(parts)
    one, plain_one = checked(text), checked(text, content_filter=WITHOUT)
    assert one.text is not None
    assert plain_one.text is not None
    assert Masks(one.masks).unmask(one.text) == text  # also where placeholders were typed
    assert Masks(one.masks).unmask(ReleasedText(text)) == text  # no placeholder of ours stood in it
    assert len(one.masks) == len(set(originals(one).values()))
    assert one.decision.findings == plain_one.decision.findings
    assert not any(original.strip() in one.text for original in originals(one).values())
    for placeholder in one.masks:
        assert placeholder in one.text


@given(PARTS, st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_pieces_are_unmasked_as_the_whole_is_and_little_is_held_back(parts: list[str], sizes: list[int]) -> None:
    masks = Masks(checked(f"{PHONE} {MAIL}").masks)
    text, place, out = "".join(parts), 0, ""
    stream = masks.stream()
    for size in sizes * len(text):
        if place >= len(text):
            break
        out += stream.feed(ReleasedText(text[place : place + size]))
        place += size
        shown = masks.unmask(ReleasedText(text[:place]))
        assert shown.startswith(out)
        assert len(shown) - len(out) < len("⟦█1⟧")
    assert out + stream.finish() == masks.unmask(ReleasedText(text))


def test_without_masks_nothing_is_held_back() -> None:
    stream = Masks().stream()
    assert [stream.feed(ReleasedText(piece)) for piece in ("a ⟦", "█1", "⟧")] == ["a ⟦", "█1", "⟧"]
