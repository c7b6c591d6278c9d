"""A storage in memory. One contract test class runs on it, on SQLite and on PostgreSQL, which keeps it honest."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta

from app.domain.errors import Conflict, NotFound, StorageFailure, StorageReadOnly
from app.domain.models import (
    Account,
    AccountRole,
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
    Role,
    Session,
    Share,
    Strike,
    Suspension,
    Template,
    TemplateFile,
    TemplateVersion,
)
from app.domain.ports import (
    Accounts,
    AnswerPart,
    AuditTrail,
    Conversations,
    EvidenceShelf,
    Hits,
    Messages,
    Policies,
    Reviews,
    Shares,
    Strikes,
    Templates,
)
from app.domain.verdicts import NOTHING, ReleasedText, joined


@dataclass(slots=True)
class State:
    """All rows, by id, in the order in which they came. The values are frozen, so a copy of the dicts is a copy."""

    accounts: dict[str, Account] = field(default_factory=dict)
    password_hashes: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    failed_sign_ins: dict[int, tuple[str, str, datetime]] = field(default_factory=dict)
    conversations: dict[str, Conversation] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    parts: dict[tuple[str, int], ReleasedText] = field(default_factory=dict)
    hits: dict[str, Hit] = field(default_factory=dict)
    reviews: dict[str, Review] = field(default_factory=dict)
    strikes: dict[str, Strike] = field(default_factory=dict)
    suspensions: dict[str, Suspension] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    audit: dict[str, AuditEntry] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    versions: dict[str, TemplateVersion] = field(default_factory=dict)
    policies: dict[str, PolicyVersion] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    is_writable: bool = True

    def copy(self, *, is_writable: bool) -> "State":
        rows = {one.name: dict(getattr(self, one.name)) for one in fields(self) if one.name != "is_writable"}
        return State(**rows, is_writable=is_writable)

    def begin_writing(self) -> None:
        """Every method that changes something calls this first."""
        if not self.is_writable:
            raise StorageReadOnly


def _require(*, is_there: bool, what: str) -> None:
    if not is_there:
        raise StorageFailure(f"refers to nothing: {what}")


def _require_new(*, is_there: bool, what: str) -> None:
    if is_there:
        raise StorageFailure(f"is there already: {what}")


class MemoryAccounts:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, account: Account, *, password_hash: str | None = None) -> None:
        self._state.begin_writing()
        if account.id in self._state.accounts or await self.by_name(account.name):
            raise Conflict(kind="name")
        self._state.accounts[account.id] = account
        if password_hash is not None:
            self._state.password_hashes[account.id] = password_hash

    async def get(self, account_id: str) -> Account | None:
        return self._state.accounts.get(account_id)

    async def hold(self, account_id: str) -> None:
        """There is one writer at a time."""

    async def by_name(self, name: str) -> Account | None:
        wanted = name.casefold()
        return next((one for one in self._state.accounts.values() if one.name.casefold() == wanted), None)

    async def password_hash(self, account_id: str) -> str | None:
        return self._state.password_hashes.get(account_id)

    async def set_password_hash(self, account_id: str, password_hash: str) -> None:
        self._state.begin_writing()
        if account_id in self._state.accounts:
            self._state.password_hashes[account_id] = password_hash

    async def set_suspended(self, account_id: str, *, is_suspended: bool) -> None:
        self._state.begin_writing()
        if account := self._state.accounts.get(account_id):
            self._state.accounts[account_id] = replace(account, is_suspended=is_suspended)

    async def set_policy_layers(self, account_id: str, names: str) -> None:
        self._state.begin_writing()
        if account := self._state.accounts.get(account_id):
            self._state.accounts[account_id] = replace(account, policy_layers=names)

    async def touch(self, account_id: str, at: datetime) -> None:
        self._state.begin_writing()
        if account := self._state.accounts.get(account_id):
            self._state.accounts[account_id] = replace(account, last_seen_at=at)

    async def has_admin(self) -> bool:
        return any(account.role is AccountRole.ADMIN for account in self._state.accounts.values())

    async def page(
        self, *, query: str = "", with_guests: bool = False, limit: int = 50, offset: int = 0
    ) -> Sequence[Account]:
        found = [
            account
            for account in self._state.accounts.values()
            if query.casefold() in account.name.casefold() and (with_guests or account.role is not AccountRole.GUEST)
        ]
        return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)[offset : offset + limit]

    async def add_session(self, session: Session) -> None:
        self._state.begin_writing()
        _require(is_there=session.account_id in self._state.accounts, what="account")
        _require_new(is_there=session.token_hash in self._state.sessions, what="session")
        self._state.sessions[session.token_hash] = session

    async def session(self, token_hash: str) -> Session | None:
        return self._state.sessions.get(token_hash)

    async def end_session(self, token_hash: str) -> None:
        self._state.begin_writing()
        self._state.sessions.pop(token_hash, None)

    async def end_sessions(self, account_id: str) -> None:
        self._state.begin_writing()
        for session in list(self._state.sessions.values()):
            if session.account_id == account_id:
                del self._state.sessions[session.token_hash]

    async def purge_sessions(self, *, expired_before: datetime) -> int:
        self._state.begin_writing()
        for n, (_, _, at) in list(self._state.failed_sign_ins.items()):
            if at < expired_before - timedelta(days=1):
                del self._state.failed_sign_ins[n]
        expired = [one.token_hash for one in self._state.sessions.values() if one.expires_at < expired_before]
        for token_hash in expired:
            del self._state.sessions[token_hash]
        return len(expired)

    async def add_key(self, key: ApiKey) -> None:
        self._state.begin_writing()
        _require(is_there=key.account_id in self._state.accounts, what="account")
        is_known = key.id in self._state.keys or await self.key(key.key_hash) is not None
        _require_new(is_there=is_known, what="key")
        self._state.keys[key.id] = key

    async def key(self, key_hash: str) -> ApiKey | None:
        return next((key for key in self._state.keys.values() if key.key_hash == key_hash), None)

    async def keys(self, account_id: str | None = None) -> Sequence[ApiKey]:
        found = [key for key in self._state.keys.values() if account_id in (None, key.account_id)]
        return sorted(found, key=lambda key: (key.created_at, key.id), reverse=True)

    async def revoke_key(self, key_id: str, at: datetime) -> None:
        self._state.begin_writing()
        if (key := self._state.keys.get(key_id)) and key.revoked_at is None:
            self._state.keys[key_id] = replace(key, revoked_at=at)

    async def set_key_policy_layers(self, key_id: str, names: str) -> None:
        self._state.begin_writing()
        if key := self._state.keys.get(key_id):
            self._state.keys[key_id] = replace(key, policy_layers=names)

    async def touch_key(self, key_id: str, at: datetime) -> None:
        self._state.begin_writing()
        if key := self._state.keys.get(key_id):
            self._state.keys[key_id] = replace(key, last_used_at=at)

    async def add_failed_sign_in(self, *, name: str, address: str, at: datetime) -> None:
        self._state.begin_writing()
        n = max(self._state.failed_sign_ins, default=0) + 1
        self._state.failed_sign_ins[n] = (name, address, at)

    async def failed_sign_ins(self, *, name: str, address: str, since: datetime) -> Sequence[datetime]:
        failures = self._state.failed_sign_ins.values()
        return sorted(at for one, place, at in failures if (one, place) == (name, address) and at >= since)

    async def clear_failed_sign_ins(self, *, name: str, address: str) -> None:
        self._state.begin_writing()
        for n, (one, place, _) in list(self._state.failed_sign_ins.items()):
            if (one, place) == (name, address):
                del self._state.failed_sign_ins[n]


class MemoryConversations:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, conversation: Conversation) -> None:
        self._state.begin_writing()
        _require_new(is_there=conversation.id in self._state.conversations, what="conversation")
        _require(is_there=conversation.owner_id in self._state.accounts, what="account")
        version_id = conversation.template_version_id
        _require(is_there=version_id is None or version_id in self._state.versions, what="template version")
        self._state.conversations[conversation.id] = conversation

    async def get(self, conversation_id: str, *, with_deleted: bool = False) -> Conversation | None:
        found = self._state.conversations.get(conversation_id)
        return found if found and (with_deleted or found.deleted_at is None) else None

    async def page(
        self, owner_id: str, *, query: str = "", before: datetime | None = None, limit: int = 50
    ) -> Sequence[Conversation]:
        found = [
            one
            for one in self._state.conversations.values()
            if one.owner_id == owner_id
            and one.source == "page"
            and one.deleted_at is None
            and query.casefold() in one.title.casefold()
            and (before is None or one.updated_at < before)
        ]
        return sorted(found, key=lambda one: (one.updated_at, one.id), reverse=True)[:limit]

    async def set_title(self, conversation_id: str, title: ReleasedText, *, is_by_owner: bool) -> None:
        self._state.begin_writing()
        if one := self._state.conversations.get(conversation_id):
            self._state.conversations[conversation_id] = replace(one, title=title, is_titled_by_owner=is_by_owner)

    async def set_leaf(self, conversation_id: str, leaf_id: str, at: datetime) -> None:
        self._state.begin_writing()
        if one := self._state.conversations.get(conversation_id):
            self._state.conversations[conversation_id] = replace(one, leaf_id=leaf_id, updated_at=at)

    async def delete(self, conversation_id: str, at: datetime) -> None:
        self._state.begin_writing()
        if one := self._state.conversations.get(conversation_id):
            self._state.conversations[conversation_id] = replace(one, deleted_at=at)

    async def restore(self, conversation_id: str) -> None:
        self._state.begin_writing()
        if one := self._state.conversations.get(conversation_id):
            self._state.conversations[conversation_id] = replace(one, deleted_at=None)

    async def purge(self, *, deleted_before: datetime) -> int:
        self._state.begin_writing()
        rows = self._state.conversations.values()
        gone = {one.id for one in rows if one.deleted_at is not None and one.deleted_at < deleted_before}
        for conversation_id in gone:
            del self._state.conversations[conversation_id]
        messages = {one.id for one in self._state.messages.values() if one.conversation_id in gone}
        for message_id in messages:
            del self._state.messages[message_id]
        for key in [key for key in self._state.parts if key[0] in messages]:
            del self._state.parts[key]
        for share in [one for one in self._state.shares.values() if one.conversation_id in gone]:
            del self._state.shares[share.id]
        return len(gone)


class MemoryMessages:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, *messages: Message) -> None:
        self._state.begin_writing()
        for message in messages:
            _require_new(is_there=message.id in self._state.messages, what="message")
            _require(is_there=message.conversation_id in self._state.conversations, what="conversation")
            _require(is_there=message.parent_id is None or message.parent_id in self._state.messages, what="parent")
            self._state.messages[message.id] = message

    async def get(self, message_id: str) -> Message | None:
        message = self._state.messages.get(message_id)
        return None if message is None else self._filled(message)

    async def thread(self, conversation_id: str) -> Sequence[Message]:
        rows = self._state.messages.values()
        return [self._filled(message) for message in rows if message.conversation_id == conversation_id]

    async def branch(self, leaf_id: str) -> Sequence[Message]:
        path = []
        message = self._state.messages.get(leaf_id)
        while message is not None:
            path.append(self._filled(message))
            message = self._state.messages.get(message.parent_id or "")
        return path[::-1]

    async def children(self, conversation_id: str, parent_id: str | None) -> Sequence[str]:
        rows = self._state.messages.values()
        return [one.id for one in rows if (one.conversation_id, one.parent_id) == (conversation_id, parent_id)]

    async def add_parts(self, parts: Sequence[AnswerPart]) -> None:
        self._state.begin_writing()
        for part in parts:
            _require_new(is_there=(part.message_id, part.n) in self._state.parts, what="part")
            _require(is_there=part.message_id in self._state.messages, what="message")
            self._state.parts[part.message_id, part.n] = part.text

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
        self._state.begin_writing()
        message = self._state.messages.get(message_id)
        if message is None or message.state is not MessageState.RUNNING:
            return False
        self._state.messages[message_id] = replace(
            message,
            state=state,
            text=text,
            finished_at=finished_at,
            category=category,
            error_code=error_code,
            error_data=error_data or {},
            receipt=receipt,
        )
        for key in [key for key in self._state.parts if key[0] == message_id]:
            del self._state.parts[key]
        return True

    async def interrupt_running(self, at: datetime) -> int:
        self._state.begin_writing()
        running = [one for one in self._state.messages.values() if one.state is MessageState.RUNNING]
        for message in running:
            text = self._filled(message).text
            await self.finish(message.id, state=MessageState.INTERRUPTED, text=text, finished_at=at)
        return len(running)

    async def recent(self, *, since: datetime, before: str | None = None, limit: int = 200) -> Sequence[Message]:
        ids = list(self._state.messages)
        older = ids if before is None else ids[: ids.index(before)] if before in ids else []
        found = [self._state.messages[one] for one in reversed(older)]
        return [one for one in found if one.created_at >= since and one.state.is_final and one.text][:limit]

    async def counts(self, *, since: datetime) -> Mapping[MessageState, int]:
        rows = self._state.messages.values()
        return Counter(one.state for one in rows if one.role is Role.ASSISTANT and one.created_at >= since)

    def _filled(self, message: Message) -> Message:
        if message.state is not MessageState.RUNNING:
            return message
        pieces = [text for (message_id, _), text in sorted(self._state.parts.items()) if message_id == message.id]
        return replace(message, text=joined(pieces)) if pieces else message


class MemoryHits:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, *hits: Hit) -> None:
        self._state.begin_writing()
        for hit in hits:
            _require_new(is_there=hit.id in self._state.hits, what="hit")
            self._state.hits[hit.id] = hit

    async def page(self, *, category: str = "", rule: str = "", limit: int = 100, offset: int = 0) -> Sequence[Hit]:
        rows = self._state.hits.values()
        found = [hit for hit in rows if category in ("", hit.category) and rule in ("", hit.rule)]
        return sorted(found, key=lambda hit: (hit.created_at, hit.id), reverse=True)[offset : offset + limit]

    async def of_decision(self, decision_id: str) -> Sequence[Hit]:
        found = [hit for hit in self._state.hits.values() if hit.decision_id == decision_id]
        return sorted(found, key=lambda hit: (hit.start, -hit.action, hit.id))

    async def counts_by_rule(self, *, since: datetime) -> Sequence[tuple[str, str, int]]:
        hits = [hit for hit in self._state.hits.values() if hit.created_at >= since and not hit.is_shadow]
        counts = Counter((hit.category, hit.rule) for hit in hits)
        rows = [(category, rule, count) for (category, rule), count in counts.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))


class MemoryReviews:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, review: Review) -> None:
        self._state.begin_writing()
        if review.decision_id in self._state.reviews:
            raise Conflict(kind="review")
        self._state.reviews[review.decision_id] = review

    async def get(self, decision_id: str) -> Review | None:
        return self._state.reviews.get(decision_id)

    async def of(self, decision_ids: Sequence[str]) -> Sequence[Review]:
        return [self._state.reviews[one] for one in {*decision_ids} if one in self._state.reviews]

    async def page(self, *, state: ReviewState | None = None, limit: int = 50, offset: int = 0) -> Sequence[Review]:
        found = [one for one in self._state.reviews.values() if state in (None, one.state)]
        return sorted(found, key=lambda one: (one.created_at, one.decision_id), reverse=True)[offset : offset + limit]

    async def count_open(self, account_id: str | None = None) -> int:
        still_open = [one for one in self._state.reviews.values() if one.state is ReviewState.OPEN]
        return sum(account_id is None or (one.account_id == account_id and one.is_appealed) for one in still_open)

    async def appeal(self, decision_id: str, *, comment: ReleasedText, at: datetime) -> bool:
        self._state.begin_writing()
        review = self._state.reviews.get(decision_id)
        if review is None or review.is_appealed:
            return False
        self._state.reviews[decision_id] = replace(
            review,
            is_appealed=True,
            comment=comment,
            created_at=at,
            state=ReviewState.OPEN,
            decided_at=None,
            decided_by="",
            note=NOTHING,
        )
        return True

    async def decide(self, decision_id: str, *, state: ReviewState, by: str, note: ReleasedText, at: datetime) -> bool:
        self._state.begin_writing()
        review = self._state.reviews.get(decision_id)
        if review is None or review.state is not ReviewState.OPEN:
            return False
        self._state.reviews[decision_id] = replace(review, state=state, decided_by=by, note=note, decided_at=at)
        return True


class MemoryStrikes:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, strike: Strike) -> None:
        self._state.begin_writing()
        _require_new(is_there=strike.decision_id in self._state.strikes, what="strike")
        _require(is_there=strike.account_id in self._state.accounts, what="account")
        self._state.strikes[strike.decision_id] = strike

    async def get(self, decision_id: str) -> Strike | None:
        return self._state.strikes.get(decision_id)

    async def break_row(self, account_id: str) -> None:
        self._state.begin_writing()
        for strike in list(self._state.strikes.values()):
            if strike.account_id == account_id and strike.suspension_id is None:
                self._state.strikes[strike.decision_id] = replace(strike, is_in_row=False)

    async def counting(self, account_id: str, *, since: datetime) -> Sequence[Strike]:
        found = [
            one
            for one in self._state.strikes.values()
            if one.account_id == account_id
            and one.undone_at is None
            and one.suspension_id is None
            and (one.is_in_row or one.at >= since)
        ]
        return sorted(found, key=lambda one: (one.at, one.decision_id))

    async def undo(self, decision_id: str, at: datetime) -> bool:
        self._state.begin_writing()
        strike = self._state.strikes.get(decision_id)
        if strike is None or strike.undone_at is not None:
            return False
        self._state.strikes[decision_id] = replace(strike, undone_at=at)
        return True

    async def use(self, decision_ids: Sequence[str], suspension_id: str) -> None:
        self._state.begin_writing()
        _require(is_there=suspension_id in self._state.suspensions, what="suspension")
        for decision_id in decision_ids:
            if strike := self._state.strikes.get(decision_id):
                self._state.strikes[decision_id] = replace(strike, suspension_id=suspension_id)

    async def of_suspension(self, suspension_id: str) -> Sequence[Strike]:
        found = [one for one in self._state.strikes.values() if one.suspension_id == suspension_id]
        return sorted(found, key=lambda one: (one.at, one.decision_id))

    async def release(self, suspension_id: str) -> None:
        self._state.begin_writing()
        for strike in await self.of_suspension(suspension_id):
            self._state.strikes[strike.decision_id] = replace(strike, suspension_id=None)

    async def suspend(self, suspension: Suspension) -> None:
        self._state.begin_writing()
        _require_new(is_there=suspension.id in self._state.suspensions, what="suspension")
        _require(is_there=suspension.account_id in self._state.accounts, what="account")
        self._state.suspensions[suspension.id] = suspension

    async def suspension(self, suspension_id: str) -> Suspension | None:
        return self._state.suspensions.get(suspension_id)

    async def suspended(self, account_ids: Sequence[str], *, at: datetime) -> Sequence[Suspension]:
        found = [
            one
            for one in self._state.suspensions.values()
            if one.account_id in account_ids and one.ends_at > at and one.lifted_at is None
        ]
        return sorted(found, key=lambda one: (one.ends_at, one.id))

    async def lift(self, suspension_id: str, *, by: str, at: datetime) -> bool:
        self._state.begin_writing()
        suspension = self._state.suspensions.get(suspension_id)
        if suspension is None or suspension.lifted_at is not None:
            return False
        self._state.suspensions[suspension_id] = replace(suspension, lifted_at=at, lifted_by=by)
        return True


class MemoryEvidence:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, *evidence: Evidence) -> None:
        self._state.begin_writing()
        for one in evidence:
            _require_new(is_there=one.decision_id in self._state.evidence, what="evidence")
            self._state.evidence[one.decision_id] = one

    async def get(self, decision_id: str) -> Evidence | None:
        return self._state.evidence.get(decision_id)

    async def purge(self, *, created_before: datetime) -> int:
        self._state.begin_writing()
        old = [one.decision_id for one in self._state.evidence.values() if one.created_at < created_before]
        for decision_id in old:
            del self._state.evidence[decision_id]
        return len(old)


class MemoryAudit:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, entry: AuditEntry) -> None:
        self._state.begin_writing()
        _require_new(is_there=entry.id in self._state.audit, what="entry")
        self._state.audit[entry.id] = entry

    async def page(self, *, subject: str = "", limit: int = 50, offset: int = 0) -> Sequence[AuditEntry]:
        found = [one for one in self._state.audit.values() if subject in ("", one.subject)]
        return sorted(found, key=lambda one: (one.at, one.id), reverse=True)[offset : offset + limit]


class MemoryTemplates:
    def __init__(self, state: State) -> None:
        self._state = state

    async def all(self) -> Sequence[Template]:
        return sorted(self._state.templates.values(), key=lambda template: template.name)

    async def get(self, template_id: str) -> Template | None:
        return self._state.templates.get(template_id)

    async def by_name(self, name: str) -> Template | None:
        return next((template for template in self._state.templates.values() if template.name == name), None)

    async def version(self, version_id: str) -> TemplateVersion | None:
        return self._state.versions.get(version_id)

    async def versions(self, template_id: str) -> Sequence[TemplateVersion]:
        found = [version for version in self._state.versions.values() if version.template_id == template_id]
        return sorted(found, key=lambda version: version.number, reverse=True)

    async def add(self, template: Template, first: TemplateVersion) -> None:
        self._state.begin_writing()
        if template.id in self._state.templates or await self.by_name(template.name):
            raise Conflict(kind="name")
        self._state.templates[template.id] = template
        await self.add_version(first)

    async def add_version(self, version: TemplateVersion) -> None:
        self._state.begin_writing()
        _require(is_there=version.template_id in self._state.templates, what="template")
        numbers = {one.number for one in await self.versions(version.template_id)}
        if version.id in self._state.versions or version.number in numbers:
            raise Conflict(kind="version")
        self._state.versions[version.id] = version

    async def set_head(self, template_id: str, head: TemplateFile) -> None:
        self._state.begin_writing()
        template = self._state.templates.get(template_id)
        if template is None:
            raise NotFound(kind="template")
        self._state.templates[template_id] = replace(
            template, title=head.title, description=head.description, language=head.language, tags=head.tags
        )

    async def set_live(self, template_id: str, version_id: str) -> None:
        self._state.begin_writing()
        template, version = self._state.templates.get(template_id), self._state.versions.get(version_id)
        if template is None or version is None or version.template_id != template_id:
            raise NotFound(kind="template")
        self._state.templates[template_id] = replace(template, live_version_id=version_id)


class MemoryPolicies:
    def __init__(self, state: State) -> None:
        self._state = state

    async def live(self) -> Sequence[PolicyVersion]:
        live = [version for version in self._state.policies.values() if version.is_live]
        return sorted(live, key=lambda version: version.layer)

    async def versions(self, layer: str) -> Sequence[PolicyVersion]:
        found = [version for version in self._state.policies.values() if version.layer == layer]
        return sorted(found, key=lambda version: version.number, reverse=True)

    async def add(self, version: PolicyVersion) -> None:
        self._state.begin_writing()
        if any(one.number == version.number for one in await self.versions(version.layer)):
            raise Conflict(kind="version")
        if version.is_live:
            await self._retire(version.layer)
        self._state.policies[version.id] = version

    async def set_live(self, layer: str, version_id: str) -> None:
        self._state.begin_writing()
        version = self._state.policies.get(version_id)
        if version is None or version.layer != layer:
            raise NotFound(kind="policy")
        await self._retire(layer)
        self._state.policies[version_id] = replace(version, is_live=True)

    async def _retire(self, layer: str) -> None:
        for version in await self.versions(layer):
            self._state.policies[version.id] = replace(version, is_live=False)


class MemoryShares:
    def __init__(self, state: State) -> None:
        self._state = state

    async def add(self, share: Share) -> None:
        self._state.begin_writing()
        is_known = share.id in self._state.shares or await self.by_token(share.token_hash) is not None
        _require_new(is_there=is_known, what="share")
        _require(is_there=share.owner_id in self._state.accounts, what="account")
        _require(is_there=share.conversation_id in self._state.conversations, what="conversation")
        self._state.shares[share.id] = share

    async def by_token(self, token_hash: str) -> Share | None:
        return next((one for one in self._state.shares.values() if one.token_hash == token_hash), None)

    async def get(self, share_id: str) -> Share | None:
        return self._state.shares.get(share_id)

    async def of_owner(self, owner_id: str) -> Sequence[Share]:
        found = [one for one in self._state.shares.values() if one.owner_id == owner_id]
        return sorted(found, key=lambda one: (one.created_at, one.id), reverse=True)

    async def remove(self, share_id: str) -> None:
        self._state.begin_writing()
        self._state.shares.pop(share_id, None)

    async def purge(self, *, expired_before: datetime) -> int:
        self._state.begin_writing()
        rows = self._state.shares.values()
        gone = [one.id for one in rows if one.expires_at is not None and one.expires_at < expired_before]
        for share_id in gone:
            del self._state.shares[share_id]
        return len(gone)


class MemoryUnit:
    """Works on a copy; `commit` puts it in the storage's place."""

    def __init__(self, storage: "MemoryStorage", *, is_writable: bool) -> None:
        self._storage = storage
        self._state = storage.state.copy(is_writable=is_writable)
        self.accounts: Accounts = MemoryAccounts(self._state)
        self.conversations: Conversations = MemoryConversations(self._state)
        self.messages: Messages = MemoryMessages(self._state)
        self.hits: Hits = MemoryHits(self._state)
        self.reviews: Reviews = MemoryReviews(self._state)
        self.strikes: Strikes = MemoryStrikes(self._state)
        self.evidence: EvidenceShelf = MemoryEvidence(self._state)
        self.audit: AuditTrail = MemoryAudit(self._state)
        self.templates: Templates = MemoryTemplates(self._state)
        self.policies: Policies = MemoryPolicies(self._state)
        self.shares: Shares = MemoryShares(self._state)

    async def commit(self) -> None:
        if self._state.is_writable:
            self._storage.state = self._state.copy(is_writable=True)


class MemoryStorage:
    """`app.domain.ports.Storage` in dicts. Set `failure` to make it refuse, as a full disk would."""

    def __init__(self) -> None:
        self.state = State()
        self.failure: StorageFailure | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[MemoryUnit]:
        self._refuse()
        yield MemoryUnit(self, is_writable=False)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[MemoryUnit]:
        async with self._turn:
            self._refuse()
            yield MemoryUnit(self, is_writable=True)

    async def close(self) -> None:
        """Nothing is open."""

    def _refuse(self) -> None:
        if self.failure is not None:
            raise self.failure
