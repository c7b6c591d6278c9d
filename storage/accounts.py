"""Accounts, sessions, API keys and failed attempts to sign in: tables and repository."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ForeignKey, Index, bindparam, delete, exists, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.errors import Conflict
from app.domain.models import Account, AccountRole, ApiKey, Session
from storage.connections import Duplicate
from storage.rows import Base, Choice, Record, table_of

KEEP_FAILED_SIGN_INS = timedelta(days=1)


class AccountRow(Base):
    """Somebody who may chat."""

    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(unique=True)
    """The name without regard to case."""
    role: Mapped[AccountRole] = mapped_column(Choice(AccountRole))
    password_hash: Mapped[str | None]
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]
    is_suspended: Mapped[bool]
    policy_layers: Mapped[str] = mapped_column(server_default=text("''"))

    __table_args__ = (Index(None, "created_at", "id"),)


class SessionRow(Base):
    """A signed-in browser."""

    __tablename__ = "sessions"

    token_hash: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    user_agent: Mapped[str]


class ApiKeyRow(Base):
    """A key for `/v1`."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    prefix: Mapped[str]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    policy_layers: Mapped[str] = mapped_column(server_default=text("''"))


class FailedSignInRow(Base):
    """A wrong password for a name, from an address."""

    __tablename__ = "failed_sign_ins"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    address: Mapped[str]
    at: Mapped[datetime] = mapped_column(index=True)

    __table_args__ = (Index(None, "name", "address", "at"),)


_ACCOUNT = Record(AccountRow, Account)
_SESSION = Record(SessionRow, Session)
_KEY = Record(ApiKeyRow, ApiKey)
_ADD = insert(table_of(AccountRow))
_GET = _ACCOUNT.select().where(AccountRow.id == bindparam("key"))
_HOLD = select(AccountRow.id).where(AccountRow.id == bindparam("key")).with_for_update()
_BY_NAME = _ACCOUNT.select().where(AccountRow.name_key == bindparam("key"))
_BY_TOKEN = _SESSION.select().where(SessionRow.token_hash == bindparam("key"))
_BY_KEY = _KEY.select().where(ApiKeyRow.key_hash == bindparam("key"))


