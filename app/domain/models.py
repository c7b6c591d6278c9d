"""The things that Haina keeps: accounts, conversations, messages, prompt templates, hits and what follows from them.

All are frozen. Times are aware and in UTC. Ids are opaque strings made by `new_id`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum

from app.domain.verdicts import NOTHING, Action, ReleasedText, Stage


def new_id() -> str:
    """Return a random id of 22 characters that is safe in URLs (128 bits: not to be guessed)."""
    return secrets.token_urlsafe(16)


def now() -> datetime:
    """Return the present in UTC."""
    return datetime.now(UTC)


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class MessageState(StrEnum):
    """The state of a message. A question is `complete` or `blocked`; an answer ends in exactly one of the last five."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    BLOCKED = "blocked"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self is not MessageState.RUNNING


class AccountRole(StrEnum):
    """What somebody may do. A guest is an account without a password, tied to a cookie."""

    GUEST = "guest"
    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who may chat."""

    id: str
    name: str
    """Unique without regard to case; for a guest a made-up one."""
    role: AccountRole
    created_at: datetime
    last_seen_at: datetime | None = None
    is_suspended: bool = False
    policy_layers: str = ""
    """Names of layers over the site's filter policy, from the bottom, separated by blanks."""

    @property
    def is_admin(self) -> bool:
        """Whether the console is open to them."""
        return self.role is AccountRole.ADMIN and not self.is_suspended


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in browser. The token itself is only in the cookie; here is its SHA-256, as hex."""

    token_hash: str
    account_id: str
    created_at: datetime
    expires_at: datetime
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key for `/v1`. The key is shown once; here are its SHA-256 and its first characters."""

    id: str
    account_id: str
    name: str
    key_hash: str
    prefix: str
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    policy_layers: str = ""
    """Over those of its account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. None means: what the model's own generation_config says."""

    temperature: float | None = None
    """0 is greedy."""
    top_p: float | None = None
    top_k: int | None = None
    """0 or -1: not limited."""
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def overridden_by(self, wishes: "Sampling") -> "Sampling":
        """Return these values with every wish that was made."""
        made = {item.name: getattr(wishes, item.name) for item in fields(wishes)}
        return replace(self, **{name: value for name, value in made.items() if value not in (None, ())})


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How an answer was made; enough to make it again."""

    model: str
    model_revision: str = ""
    quantization: str = "none"
    template_version_id: str | None = None
    template: str = ""
    """Its name and number, for people: `translator-en v3`."""
    sampling: Sampling = field(default_factory=Sampling)
    """As it was used, defaults filled in, the seed included."""
    policy: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dropped_messages: int = 0
    """How many messages of the history did not fit the context."""
    queued_s: float = 0.0
    first_token_s: float | None = None
    """From leaving the queue to the first token."""
    total_s: float = 0.0
    finish_reason: str = ""


PREPARED = "prepared"
"""The `finish_reason` of an answer that was not made: somebody approved it in advance, `model` is its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A thread of messages of one owner."""

    id: str
    owner_id: str
    title: ReleasedText
    created_at: datetime
    updated_at: datetime
    leaf_id: str | None = None
    """The newest message of the branch that is shown."""
    template_version_id: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    is_titled_by_owner: bool = False
    source: str = "page"
    """`page` or `api`; those of the API do not appear in the list."""
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A link to a conversation as it was, for anybody. The token is only in the link; here is its SHA-256, as hex."""

    id: str
    token_hash: str
    owner_id: str
    conversation_id: str
    leaf_id: str
    """The last message that is shown: what is shown ends with it, whatever was said later or on another branch."""
    title: ReleasedText
    """As it was when the link was made."""
    created_at: datetime
    expires_at: datetime | None = None


ErrorData = Mapping[str, str | int | float | bool]
"""The numbers and names in an error's sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One row of a conversation. It has a parent, is appended, and never changes once its state is final."""

    id: str
    """An answer's id is also its turn's id."""
    conversation_id: str
    parent_id: str | None
    role: Role
    text: ReleasedText
    """What was shown. Empty for a question that the filter refused."""
    state: MessageState
    created_at: datetime
    finished_at: datetime | None = None
    category: str | None = None
    """Why it is `blocked`."""
    error_code: str | None = None
    """What ended it where it is `failed` or `blocked`: the code of a ChatError."""
    error_data: ErrorData = field(default_factory=dict)
    continues_id: str | None = None
    """The cut answer whose text this one begins with."""
    receipt: Receipt | None = None

    @property
    def is_prepared(self) -> bool:
        """Whether it is an answer of the answer bank, given in place of a refusal."""
        return self.receipt is not None and self.receipt.finish_reason == PREPARED


