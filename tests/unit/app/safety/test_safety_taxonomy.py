from collections import Counter

from app.safety.assessment.bank import REFUSE_KINDS
from app.safety.taxonomy import CLASSES


def test_there_are_the_classes_of_the_standard() -> None:
    assert Counter(one.group for one in CLASSES.values()) == {"A1": 8, "A2": 9, "A3": 5, "A4": 7, "A5": 2}
    assert list(CLASSES) == sorted(CLASSES)
    assert all(one.id == key and one.zh and one.en.isascii() for key, one in CLASSES.items())


def test_the_banks_know_the_same_classes() -> None:
    assert list(REFUSE_KINDS) == [key for key, one in CLASSES.items() if one.group in {"A1", "A2"}]