class SqlAccounts:
    """`app.domain.ports.Accounts` over a connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        """Work within the connection's transaction."""
        self._connection = connection

    async def add(self, account: Account, *, password_hash: str | None = None) -> None:
        """Raises Conflict(kind="name") where the name is taken, whatever its case."""
        row = {**_ACCOUNT.values(account), "name_key": account.name.casefold(), "password_hash": password_hash}
        try:
            await self._connection.execute(_ADD, row)
        except Duplicate as error:
            raise Conflict(kind="name") from error

    async def get(self, account_id: str) -> Account | None:
        """Return an account."""
        return _ACCOUNT.first(await self._connection.execute(_GET, {"key": account_id}))

    async def hold(self, account_id: str) -> None:
        """Lock the account's row until the transaction ends; on SQLite there is one writer anyway."""
        await self._connection.execute(_HOLD, {"key": account_id})

    async def by_name(self, name: str) -> Account | None:
        """Return the account of this name, whatever its case."""
        return _ACCOUNT.first(await self._connection.execute(_BY_NAME, {"key": name.casefold()}))

    async def password_hash(self, account_id: str) -> str | None:
        """Return the hash; None for a guest and where there is no such account."""
        query = select(AccountRow.password_hash).where(AccountRow.id == account_id)
        return (await self._connection.execute(query)).scalar()

    async def set_password_hash(self, account_id: str, password_hash: str) -> None:
        """Replace the hash."""
        await self._set(account_id, password_hash=password_hash)

    async def set_suspended(self, account_id: str, *, is_suspended: bool) -> None:
        """Shut somebody out, or let them in again."""
        await self._set(account_id, is_suspended=is_suspended)

    async def set_policy_layers(self, account_id: str, names: str) -> None:
        """Choose the layers over the site's filter policy."""
        await self._set(account_id, policy_layers=names)

    async def touch(self, account_id: str, at: datetime) -> None:
        """Note when somebody was last here."""
        await self._set(account_id, last_seen_at=at)

    async def has_admin(self) -> bool:
        """Tell whether there is an admin."""
        query = select(exists().where(AccountRow.role == AccountRole.ADMIN))
        return bool((await self._connection.execute(query)).scalar())

    async def page(
        self, *, query: str = "", with_guests: bool = False, limit: int = 50, offset: int = 0
    ) -> Sequence[Account]:
        """Newest first; `query` is part of a name, whatever its case."""
        statement = _ACCOUNT.select().order_by(AccountRow.created_at.desc(), AccountRow.id.desc())
        if query:
            statement = statement.where(AccountRow.name_key.contains(query.casefold(), autoescape=True))
        if not with_guests:
            statement = statement.where(AccountRow.role != AccountRole.GUEST)
        return _ACCOUNT.all(await self._connection.execute(statement.limit(limit).offset(offset)))

    # Sessions

    async def add_session(self, session: Session) -> None:
        """Keep a new session."""
        await self._connection.execute(insert(SessionRow).values(_SESSION.values(session)))

    async def session(self, token_hash: str) -> Session | None:
        """Return a session, expired or not."""
        return _SESSION.first(await self._connection.execute(_BY_TOKEN, {"key": token_hash}))

    async def end_session(self, token_hash: str) -> None:
        """Forget a session."""
        await self._connection.execute(delete(SessionRow).where(SessionRow.token_hash == token_hash))

    async def end_sessions(self, account_id: str) -> None:
        """Forget all sessions of an account."""
        await self._connection.execute(delete(SessionRow).where(SessionRow.account_id == account_id))

    async def purge_sessions(self, *, expired_before: datetime) -> int:
        """Forget sessions that are over, return how many; failed attempts of a day before that go too."""
        forgotten = expired_before - KEEP_FAILED_SIGN_INS
        await self._connection.execute(delete(FailedSignInRow).where(FailedSignInRow.at < forgotten))
        expired = delete(SessionRow).where(SessionRow.expires_at < expired_before)
        return (await self._connection.execute(expired)).rowcount

    # API keys

    async def add_key(self, key: ApiKey) -> None:
        """Keep a new key."""
        await self._connection.execute(insert(ApiKeyRow).values(_KEY.values(key)))

    async def key(self, key_hash: str) -> ApiKey | None:
        """Return a key, revoked or not."""
        return _KEY.first(await self._connection.execute(_BY_KEY, {"key": key_hash}))

    async def keys(self, account_id: str | None = None) -> Sequence[ApiKey]:
        """Newest first, all of them or one account's."""
        query = _KEY.select().order_by(ApiKeyRow.created_at.desc(), ApiKeyRow.id.desc())
        if account_id is not None:
            query = query.where(ApiKeyRow.account_id == account_id)
        return _KEY.all(await self._connection.execute(query))

    async def revoke_key(self, key_id: str, at: datetime) -> None:
        """Make a key useless; the first time counts."""
        unrevoked = update(ApiKeyRow).where(ApiKeyRow.id == key_id, ApiKeyRow.revoked_at.is_(None))
        await self._connection.execute(unrevoked.values(revoked_at=at))

    async def set_key_policy_layers(self, key_id: str, names: str) -> None:
        """Choose the layers over those of the key's account."""
        await self._connection.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(policy_layers=names))

    async def touch_key(self, key_id: str, at: datetime) -> None:
        """Note when a key was last used."""
        await self._connection.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(last_used_at=at))

    # Failed attempts to sign in

    async def add_failed_sign_in(self, *, name: str, address: str, at: datetime) -> None:
        """Note a wrong password."""
        await self._connection.execute(insert(FailedSignInRow).values(name=name, address=address, at=at))

    async def failed_sign_ins(self, *, name: str, address: str, since: datetime) -> Sequence[datetime]:
        """From this address for this name, oldest first."""
        query = (
            select(FailedSignInRow.at)
            .where(FailedSignInRow.name == name, FailedSignInRow.address == address, FailedSignInRow.at >= since)
            .order_by(FailedSignInRow.at)
        )
        return (await self._connection.execute(query)).scalars().all()

    async def clear_failed_sign_ins(self, *, name: str, address: str) -> None:
        """Forget them, after a right password."""
        of_both = delete(FailedSignInRow).where(FailedSignInRow.name == name, FailedSignInRow.address == address)
        await self._connection.execute(of_both)

    async def _set(self, account_id: str, **values: object) -> None:
        await self._connection.execute(update(AccountRow).where(AccountRow.id == account_id).values(values))
