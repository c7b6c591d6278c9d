"""Accounts: the first admin, signing in and out, sessions, guests, API keys.

Tokens and keys are random and long, so a plain SHA-256 keeps them; passwords are kept by argon2. Wrong passwords are
counted for a name *from an address*: nobody locks another one out from elsewhere.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from weakref import WeakValueDictionary

import structlog
from pwdlib import PasswordHash

from app.domain.errors import AccessDenied, Conflict, InvalidApiKey, InvalidInput, NotFound
from app.domain.models import Account, AccountRole, ApiKey, AuditAction, AuditEntry, Session, new_id, now
from app.domain.ports import SITE_LAYER, Storage
from app.services.turns import Turns

log = structlog.get_logger()

SESSION_DAYS = 30
GUEST_DAYS = 365
MIN_PASSWORD = 8
_NAME = re.compile(r"[\w.@-]{2,64}")
_FAILURES = 5
_FAILURE_WINDOW = timedelta(minutes=15)
_CACHE_S = 5.0
_TOUCH_EVERY = timedelta(minutes=5)


def require_admin(account: Account | None) -> Account:
    """Return the account where it is an admin's. Every console handler calls this, whatever the page showed.

    Raises AccessDenied otherwise.
    """
    if account is None:
        raise AccessDenied("sign_in")
    if not account.is_admin:
        raise AccessDenied("forbidden")
    return account


def operator(name: str = "command line") -> Account:
    """Return the account of whoever holds the server's shell: an admin, who is in no table."""
    return Account(id="operator", name=name, role=AccountRole.ADMIN, created_at=now())


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A new session. The token goes into the cookie and is kept nowhere else."""

    account: Account
    token: str


class AccountDesk:
    """Who is who."""

    def __init__(self, storage: Storage, *, turns: Turns | None = None) -> None:
        """The setup link's token is made here, and lives as long as the process; `turns` are those that run in it."""
        self._storage = storage
        self._turns = turns or Turns()
        self._signing_in: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._passwords = PasswordHash.recommended()
        self._hashing = asyncio.Semaphore(2)  # argon2 takes 64 MiB and a core each
        self._dummy_hash = ""
        self._setup_token = secrets.token_urlsafe(24)
        self._has_admin = False
        self._cache: dict[str, tuple[float, Account]] = {}

    # The first admin

    async def setup_token(self) -> str | None:
        """Return the token of the one-time link; None for good once there is an admin."""
        if not self._has_admin:
            async with self._storage.read() as unit:
                self._has_admin = await unit.accounts.has_admin()
        return None if self._has_admin else self._setup_token

    async def set_up(self, token: str, *, name: str, password: str, user_agent: str = "") -> SignedIn:
        """Make the first admin and sign them in.

        Raises NotFound once there is an admin, AccessDenied for a wrong token, InvalidInput.
        """
        expected = await self.setup_token()
        if expected is None:
            raise NotFound(kind="page")
        if not secrets.compare_digest(token.encode(), expected.encode()):
            raise AccessDenied("setup")
        account = await self._create(name, password=password, role=AccountRole.ADMIN, is_first_admin=True)
        self._has_admin = True
        log.info("admin_set_up", account_id=account.id)
        return await self._begin_session(account, user_agent=user_agent)

    async def create(
        self, admin: Account, name: str, *, password: str, role: AccountRole = AccountRole.USER
    ) -> Account:
        """Make an account.

        Raises AccessDenied for anybody but an admin, InvalidInput for an impossible name or a short password, Conflict
        where the name is taken.
        """
        require_admin(admin)
        return await self._create(name, password=password, role=role)

    async def _create(self, name: str, *, password: str, role: AccountRole, is_first_admin: bool = False) -> Account:
        name = name.strip()
        if not _NAME.fullmatch(name) or name.lower().startswith("guest-"):
            raise InvalidInput("a name has 2 to 64 letters, digits or . _ - @", param="name", kind="account_name")
        password_hash = await self._hash(password)
        account = Account(id=new_id(), name=name, role=role, created_at=now())
        async with self._storage.write() as unit:
            if is_first_admin and await unit.accounts.has_admin():
                raise NotFound(kind="page")
            await unit.accounts.add(account, password_hash=password_hash)
            await unit.commit()
        return account

    # Signing in and out

    async def sign_in(self, name: str, *, password: str, address: str, user_agent: str = "") -> SignedIn:
        """Check the password and begin a session.

        Raises AccessDenied: `wrong_password`, `locked_out` (after five failures from this address), `suspended`.
        """
        key = name.strip().lower()[:64]
        lock = self._signing_in.setdefault((key, address), asyncio.Lock())
        async with lock:  # or many tries at once would all be made before the first one counts
            account = await self._checked(key, password=password, address=address)
        return await self._begin_session(account, user_agent=user_agent)

    async def _checked(self, key: str, *, password: str, address: str) -> Account:
        at = now()
        async with self._storage.read() as unit:
            failures = await unit.accounts.failed_sign_ins(name=key, address=address, since=at - _FAILURE_WINDOW)
            account = await unit.accounts.by_name(key)
            password_hash = await unit.accounts.password_hash(account.id) if account else None
        if len(failures) >= _FAILURES:
            wait = failures[-_FAILURES] + _FAILURE_WINDOW - at
            raise AccessDenied("locked_out", retry_after_s=max(1.0, wait.total_seconds()))
        is_right = await self._verify(password, password_hash)
        async with self._storage.write() as unit:
            if not is_right or account is None:
                await unit.accounts.add_failed_sign_in(name=key, address=address, at=at)
            else:
                await unit.accounts.clear_failed_sign_ins(name=key, address=address)
            await unit.commit()
        if not is_right or account is None:
            log.warning("sign_in_failed", failures=len(failures) + 1)
            raise AccessDenied("wrong_password")
        if account.is_suspended:
            raise AccessDenied("suspended")
        return account

    async def sign_out(self, token: str) -> None:
        """End the session for good; an unknown one is fine."""
        token_hash = _sha256(token)
        self._cache.pop(token_hash, None)
        async with self._storage.write() as unit:
            await unit.accounts.end_session(token_hash)
            await unit.commit()

    async def of_session(self, token: str) -> Account | None:
        """Return whose session this is; None where it is unknown, expired, ended, or its account suspended."""
        token_hash = _sha256(token)
        if cached := self._cached(token_hash):
            return cached
        async with self._storage.read() as unit:
            session = await unit.accounts.session(token_hash)
            if session is None or session.expires_at <= now():
                return None
            account = await unit.accounts.get(session.account_id)
        if account is None or account.is_suspended:
            return None
        await self._touch(account)
        return self._keep(token_hash, account)

    async def guest(self, guest_id: str) -> Account:
        """Return a guest's account, as it is stored or as it will be with the first question."""
        if cached := self._cached(guest_id):
            return cached
        async with self._storage.read() as unit:
            account = await unit.accounts.get(guest_id)
        if account is not None and account.role is AccountRole.GUEST:
            return self._keep(guest_id, account)
        name = f"guest-{_sha256(guest_id)[:8]}"
        return Account(id=guest_id, name=name, role=AccountRole.GUEST, created_at=now())

    # API keys

    async def make_key(self, admin: Account, account: Account, *, name: str) -> tuple[ApiKey, str]:
        """Return a new key of an account, and the secret that is shown once.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        secret = f"hn-{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=new_id(),
            account_id=account.id,
            name=name.strip()[:100] or "key",
            key_hash=_sha256(secret),
            prefix=secret[:9],
            created_at=now(),
        )
        async with self._storage.write() as unit:
            await unit.accounts.add_key(key)
            await unit.commit()
        return key, secret

    async def of_key(self, secret: str) -> Account:
        """Return whose key this is.

        Raises InvalidApiKey for an unknown or revoked one, AccessDenied where the account is suspended.
        """
        key_hash = _sha256(secret)
        if cached := self._cached(key_hash):
            return cached
        async with self._storage.read() as unit:
            key = await unit.accounts.key(key_hash)
            account = await unit.accounts.get(key.account_id) if key else None
        if key is None or account is None or key.revoked_at is not None:
            raise InvalidApiKey
        if account.is_suspended:
            raise AccessDenied("suspended")
        async with self._storage.write() as unit:
            await unit.accounts.touch_key(key.id, now())
            await unit.commit()
        layers = f"{account.policy_layers} {key.policy_layers}".strip()
        return self._keep(key_hash, replace(account, policy_layers=layers))

    # For the console and the command line

    async def page(
        self, admin: Account, *, query: str = "", with_guests: bool = False, limit: int = 50, offset: int = 0
    ) -> Sequence[Account]:
        """Accounts, newest first.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            return await unit.accounts.page(query=query, with_guests=with_guests, limit=limit, offset=offset)

    async def suspend(self, admin: Account, name: str, *, is_suspended: bool) -> Account:
        """Suspend an account, which ends its sessions and its running answers, or take it back.

        Raises AccessDenied, NotFound, and Conflict where an admin would suspend themselves.
        """
        account = await self.by_name(admin, name)
        if account.id == admin.id:
            raise Conflict("an admin cannot suspend themselves", kind="self")
        action = AuditAction.ACCOUNT_SUSPENDED if is_suspended else AuditAction.ACCOUNT_RESUMED
        async with self._storage.write() as unit:
            await unit.accounts.set_suspended(account.id, is_suspended=is_suspended)
            await unit.audit.add(AuditEntry.of(admin, action, account.name))
            if is_suspended:
                await unit.accounts.end_sessions(account.id)
            await unit.commit()
        self._cache.clear()
        if is_suspended:
            self._turns.stop_all(account.id)
        log.info("account_suspended" if is_suspended else "account_resumed", account_id=account.id, by=admin.id)
        return replace(account, is_suspended=is_suspended)

    async def by_name(self, admin: Account, name: str) -> Account:
        """Return an account.

        Raises AccessDenied for anybody but an admin, NotFound.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            account = await unit.accounts.by_name(name.strip())
        if account is None:
            raise NotFound(kind="account")
        return account

    async def reset_password(self, admin: Account, name: str, *, password: str) -> None:
        """Set a new password and end all sessions.

        Raises AccessDenied for anybody but an admin, NotFound, InvalidInput.
        """
        account = await self.by_name(admin, name)
        password_hash = await self._hash(password)
        async with self._storage.write() as unit:
            await unit.accounts.set_password_hash(account.id, password_hash)
            await unit.accounts.end_sessions(account.id)
            await unit.commit()
        self._cache.clear()

    async def keys(self, admin: Account, *, account_id: str | None = None) -> Sequence[ApiKey]:
        """All keys, or one account's.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            return await unit.accounts.keys(account_id)

    async def give_layers(
        self, admin: Account, names: str, *, account: Account | None = None, key_id: str | None = None
    ) -> str:
        """Lay these layers, from the bottom, over the site's filter policy for an account, or over that for a key.

        Returns the names as they are kept. Raises AccessDenied, NotFound where there is no such layer, account or key.
        """
        require_admin(admin)
        wanted = names.split()
        async with self._storage.write() as unit:
            known = {version.layer for version in await unit.policies.live()} - {SITE_LAYER}
            if not set(wanted) <= known or len(set(wanted)) < len(wanted):
                raise NotFound(kind="policy")
            kept = " ".join(wanted)
            if account is not None:
                await unit.accounts.set_policy_layers(account.id, kept)
            if key_id is not None:
                if all(key.id != key_id for key in await unit.accounts.keys()):
                    raise NotFound(kind="key")
                await unit.accounts.set_key_policy_layers(key_id, kept)
            await unit.commit()
        self._cache.clear()
        return kept

    async def revoke_key(self, admin: Account, key_id: str) -> None:
        """Make a key useless, from now on.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.write() as unit:
            await unit.accounts.revoke_key(key_id, now())
            await unit.commit()
        self._cache.clear()

    # Inside

    async def _begin_session(self, account: Account, *, user_agent: str) -> SignedIn:
        token, at = secrets.token_urlsafe(32), now()
        session = Session(
            token_hash=_sha256(token),
            account_id=account.id,
            created_at=at,
            expires_at=at + timedelta(days=SESSION_DAYS),
            user_agent=user_agent[:200],
        )
        async with self._storage.write() as unit:
            await unit.accounts.add_session(session)
            await unit.accounts.touch(account.id, at)
            await unit.commit()
        return SignedIn(account=account, token=token)

    async def _touch(self, account: Account) -> None:
        at: datetime = now()
        if account.last_seen_at is None or at - account.last_seen_at > _TOUCH_EVERY:
            async with self._storage.write() as unit:
                await unit.accounts.touch(account.id, at)
                await unit.commit()

    async def _hash(self, password: str) -> str:
        if len(password) < MIN_PASSWORD:
            detail = f"a password has at least {MIN_PASSWORD} characters"
            raise InvalidInput(detail, param="password", kind="password_short", limit=MIN_PASSWORD)
        if len(password) > 1000:  # noqa: PLR2004 - argon2 reads all of it
            detail = "a password has at most 1,000 characters"
            raise InvalidInput(detail, param="password", kind="password_long", limit=1000)
        async with self._hashing:
            return await asyncio.to_thread(self._passwords.hash, password)

    async def _verify(self, password: str, password_hash: str | None) -> bool:
        """Take as long for a name that does not exist as for one that does."""
        if not self._dummy_hash:
            self._dummy_hash = await asyncio.to_thread(self._passwords.hash, secrets.token_hex())
        async with self._hashing:
            is_right = await asyncio.to_thread(
                self._passwords.verify, password[:1000], password_hash or self._dummy_hash
            )
        return is_right and password_hash is not None

    def _cached(self, key: str) -> Account | None:
        until, account = self._cache.get(key, (0.0, None))
        return account if monotonic() < until else None

    def _keep(self, key: str, account: Account) -> Account:
        if len(self._cache) > 10_000:  # noqa: PLR2004 - a bound, not a tuning
            self._cache.clear()
        self._cache[key] = (monotonic() + _CACHE_S, account)
        return account


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
