"""ChatML, the prompt of SmolLM2-Instruct (and, without its default system message, of many others).

    <|im_start|>role
    text<|im_end|>
    …
    <|im_start|>assistant

Source: chat_template in tokenizer_config.json of HuggingFaceTB/SmolLM2-135M-Instruct.
"""

from collections.abc import Sequence

from app.domain.errors import InvalidInput
from app.domain.generation import ChatMessage, Prompt
from app.domain.models import Role
from prompts.formats import budget
from prompts.formats.tokenizer import Tokenizer

START_TOKEN = "<|im_start|>"  # noqa: S105 - a token of a vocabulary
END_TOKEN = "<|im_end|>"  # noqa: S105 - as above
END_OF_TEXT_TOKEN = "<|endoftext|>"  # noqa: S105 - as above
SMOLLM_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class ChatMLFormat:
    """Builds prompts for models that were trained on ChatML."""

    name = "chatml"

    def __init__(self, tokenizer: Tokenizer, *, default_system: str = SMOLLM_SYSTEM) -> None:
        """`default_system` stands where a conversation has no system message; empty for none.

        Raises InvalidInput where the vocabulary lacks ChatML's tokens.
        """
        start, end = tokenizer.id_of(START_TOKEN), tokenizer.id_of(END_TOKEN)
        if start is None or end is None:
            raise InvalidInput(f"the tokenizer has no {START_TOKEN} or no {END_TOKEN}: not a ChatML model")
        self._tokenizer = tokenizer
        self._start = start
        self._marks = budget.Marks(
            open=self._open,
            close=(end, *tokenizer.encode_plain("\n")),
            answer=self._open(ChatMessage(Role.ASSISTANT, "")),
        )
        self._default_system = ChatMessage(Role.SYSTEM, default_system) if default_system else None
        end_of_text = tokenizer.id_of(END_OF_TEXT_TOKEN)
        self.stop_token_ids: tuple[int, ...] = (end,) if end_of_text is None else (end, end_of_text)

    def count(self, text: str) -> int:
        """Return how many tokens a text is."""
        return self._tokenizer.count(text)

    def build(self, messages: Sequence[ChatMessage], *, context_length: int, max_tokens: int) -> Prompt:
        """Fit the messages into the context; see the port. Raises ContextLengthExceeded, InvalidInput."""
        thread = budget.split(messages)
        system = thread.system or self._default_system
        return budget.assemble(
            thread,
            system=(*self._open(system), *self._marks.close) if system else (),
            marks=self._marks,
            context_length=context_length,
            max_tokens=max_tokens,
        )

    def _open(self, message: ChatMessage) -> tuple[int, ...]:
        # Role and text in one go: a text that begins with a line break shares a token with the break before it.
        return (self._start, *self._tokenizer.encode_plain(f"{message.role.value}\n{message.text}"))
