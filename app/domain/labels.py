"""The labels that say a text was made by AI: in words for people, as fields for programs.

Wherever an answer leaves the chat – copied, exported, shared, over the API – both go with it. The words have
"人工智能" or "AI" and "生成" in them; the fields are those of the implicit label of a file, `AIGC`.
Source: GB 45438-2025, chapters 4 to 6 and annex E; 人工智能生成合成内容标识办法, articles 4 and 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.domain.words import Language

EXPLICIT: Final = "本内容由人工智能生成 · AI-generated content"
"""For what goes to readers whose language nobody knows: files, and pages that are passed on."""
ANSWER: Final[Mapping[Language, str]] = {"en": "AI-generated", "zh": "人工智能生成"}
"""Beside one answer."""
HEADER: Final = "X-Haina-AI-Generated"
"""On every response of `/v1` that holds an answer, and on files and pages; its value is `true`."""
IS_GENERATED: Final = "1"
"""`Label`: 1 it is, 2 it may be, 3 it is suspected to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aigc:
    """The implicit label of a text."""

    producer: str
    """Whose service made it: the operator's name or code."""
    produce_id: str
    """What the producer finds it by: a conversation's id, or an answer's."""
    propagator: str = ""
    """Whose service shows it to the public; empty until somebody does."""
    propagate_id: str = ""

    def as_fields(self) -> dict[str, str]:
        """Return the fields in the standard's order and spelling; the reserved ones are for signatures and empty."""
        return {
            "Label": IS_GENERATED,
            "ContentProducer": self.producer,
            "ProduceID": self.produce_id,
            "ReservedCode1": "",
            "ContentPropagator": self.propagator,
            "PropagateID": self.propagate_id,
            "ReservedCode2": "",
        }