class VariableKind(StrEnum):
    """How a template's variable is asked for."""

    TEXT = "text"
    LONG_TEXT = "long_text"
    SELECT = "select"
    NUMBER = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A blank in a template."""

    name: str
    label: Mapping[str, str]
    """By language: `{"en": …, "zh": …}`."""
    kind: VariableKind = VariableKind.TEXT
    default: str = ""
    choices: tuple[str, ...] = ()
    is_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateDraft:
    """The content of a template version, as it is edited, imported and exported."""

    system: str
    """The system prompt, with `{{name}}` for each variable."""
    variables: tuple[Variable, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    examples: tuple[str, ...] = ()
    """Questions that the empty page offers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVersion:
    """An immutable version of a prompt template."""

    id: str
    template_id: str
    number: int
    """1, 2, 3, … within its template."""
    content: TemplateDraft
    content_hash: str
    """SHA-256 of the canonical JSON of `content`, as hex."""
    message: str
    """Why it was made, like a commit message."""
    author: str
    """The name, kept when the account is gone."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A prompt template: a name under which versions are kept, one of them live."""

    id: str
    name: str
    """Unique; lower-case letters, digits and hyphens."""
    title: Mapping[str, str]
    """By language."""
    description: Mapping[str, str]
    language: str
    """The language that the prompt is written in: `en` or `zh`."""
    tags: tuple[str, ...]
    live_version_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFile:
    """A template as a text file holds it."""

    name: str
    title: Mapping[str, str]
    description: Mapping[str, str]
    language: str
    tags: tuple[str, ...]
    content: TemplateDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """An immutable version of a policy layer: TOML, as `app.safety.policy_file` reads it."""

    id: str
    layer: str
    """The layer's name; lower-case letters, digits and hyphens."""
    number: int
    """1, 2, 3, … within its layer."""
    text: str
    message: str
    """Why it was made."""
    author: str
    """The name, kept when the account is gone."""
    created_at: datetime
    is_live: bool = False
    """Whether it is the one in force; one of each layer is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A finding of the filter that was acted on. There is no text in it, and no way back to one."""

    id: str
    decision_id: str
    created_at: datetime
    stage: Stage
    action: Action
    category: str
    rule: str
    detector: str
    policy: str
    start: int
    end: int
    account_id: str | None = None
    conversation_id: str | None = None
    message_id: str | None = None
    is_degraded: bool = False
    score: float = 1.0
    """The detector's, 0 to 1; 1.0 for hits of schema 0001, which did not keep it."""
    digest: str = ""
    """Of the normalised text, with a key of that day: the same text is known again on that day. 32 hex digits."""
    text_length: int = 0
    """In code points, of what was read; 0 where nobody noted it."""
    language: str = ""
    """A guess: `zh`, `en`, `other`; empty where nobody noted it."""
    is_shadow: bool = False
    """A rule on trial: `action` is what it would have done, and nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTrace:
    """What a hit keeps of a text."""

    digest: str = ""
    length: int = 0
    language: str = ""


class ReviewState(StrEnum):
    """How far a review is."""

    OPEN = "open"
    UPHELD = "upheld"
    OVERTURNED = "overturned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A decision that a person looks at: the filter handed it over, or its account appealed. Outlives the account."""

    decision_id: str
    created_at: datetime
    """When it came into the queue, the last time."""
    account_id: str
    account_name: str
    """As it was then."""
    is_handoff: bool = False
    """The filter asked for it."""
    is_appealed: bool = False
    """The account asked for it; once a decision."""
    comment: ReleasedText = NOTHING
    """What the account says to it."""
    state: ReviewState = ReviewState.OPEN
    decided_at: datetime | None = None
    decided_by: str = ""
    """The reviewer's name, kept when the account is gone."""
    note: ReleasedText = NOTHING
    """What the reviewer tells the account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """A refused question that counts against an account."""

    decision_id: str
    account_id: str
    at: datetime
    is_in_row: bool = True
    """No question of the account passed since."""
    undone_at: datetime | None = None
    """The decision was overturned: it counts no more."""
    suspension_id: str | None = None
    """What it led to; it does not count a second time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """An account may ask nothing for a while. It ends by itself."""

    id: str
    account_id: str
    began_at: datetime
    ends_at: datetime
    lifted_at: datetime | None = None
    lifted_by: str = ""
    """The name of who ended it early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The text behind a decision, encrypted."""

    decision_id: str
    created_at: datetime
    key_id: str
    """Names the key that opens it, and tells nothing about it."""
    start: int
    """Where the text begins in the whole that the hits' offsets count in."""
    sealed: bytes = field(repr=False)


class AuditAction(StrEnum):
    """What is written into the audit trail."""

    REVIEW_APPEALED = "review_appealed"
    REVIEW_UPHELD = "review_upheld"
    REVIEW_OVERTURNED = "review_overturned"
    EVIDENCE_OPENED = "evidence_opened"
    SUSPENSION_BEGAN = "suspension_began"
    SUSPENSION_LIFTED = "suspension_lifted"
    ACCOUNT_SUSPENDED = "account_suspended"
    ACCOUNT_RESUMED = "account_resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what, when, on what. Refers to nothing, so it is kept when the account is gone."""

    id: str
    at: datetime
    actor_id: str
    actor_name: str
    action: AuditAction
    subject: str
    """A decision's id, or an account's name."""
    reason: str = ""
    """Why, where that is asked for. What it says is shown to admins alone."""

    @classmethod
    def of(cls, actor: Account | None, action: AuditAction, subject: str, *, reason: str = "") -> "AuditEntry":
        """Return an entry of now; without an actor Haina did it by itself."""
        return cls(
            id=new_id(),
            at=now(),
            actor_id=actor.id if actor else "",
            actor_name=actor.name if actor else "Haina",
            action=action,
            subject=subject,
            reason=reason,
        )
