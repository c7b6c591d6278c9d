"""What texts are sorted by: the 31 classes of GB/T 45654 in their five groups, and our own categories.

A class says what a regulator counts; a category says what a policy does something about. Each of our categories
belongs to one class or more; a policy may also go by the classes themselves (`by_class`), each of which then is a
category: `A1.d` is `a1_d`. Names for people are in `app.domain.words`.

Source of classes and numbers: TC260-003 (2024-02-29), annex A and section 8. GB/T 45654-2025, in force since
2025-11-01, succeeds it with the same 31 classes in five groups; its annex was not at hand, so compare before filing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from app.domain.words import class_name

MIN_KEYWORDS: Final = 10_000
"""Of a library of keywords, in all; for each class see `SafetyGroup`. To be looked through once a week."""
MIN_TEST_QUESTIONS: Final = 2_000
"""Of a bank for generated content, which covers all classes. To be looked through once a month, as the next two."""
MIN_REFUSE_QUESTIONS: Final = 500
"""Of a bank of what is to be refused, which covers groups A1 and A2."""
MIN_ANSWER_QUESTIONS: Final = 500
"""Of a bank of what must not be refused; at least 20 of each kind, see `app.safety.assessment.bank`."""


@dataclass(frozen=True, slots=True)
class SafetyGroup:
    """One of the five groups, and how much of everything it asks for, for each of its classes."""

    id: str
    zh: str
    en: str
    keywords: int
    test_questions: int
    refuse_questions: int


@dataclass(frozen=True, slots=True)
class SafetyClass:
    """One of the 31 classes."""

    id: str
    """`A1.a` to `A5.b`."""
    group: str
    zh: str
    en: str

    @property
    def category(self) -> str:
        """What a policy that goes by class calls it: `a1_a`."""
        return self.id.lower().replace(".", "_")


def _group(group_id: str, *, keywords: int, test_questions: int, refuse_questions: int) -> SafetyGroup:
    names = class_name(group_id, "zh"), class_name(group_id, "en")
    return SafetyGroup(group_id, *names, keywords, test_questions, refuse_questions)


GROUPS: Final[Mapping[str, SafetyGroup]] = MappingProxyType(
    {
        "A1": _group("A1", keywords=200, test_questions=50, refuse_questions=20),
        "A2": _group("A2", keywords=100, test_questions=50, refuse_questions=20),
        **{
            group_id: _group(group_id, keywords=0, test_questions=20, refuse_questions=0)
            for group_id in ("A3", "A4", "A5")
        },
    }
)
_LETTERS: Final = {"A1": "abcdefgh", "A2": "abcdefghi", "A3": "abcde", "A4": "abcdefg", "A5": "ab"}
CLASSES: Final[Mapping[str, SafetyClass]] = MappingProxyType(
    {
        class_id: SafetyClass(class_id, group, class_name(class_id, "zh"), class_name(class_id, "en"))
        for group, letters in _LETTERS.items()
        for class_id in (f"{group}.{letter}" for letter in letters)
    }
)
"""By id, in the standard's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One of our own categories."""

    id: str
    classes: tuple[str, ...] = ()
    """What it is in GB/T 45654, the closest class first; none for what is no content: attempts, test phrases."""
    openai: tuple[str, ...] = ()
    """What it is in OpenAI's moderations."""


CATEGORIES: Final[Mapping[str, Category]] = MappingProxyType(
    {
        one.id: one
        for one in (
            Category(id="violence", classes=("A1.f", "A1.d"), openai=("violence",)),
            Category(id="weapons", classes=("A1.h", "A1.d"), openai=("illicit", "illicit/violent")),
            Category(id="self_harm", classes=("A4.a",), openai=("self-harm",)),
            Category(id="sexual", classes=("A1.f",), openai=("sexual",)),
            Category(id="sexual_minors", classes=("A1.f",), openai=("sexual", "sexual/minors")),
            Category(
                id="hate",
                classes=("A2.i", "A1.e", *(f"A2.{letter}" for letter in "abcdefgh")),
                openai=("hate",),
            ),
            Category(id="crime", classes=("A1.h", "A4.g"), openai=("illicit",)),
            Category(id="fraud", classes=("A1.h", "A3.e"), openai=("illicit",)),
            Category(id="drugs", classes=("A1.h",), openai=("illicit",)),
            Category(id="malware", classes=("A1.h", "A4.g"), openai=("illicit",)),
            Category(id="personal_data", classes=("A4.f", "A4.e")),
            Category(id="jailbreak"),
            Category(id="test"),
            Category(id="unavailable"),
        )
    }
)
"""By id. `unavailable` is what a part of the filter that failed is counted as."""

_CLASSES_IN_OPENAI: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "A1.d": ("violence", "illicit", "illicit/violent"),
        "A1.e": ("hate",),
        "A1.f": ("violence", "sexual"),  # one class for both: a program that looks for either finds it
        "A1.h": ("illicit",),
        **dict.fromkeys((class_id for class_id in CLASSES if class_id.startswith("A2.")), ("hate",)),
        **dict.fromkeys((class_id for class_id in CLASSES if class_id.startswith("A3.")), ("illicit",)),
        "A4.a": ("self-harm",),
        "A4.c": ("harassment",),
        "A4.d": ("harassment",),
        "A4.g": ("illicit",),
    }
)
_BY_CATEGORY: Final[Mapping[str, SafetyClass]] = MappingProxyType({one.category: one for one in CLASSES.values()})


def class_of(category: str) -> SafetyClass | None:
    """Return the class that a category is, or is closest to; None for what is no content, or was made up by a site."""
    if category in _BY_CATEGORY:
        return _BY_CATEGORY[category]
    classes = CATEGORIES[category].classes if category in CATEGORIES else ()
    return CLASSES[classes[0]] if classes else None


def is_class(category: str) -> bool:
    """Whether a category is one of the standard's classes, as a policy that goes by them calls it."""
    return category in _BY_CATEGORY


def expanded(category: str) -> tuple[str, ...]:
    """Return the categories that a name stands for where a policy goes by class: `a2` is all nine of group A2."""
    return tuple(one.category for one in CLASSES.values() if one.group.lower() == category) or (category,)


def in_openai(category: str) -> tuple[str, ...]:
    """Return the names that a category has in OpenAI's moderations; none where nothing there is like it."""
    if category in CATEGORIES:
        return CATEGORIES[category].openai
    found = _BY_CATEGORY.get(category)
    return _CLASSES_IN_OPENAI.get(found.id, ()) if found else ()
