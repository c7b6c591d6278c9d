"""What services need from the outside, as Protocols. `app.bootstrap` chooses who fulfils them."""

from asyncio import Future
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.domain.generation import (
    ChatMessage,
    Delta,
    EngineStatus,
    Finish,
    GenerationRequest,
    Prompt,
)
from app.domain.health import DetectorHealth
from app.domain.models import (
    Account,
    ApiKey,
    AuditEntry,
    Conversation,
    ErrorData,
    Evidence,
    Hit,
    Message,
    MessageState,
    PolicyVersion,
    Receipt,
    Review,
    ReviewState,
    Session,
    Share,
    Strike,
    Suspension,
    Template,
    TemplateFile,
    TemplateVersion,
    TextTrace,
)
from app.domain.verdicts import Checked, Decision, GateEvent, ReleasedText, SealedText, Stage
from app.domain.words import Language


class Engine(Protocol):
    """Something that completes prompts: our worker, vLLM, a hosted chat API, a script."""

    async def status(self) -> EngineStatus:
        """Return the present state; never raises, an engine that does not answer is `DOWN` or `STARTING`."""
        ...

    async def prompt_format(self) -> "PromptFormat | None":
        """Return the prompt format of the default model; None for an engine that takes messages.

        Raises EngineUnavailable while the model is not ready.
        """
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Delta | Finish, None]:
        """Yield deltas, then one Finish. Closing the generator cancels at once, also before the first item.

        Raises EngineUnavailable or one of its kinds, InvalidInput where the engine refuses the request's values.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class PromptFormat(Protocol):
    """A model family's way from messages to token ids. The text of a message can never become a control token."""

    name: str
    stop_token_ids: tuple[int, ...]

    def count(self, text: str) -> int:
        """Return how many tokens a text is."""
        ...

    def build(self, messages: Sequence[ChatMessage], *, context_length: int, max_tokens: int) -> Prompt:
        """Fit the messages into the context and return the prompt.

        A system message, if any, comes first and is never dropped; the newest question is never dropped; older
        rounds go, oldest first. A last message of the assistant is continued. `max_tokens` is the room wanted for
        the answer; it shrinks, to 16 at least, before the newest question would not fit.
        Raises ContextLengthExceeded where system and newest question alone do not fit.
        """
        ...


class Gate(Protocol):
    """One text on its way through the filter. After a `Cut` everything that is fed is ignored."""

    async def feed(self, text: str) -> Sequence[GateEvent]:
        """Take a piece and return what is now free. Never raises: what fails inside is a `Cut`."""
        ...

    def take(self) -> Sequence[GateEvent]:
        """Return what became free since the last call: guard models judge while nothing is fed."""
        ...

    def rest(self) -> AsyncIterator[Sequence[GateEvent]]:
        """End the text; yield what becomes free, to the last of it or a `Cut`. Call it once, and nothing after it."""
        ...

    async def finish(self) -> Sequence[GateEvent]:
        """Return all of the rest, or a `Cut`, as `rest` gives it."""
        ...

    @property
    def awaited(self) -> "Future[None] | None":
        """Done as soon as `take` may have something though nothing was fed; None where nothing is waited for."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether the end is known: who feeds may stop, and ask for the rest."""
        ...

    async def close(self) -> None:
        """Drop what is held and cancel what is asked. For whoever does not come to the end; it may come twice."""
        ...

    @property
    def decisions(self) -> Sequence[Decision]:
        """Decisions that let the text pass but are to be recorded (flagged, masked), so far."""
        ...

    @property
    def heard(self) -> SealedText:
        """The raw text so far; after a `Cut` what was read up to the end of what it was cut for, and nothing behind."""
        ...


