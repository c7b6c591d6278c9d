"""What a guard is shown: a few turns, cut to size, in which a hostile text cannot pass for anything but a text.

Guards that chat get messages, and their server makes one prompt of these. Many servers take a mark such as
`<|im_start|>` in a message for the real one, so a text could end its own turn and write the verdict itself.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from app.domain.generation import ChatMessage
from app.domain.models import Role

MAX_TURN: Final = 1000
"""Characters of a turn that is only context."""
_TURNS: Final = 5
"""Of context: the question and the two rounds before."""
_SPEAKERS: Final = (Role.USER, Role.ASSISTANT)

_MARK: Final = re.compile(
    r"<(?=[|｜]|<?/?SYS>|/?s>|/?think>|/?thought>|reserved_|start_of_|end_of_|BEGIN |END |unk>|pad>|bos>|eos>)"
    r"|\[(?=/?INST\])",
    re.IGNORECASE,
)
_TWIN: Final = {"<": "＜", "[": "［"}
_SPEAKER: Final = re.compile(
    r"^([ \t]*(?:user|assistant|agent|system|human|[ab]))[ \t]*:", re.IGNORECASE | re.MULTILINE
)


def conversation(context: Sequence[ChatMessage], text: str, *, is_answer: bool) -> tuple[ChatMessage, ...]:
    """Return the turns to be judged, the text last: they alternate and begin with the user's.

    An answer to nothing that is known is judged as a text by itself, as a user's.
    """
    kept = [ChatMessage(one.role, clipped(one.text)) for one in context if one.role in _SPEAKERS and one.text.strip()]
    if is_answer:
        while kept and kept[-1].role is Role.ASSISTANT:  # its own beginning
            kept.pop()
    kept = kept[-_TURNS:]
    role = Role.ASSISTANT if is_answer and kept else Role.USER
    return tuple(_alternating([*kept, ChatMessage(role, text)]))


def clipped(text: str, limit: int = MAX_TURN) -> str:
    """Return a text, or the two ends of a long one."""
    return text if len(text) <= limit else f"{text[: limit // 2]}\n…\n{text[-limit // 2 :]}"


def defused(text: str) -> str:
    """Return the text with the first character of each mark of a prompt changed to its full-width twin.

    So are the colons of lines that begin like a speaker's. A guard reads the same; no tokenizer does.
    """
    text = _MARK.sub(lambda match: _TWIN[match[0]], text)
    return _SPEAKER.sub(r"\1：", text)


def messages(turns: Iterable[ChatMessage]) -> list[dict[str, str]]:
    """Return turns as a chat completion takes them, defused."""
    return [{"role": turn.role.value, "content": defused(turn.text)} for turn in turns]


def _alternating(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    merged: list[ChatMessage] = []
    for turn in turns:
        if merged and merged[-1].role is turn.role:
            merged[-1] = ChatMessage(turn.role, f"{merged[-1].text}\n{turn.text}")
        elif merged or turn.role is Role.USER:
            merged.append(turn)
    return merged
