"""Strikes: refused questions count against an account, and too many pause it for a while.

Three refused questions in a row, or five within 24 hours. Only questions that the policy refuses count: no answers, no
test phrases, nothing that was handed to a person (who speaks of harming themselves needs help, not a penalty), and
nothing that a filter in trouble refused. A strike is used up by the pause that it led to. One that an appeal
overturns counts no more, and ends the pause that would not have come without it.

All is counted within the transaction that saves the question, with the account held: two tabs that ask at once count
one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.domain.errors import NotFound, Suspended
from app.domain.models import Account, AuditAction, AuditEntry, Strike, Suspension, new_id, now
from app.domain.ports import Storage, Unit
from app.domain.verdicts import Action, Decision, Stage
from app.services.accounts import require_admin

log = structlog.get_logger()

DAY = timedelta(days=1)
TEST = "test"
"""The category of the test phrases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrikeLimits:
    """How many refused questions are too many; 0 is no limit."""

    in_row: int = 3
    per_day: int = 5
    pause: timedelta = DAY

    @property
    def are_on(self) -> bool:
        """Whether anything is counted."""
        return self.in_row > 0 or self.per_day > 0

    def are_reached(self, strikes: Sequence[Strike], *, at: datetime) -> bool:
        """Whether so many strikes are too many, looked at from the moment `at`."""
        in_row = sum(strike.is_in_row for strike in strikes)
        recent = sum(strike.at > at - DAY for strike in strikes)
        return 0 < self.in_row <= in_row or 0 < self.per_day <= recent


def counts(decision: Decision) -> bool:
    """Whether a decision is a strike."""
    return (
        decision.stage is Stage.INPUT
        and decision.action is Action.REFUSE
        and not decision.is_degraded
        and any(one.action is Action.REFUSE and one.category != TEST for one in decision.findings)
    )


class Strikes:
    """Counts, pauses, forgives."""

    def __init__(self, storage: Storage, *, limits: StrikeLimits) -> None:
        """Where no limit is set nothing is counted, and no pause holds."""
        self._storage = storage
        self._limits = limits

    # While somebody asks

    async def require_free(self, account: Account) -> None:
        """Let nobody ask who is paused. Raises Suspended."""
        if self._concerns(account):
            async with self._storage.read() as unit:
                await self._require_free(unit, account)

    async def judge(self, unit: Unit, account: Account, decision: Decision) -> Suspension | None:
        """Count a question that is about to be saved; return the pause that it leads to.

        Raises Suspended where another tab was faster: then nothing of this question is saved.
        """
        if not self._concerns(account):
            return None
        await unit.accounts.hold(account.id)
        await self._require_free(unit, account)
        if not counts(decision):
            if not decision.is_refusal:
                await unit.strikes.break_row(account.id)
            return None
        at = now()
        await unit.strikes.add(Strike(decision_id=decision.id, account_id=account.id, at=at))
        return await self._pause(unit, account, at=at)

    # What is done about it afterwards

    async def undo(self, unit: Unit, decision_id: str, *, reviewer: Account) -> None:
        """Let an overturned decision count no more; a pause that would not have come without it ends."""
        found = await unit.strikes.get(decision_id)
        if found is None:
            return
        await unit.accounts.hold(found.account_id)
        at, strike = now(), await unit.strikes.get(decision_id)
        if not await unit.strikes.undo(decision_id, at) or strike is None or strike.suspension_id is None:
            return
        suspension = await unit.strikes.suspension(strike.suspension_id)
        if suspension is None or suspension.ends_at <= at or suspension.lifted_at is not None:
            return
        others = [one for one in await unit.strikes.of_suspension(suspension.id) if one.undone_at is None]
        if not self._limits.are_reached(others, at=suspension.began_at):
            await self._lift(unit, suspension, by=reviewer, reason=decision_id)
            await unit.strikes.release(suspension.id)

    async def lift(self, admin: Account, name: str) -> Account:
        """End an account's pause; the strikes that led to it are forgiven.

        Raises AccessDenied for anybody but an admin, NotFound for an unknown account or one that is not paused.
        """
        require_admin(admin)
        async with self._storage.write() as unit:
            account = await unit.accounts.by_name(name.strip())
            if account is None:
                raise NotFound(kind="account")
            standing = await unit.strikes.suspended([account.id], at=now())
            if not standing:
                raise NotFound(kind="suspension")
            for suspension in standing:
                await self._lift(unit, suspension, by=admin)
            await unit.commit()
        return account

    async def paused(self, admin: Account, account_ids: Sequence[str]) -> Mapping[str, Suspension]:
        """Return which of these accounts are paused, and until when.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        if not self._limits.are_on:
            return {}
        async with self._storage.read() as unit:
            standing = await unit.strikes.suspended(account_ids, at=now())
        return {suspension.account_id: suspension for suspension in standing}

    # Inside

    def _concerns(self, account: Account) -> bool:
        """Admins are left out: they try the filter, and could let themselves in again."""
        return self._limits.are_on and not account.is_admin

    async def _require_free(self, unit: Unit, account: Account) -> None:
        at = now()
        if standing := await unit.strikes.suspended([account.id], at=at):
            ends_at = standing[-1].ends_at
            raise Suspended(until=written(ends_at), retry_after_s=(ends_at - at).total_seconds())

    async def _pause(self, unit: Unit, account: Account, *, at: datetime) -> Suspension | None:
        strikes = await unit.strikes.counting(account.id, since=at - DAY)
        if not self._limits.are_reached(strikes, at=at):
            return None
        suspension = Suspension(id=new_id(), account_id=account.id, began_at=at, ends_at=at + self._limits.pause)
        await unit.strikes.suspend(suspension)
        await unit.strikes.use([strike.decision_id for strike in strikes], suspension.id)
        await unit.audit.add(AuditEntry.of(None, AuditAction.SUSPENSION_BEGAN, account.name))
        log.info("account_paused", account_id=account.id, strikes=len(strikes))
        return suspension

    async def _lift(self, unit: Unit, suspension: Suspension, *, by: Account, reason: str = "") -> None:
        if not await unit.strikes.lift(suspension.id, by=by.name, at=now()):
            return
        account = await unit.accounts.get(suspension.account_id)
        name = account.name if account else suspension.account_id
        await unit.audit.add(AuditEntry.of(by, AuditAction.SUSPENSION_LIFTED, name, reason=reason))
        log.info("account_unpaused", account_id=suspension.account_id, by=by.id)


def written(at: datetime) -> str:
    """Return a time as an error carries it: in UTC, to the minute."""
    return f"{at:%Y-%m-%d %H:%M}"