class Filter(Protocol):
    """The content filter. Fails closed: an error inside is a refusal."""

    @property
    def policy(self) -> str:
        """The id of the policy in force, as decisions name it."""
        ...

    @property
    def categories(self) -> frozenset[str]:
        """The categories that the policy in force knows."""
        ...

    @property
    def answer_bank(self) -> "AnswerBank":
        """Approved answers to questions that it refuses."""
        ...

    def health(self) -> Sequence[DetectorHealth]:
        """Return how each part does."""
        ...

    async def check(
        self,
        text: str,
        *,
        stage: Stage,
        context: Sequence[ChatMessage] = (),
        with_guards: bool = True,
        beside: Sequence[str] | None = None,
    ) -> Checked:
        """Judge a whole text: the same decision as a gate fed with it. `context` is what was said before it.

        Without guards only this process judges: for pieces of a text that guards are asked about as a whole. With
        `beside`, the other texts that a question's model sees, masks that may return to its owner are placeholders that
        stand in none of them, and `Checked.masks` says for what; without, every mask is the same.
        """
        ...

    async def in_context(self, checked: Checked, *, earlier: Sequence[str]) -> Checked:
        """Return the same with a flag for what begins in `earlier` texts of its author and ends in this one."""
        ...

    def open(self, *, stage: Stage, context: Sequence[ChatMessage] = ()) -> Gate:
        """Start a stream; `context` is what was said before it."""
        ...

    def continued(self, text: ReleasedText, *, stage: Stage, context: Sequence[ChatMessage] = ()) -> Gate:
        """Start a stream that goes on after `text`, already shown: phrases may begin in it; it does not come again."""
        ...


SITE_LAYER = "site"
"""The layer that lies over the policy file for everybody."""


class Filters(Protocol):
    """The filters in force."""

    @property
    def site(self) -> Filter:
        """The filter for everybody: the policy file, and the layer `SITE_LAYER` if there is one."""
        ...

    async def over(self, names: str) -> Filter:
        """Return the filter with layers over the site's: names from the bottom, separated by blanks.

        Raises SafetyUnavailable where there is no such layer.
        """
        ...

    async def draft(self, name: str, text: str) -> Filter:
        """Return the filter as it would be if a layer were this text. Nothing changes.

        Raises InvalidPolicy.
        """
        ...

    async def has_changed(self) -> bool:
        """Whether a policy file is no longer what the filters were built of."""
        ...

    async def restock(self, *, layers: Mapping[str, str]) -> None:
        """Put these layers, by name, and the policy file as it is now, in force for what begins from now on.

        Raises InvalidPolicy; nothing changes then.
        """
        ...


class Replies(Protocol):
    """What a person reads in place of a text that the filter refused. Written in advance; never raises."""

    def refusal(self, *, category: str, stage: str, seed: str, language: Language) -> str:
        """Return the reply, in Markdown, for a category (one that nobody has written for, too) and a `Stage`.

        Of equal replies the same seed gives the same, in each language.
        """
        ...

    def brief(self, *, category: str, stage: str, seed: str, language: Language) -> str:
        """Return the same in one paragraph without marks, for a program's error message."""
        ...


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """An answer that somebody approved in advance. It goes through the filter like any other."""

    name: str
    text: str


class AnswerBank(Protocol):
    """Approved answers to questions that are refused."""

    async def find(self, question: str, *, category: str) -> PreparedAnswer | None:
        """Return the answer to a question that was refused in a category, in its language; None where there is none.

        Never raises; lets other tasks run during a long question.
        """
        ...


class Tracer(Protocol):
    """What may be kept of a text that is not kept."""

    def trace(self, text: SealedText, *, at: datetime) -> TextTrace:
        """Return its fingerprint with the key of the day of `at`, its length and its language."""
        ...


class EvidenceBox(Protocol):
    """Encrypts texts, and opens them again."""

    @property
    def has_key(self) -> bool:
        """Whether there is a key; without one nothing can be sealed."""
        ...

    def seal(self, text: SealedText, *, decision_id: str, at: datetime) -> Evidence:
        """Encrypt a text, bound to its decision. Raises EvidenceSealed(kind="key_missing")."""
        ...

    def open(self, evidence: Evidence) -> SealedText:
        """Raises EvidenceSealed: no key, another key, or evidence that is damaged or another decision's."""
        ...


