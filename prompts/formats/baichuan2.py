"""Baichuan2-Chat's prompt.

    system text, bare | 195 question | 196 answer | 195 question | 196

There is no mark for the system message and no end mark after an answer: the model was trained so. Where the official
function cuts a question in the middle, drops the system message or forgets the last 196 in its budget, this one does
not; the tests name each such case.

Source: `build_chat_input` in generation_utils.py of baichuan-inc/Baichuan2-13B-Chat at c6f8592.
"""

from collections.abc import Sequence

from app.domain.generation import ChatMessage, Prompt
from app.domain.models import Role
from prompts.formats import budget
from prompts.formats.tokenizer import Tokenizer

USER_TOKEN = "<reserved_106>"  # noqa: S105 - a token of a vocabulary
ASSISTANT_TOKEN = "<reserved_107>"  # noqa: S105 - as above
END_TOKEN = "</s>"  # noqa: S105 - as above


class Baichuan2Format:
    """Builds prompts for Baichuan2-Chat, 7B and 13B alike."""

    name = "baichuan2"
    user_token = USER_TOKEN
    assistant_token = ASSISTANT_TOKEN
    ends_answers = False
    """Whether an end mark stands after an answer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """A vocabulary that does not name the roles has them at their usual ids."""
        self._tokenizer = tokenizer
        self._user = _id(tokenizer, self.user_token, default=195)
        self._assistant = _id(tokenizer, self.assistant_token, default=196)
        end = _id(tokenizer, END_TOKEN, default=2)
        self._marks = budget.Marks(
            open=self._open, close_answer=(end,) if self.ends_answers else (), answer=(self._assistant,)
        )
        # The model may go on with a role's sign instead of an end, and would then ask itself the next question.
        self.stop_token_ids: tuple[int, ...] = (end, self._user, self._assistant)

    def count(self, text: str) -> int:
        """Return how many tokens a text is."""
        return self._tokenizer.count(text)

    def build(self, messages: Sequence[ChatMessage], *, context_length: int, max_tokens: int) -> Prompt:
        """Fit the messages into the context; see the port. Raises ContextLengthExceeded, InvalidInput."""
        thread = budget.split(messages)
        return budget.assemble(
            thread,
            system=self._tokenizer.encode_plain(thread.system.text) if thread.system else (),
            marks=self._marks,
            context_length=context_length,
            max_tokens=max_tokens,
        )

    def _open(self, message: ChatMessage) -> tuple[int, ...]:
        role = self._user if message.role is Role.USER else self._assistant
        return (role, *self._tokenizer.encode_plain(message.text))


def _id(tokenizer: Tokenizer, token: str, *, default: int) -> int:
    found = tokenizer.id_of(token)
    return default if found is None else found