class Accounts(Protocol):
    """Accounts, their passwords, sessions, keys, and failed attempts to sign in."""

    async def add(self, account: Account, *, password_hash: str | None = None) -> None:
        """Raises Conflict(kind="name") where the name is taken, whatever its case."""
        ...

    async def get(self, account_id: str) -> Account | None: ...
    async def hold(self, account_id: str) -> None:
        """Let no other transaction hold this account until this one ends, so that counting and acting on it are one."""
        ...

    async def by_name(self, name: str) -> Account | None: ...
    async def password_hash(self, account_id: str) -> str | None: ...
    async def set_password_hash(self, account_id: str, password_hash: str) -> None: ...
    async def set_suspended(self, account_id: str, *, is_suspended: bool) -> None: ...
    async def set_policy_layers(self, account_id: str, names: str) -> None: ...
    async def touch(self, account_id: str, at: datetime) -> None: ...
    async def has_admin(self) -> bool: ...

    async def page(
        self, *, query: str = "", with_guests: bool = False, limit: int = 50, offset: int = 0
    ) -> Sequence[Account]:
        """Newest first."""
        ...

    async def add_session(self, session: Session) -> None: ...
    async def session(self, token_hash: str) -> Session | None: ...
    async def end_session(self, token_hash: str) -> None: ...
    async def end_sessions(self, account_id: str) -> None: ...
    async def purge_sessions(self, *, expired_before: datetime) -> int: ...

    async def add_key(self, key: ApiKey) -> None: ...
    async def key(self, key_hash: str) -> ApiKey | None: ...
    async def keys(self, account_id: str | None = None) -> Sequence[ApiKey]: ...
    async def set_key_policy_layers(self, key_id: str, names: str) -> None: ...
    async def revoke_key(self, key_id: str, at: datetime) -> None: ...
    async def touch_key(self, key_id: str, at: datetime) -> None: ...

    async def add_failed_sign_in(self, *, name: str, address: str, at: datetime) -> None: ...
    async def failed_sign_ins(self, *, name: str, address: str, since: datetime) -> Sequence[datetime]:
        """From this address for this name, oldest first: nobody can lock another one out from elsewhere."""
        ...

    async def clear_failed_sign_ins(self, *, name: str, address: str) -> None: ...


class Conversations(Protocol):
    """Conversations. What is deleted stays for a while, so that it can be brought back."""

    async def add(self, conversation: Conversation) -> None: ...

    async def get(self, conversation_id: str, *, with_deleted: bool = False) -> Conversation | None: ...

    async def page(
        self, owner_id: str, *, query: str = "", before: datetime | None = None, limit: int = 50
    ) -> Sequence[Conversation]:
        """Those of the page (not the API), latest change first; `query` is part of a title, `before` pages on."""
        ...

    async def set_title(self, conversation_id: str, title: ReleasedText, *, is_by_owner: bool) -> None: ...
    async def set_leaf(self, conversation_id: str, leaf_id: str, at: datetime) -> None:
        """Also moves `updated_at` to `at`."""
        ...

    async def delete(self, conversation_id: str, at: datetime) -> None: ...
    async def restore(self, conversation_id: str) -> None: ...
    async def purge(self, *, deleted_before: datetime) -> int:
        """Remove for good, messages included; return how many conversations went."""
        ...


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A piece of a running answer, saved while it runs so that a crash loses nothing that was shown."""

    message_id: str
    n: int
    """From 0, without gaps."""
    text: ReleasedText


class Messages(Protocol):
    """Messages: appended, never rewritten; an answer is filled while it runs, then closed for good."""

    async def add(self, *messages: Message) -> None: ...
    async def get(self, message_id: str) -> Message | None:
        """A running answer comes with the parts saved so far as its text."""
        ...

    async def thread(self, conversation_id: str) -> Sequence[Message]:
        """All messages of a conversation, every branch, oldest first."""
        ...

    async def branch(self, leaf_id: str) -> Sequence[Message]:
        """The path from the first message to this one, oldest first."""
        ...

    async def children(self, conversation_id: str, parent_id: str | None) -> Sequence[str]:
        """The ids of the messages that follow one, or that begin a conversation; oldest first."""
        ...

    async def add_parts(self, parts: Sequence[AnswerPart]) -> None: ...

    async def finish(
        self,
        message_id: str,
        *,
        state: MessageState,
        text: ReleasedText,
        finished_at: datetime,
        category: str | None = None,
        error_code: str | None = None,
        error_data: ErrorData | None = None,
        receipt: Receipt | None = None,
    ) -> bool:
        """Close a running answer and drop its parts; False, and no change, where it was closed already."""
        ...

    async def interrupt_running(self, at: datetime) -> int:
        """Close every running answer as `interrupted` with the parts that were saved; return how many."""
        ...

    async def recent(self, *, since: datetime, before: str | None = None, limit: int = 200) -> Sequence[Message]:
        """Those of everybody that have a text and are final, newest first; `before` is the id to go on from."""
        ...

    async def counts(self, *, since: datetime) -> Mapping[MessageState, int]:
        """How many answers of each state there are."""
        ...


class Hits(Protocol):
    """What the filter stopped or marked."""

    async def add(self, *hits: Hit) -> None: ...
    async def page(self, *, category: str = "", rule: str = "", limit: int = 100, offset: int = 0) -> Sequence[Hit]:
        """Newest first, rules on trial too; an empty string does not restrict."""
        ...

    async def of_decision(self, decision_id: str) -> Sequence[Hit]:
        """All hits of one decision, in the order of the text."""
        ...

    async def counts_by_rule(self, *, since: datetime) -> Sequence[tuple[str, str, int]]:
        """`(category, rule, count)`, most first. Rules on trial are left out."""
        ...


class Reviews(Protocol):
    """The review queue: one row for each decision that somebody asked to have looked at."""

    async def add(self, review: Review) -> None:
        """Raises Conflict(kind="review") where this decision has a row."""
        ...

    async def get(self, decision_id: str) -> Review | None: ...
    async def of(self, decision_ids: Sequence[str]) -> Sequence[Review]:
        """Those of these decisions that are there, in no order."""
        ...

    async def page(self, *, state: ReviewState | None = None, limit: int = 50, offset: int = 0) -> Sequence[Review]:
        """Newest first."""
        ...

    async def count_open(self, account_id: str | None = None) -> int:
        """How many are open; with an account, how many of its appeals."""
        ...

    async def appeal(self, decision_id: str, *, comment: ReleasedText, at: datetime) -> bool:
        """Add the account's appeal to a row and open it again; False, and no change, where it was appealed before."""
        ...

    async def decide(self, decision_id: str, *, state: ReviewState, by: str, note: ReleasedText, at: datetime) -> bool:
        """Close a row; False, and no change, where it is not open."""
        ...


class Strikes(Protocol):
    """Refused questions that count, and the suspensions that they led to."""

    async def add(self, strike: Strike) -> None: ...
    async def get(self, decision_id: str) -> Strike | None: ...
    async def break_row(self, account_id: str) -> None:
        """A question of the account passed: what counts so far is in a row no more. Used strikes stay as they are."""
        ...

    async def counting(self, account_id: str, *, since: datetime) -> Sequence[Strike]:
        """Those that are neither undone nor used, and are in the row or at or after `since`; oldest first."""
        ...

    async def undo(self, decision_id: str, at: datetime) -> bool:
        """Let a strike count no more; False where there is none or it was undone."""
        ...

    async def use(self, decision_ids: Sequence[str], suspension_id: str) -> None:
        """Note what strikes led to."""
        ...

    async def of_suspension(self, suspension_id: str) -> Sequence[Strike]:
        """Those that led to it, undone ones too; oldest first."""
        ...

    async def release(self, suspension_id: str) -> None:
        """Let the strikes that led to it count again."""
        ...

    async def suspend(self, suspension: Suspension) -> None: ...
    async def suspension(self, suspension_id: str) -> Suspension | None: ...
    async def suspended(self, account_ids: Sequence[str], *, at: datetime) -> Sequence[Suspension]:
        """The suspensions of these accounts that are in force; of several for one account the longest comes last."""
        ...

    async def lift(self, suspension_id: str, *, by: str, at: datetime) -> bool:
        """End a suspension; False where it was lifted before."""
        ...


class EvidenceShelf(Protocol):
    """Encrypted texts, by decision."""

    async def add(self, *evidence: Evidence) -> None: ...
    async def get(self, decision_id: str) -> Evidence | None: ...
    async def purge(self, *, created_before: datetime) -> int:
        """Remove for good; return how many went."""
        ...


class AuditTrail(Protocol):
    """Who did what. Entries are added and never changed."""

    async def add(self, entry: AuditEntry) -> None: ...
    async def page(self, *, subject: str = "", limit: int = 50, offset: int = 0) -> Sequence[AuditEntry]:
        """Newest first; an empty subject does not restrict."""
        ...


class Templates(Protocol):
    """Prompt templates and their immutable versions."""

    async def all(self) -> Sequence[Template]:
        """By name."""
        ...

    async def get(self, template_id: str) -> Template | None: ...
    async def by_name(self, name: str) -> Template | None: ...
    async def version(self, version_id: str) -> TemplateVersion | None: ...
    async def versions(self, template_id: str) -> Sequence[TemplateVersion]:
        """Newest first."""
        ...

    async def add(self, template: Template, first: TemplateVersion) -> None:
        """Raises Conflict(kind="name") where the name is taken."""
        ...

    async def add_version(self, version: TemplateVersion) -> None:
        """Raises Conflict(kind="version") where somebody else made this number first."""
        ...

    async def set_head(self, template_id: str, head: TemplateFile) -> None:
        """Take over title, description, language and tags, nothing else. Raises NotFound."""
        ...

    async def set_live(self, template_id: str, version_id: str) -> None:
        """Raises NotFound where the version is not this template's."""
        ...


class Policies(Protocol):
    """Layers of the filter policy, and their immutable versions."""

    async def live(self) -> Sequence[PolicyVersion]:
        """The version in force of each layer, by name."""
        ...

    async def versions(self, layer: str) -> Sequence[PolicyVersion]:
        """Newest first; none where there is no such layer."""
        ...

    async def add(self, version: PolicyVersion) -> None:
        """Keep a version; one that is live takes the place of the one that was.

        Raises Conflict(kind="version") where somebody else made this number first.
        """
        ...

    async def set_live(self, layer: str, version_id: str) -> None:
        """Raises NotFound where the version is not this layer's."""
        ...


class Shares(Protocol):
    """Links to conversations. One that is removed leaves nothing that its token could match."""

    async def add(self, share: Share) -> None: ...
    async def by_token(self, token_hash: str) -> Share | None:
        """Expired or not."""
        ...

    async def get(self, share_id: str) -> Share | None: ...
    async def of_owner(self, owner_id: str) -> Sequence[Share]:
        """Newest first, expired or not."""
        ...

    async def remove(self, share_id: str) -> None: ...
    async def purge(self, *, expired_before: datetime) -> int:
        """Remove those that have expired; return how many."""
        ...


class Unit(Protocol):
    """One transaction and its repositories. Rolls back unless `commit` was awaited."""

    accounts: Accounts
    conversations: Conversations
    messages: Messages
    hits: Hits
    reviews: Reviews
    strikes: Strikes
    evidence: EvidenceShelf
    audit: AuditTrail
    templates: Templates
    policies: Policies
    shares: Shares

    async def commit(self) -> None: ...


class Storage(Protocol):
    """Where everything is kept. Raises StorageFailure and its kinds, from every method of every repository."""

    def read(self) -> AbstractAsyncContextManager[Unit]:
        """A transaction that only reads: many at once."""
        ...

    def write(self) -> AbstractAsyncContextManager[Unit]:
        """A transaction that may write: on SQLite one after the other, so nobody meets a locked database."""
        ...

    async def close(self) -> None: ...


class Markdown(Protocol):
    """Turns an answer's Markdown into safe HTML, block by block."""

    def render(self, text: str) -> Sequence[str]:
        """Return the HTML of each top-level block: sanitised, code highlighted, formulas as MathML."""
        ...

    def stream(self) -> "MarkdownStream":
        """Start a growing text."""
        ...


@dataclass(frozen=True, slots=True)
class BlockHtml:
    """Block number `index` is now this HTML (it is new, or replaces what was there)."""

    index: int
    html: str


@dataclass(frozen=True, slots=True)
class BlockText:
    """Plain text to be added to the last text node of block `index`: the same as rendering anew, but cheap."""

    index: int
    text: str


class MarkdownStream(Protocol):
    """A text that grows. The changes, applied in order, always give `render(whole text)`."""

    def feed(self, text: str) -> Sequence[BlockHtml | BlockText]: ...
