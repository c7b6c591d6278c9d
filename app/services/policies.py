"""Layers of the filter policy: written in the console or on the command line, kept as versions, put in force at once.

A layer lies over the policy file: the one named `site` for everybody, the others for the accounts and API keys that
they are given to.
"""

import asyncio
import contextlib
import re
from collections.abc import Sequence
from typing import Final

import structlog

from app.domain.errors import Conflict, InvalidInput, InvalidPolicy, NotFound, StorageFailure
from app.domain.models import Account, PolicyVersion, new_id, now
from app.domain.ports import SITE_LAYER, Filters, Storage
from app.services.accounts import require_admin

MAX_MESSAGE: Final = 200
MAX_TEXT: Final = 1_000_000
"""Characters of a layer; longer lists are files."""
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

log = structlog.get_logger()


class PolicyDesk:
    """Reads, tries, publishes and gives layers."""

    def __init__(self, storage: Storage, *, filters: Filters, every_s: float = 2.0) -> None:
        """`filters` are those in force; `run` brings them up to date, `every_s` seconds."""
        self._every_s = every_s
        self._storage = storage
        self._filters = filters
        self._lock = asyncio.Lock()
        self._in_force: frozenset[str] = frozenset()
        """The ids of the live versions that were tried last."""
        self.fault: InvalidPolicy | None = None
        """Why what was written last is not in force."""

    @property
    def policy(self) -> str:
        """The id of the policy that is in force for everybody."""
        return self._filters.site.policy

    async def layers(self, admin: Account) -> Sequence[PolicyVersion]:
        """Return the live version of each layer, by name; `site` first.

        Raises AccessDenied for anybody but an admin.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            live = await unit.policies.live()
        return sorted(live, key=lambda version: (version.layer != SITE_LAYER, version.layer))

    async def versions(self, admin: Account, layer: str) -> Sequence[PolicyVersion]:
        """Return the versions of a layer, newest first.

        Raises AccessDenied, NotFound.
        """
        require_admin(admin)
        async with self._storage.read() as unit:
            versions = await unit.policies.versions(layer)
        if not versions:
            raise NotFound(kind="policy")
        return versions

    async def try_out(self, admin: Account, layer: str, text: str) -> str:
        """Return the id of the policy as it would be with this text.

        Raises AccessDenied, InvalidInput, InvalidPolicy, also where another layer would no longer fit.
        """
        require_admin(admin)
        _require_layer(layer, text)
        return (await self._filters.draft(layer, text)).policy

    async def publish(
        self, admin: Account, layer: str, text: str, *, message: str, based_on: int | None = None
    ) -> PolicyVersion:
        """Keep a new version of a layer and put it in force for all that begins from now on.

        `based_on` is the number that it was made from; None does not mind.
        Raises what `try_out` raises, and Conflict where somebody published meanwhile, or nothing is changed.
        """
        await self.try_out(admin, layer, text)
        message = message.strip()
        if not 0 < len(message) <= MAX_MESSAGE:
            raise InvalidInput("say what changed and why", param="message", kind="version_message", limit=MAX_MESSAGE)
        async with self._storage.write() as unit:
            versions = await unit.policies.versions(layer)
            newest = versions[0].number if versions else 0
            if based_on is not None and based_on != newest:
                raise Conflict(kind="version")
            if any(version.is_live and version.text == text for version in versions):
                raise InvalidInput("nothing was changed", param="text", kind="unchanged")
            version = PolicyVersion(
                id=new_id(),
                layer=layer,
                number=newest + 1,
                text=text,
                message=message,
                author=admin.name,
                created_at=now(),
                is_live=True,
            )
            await unit.policies.add(version)
            await unit.commit()
        await self.refresh()
        return version

    async def set_live(self, admin: Account, layer: str, *, number: int) -> PolicyVersion:
        """Put an older version in force again.

        Raises AccessDenied, NotFound, InvalidPolicy where it no longer fits.
        """
        version = next((one for one in await self.versions(admin, layer) if one.number == number), None)
        if version is None:
            raise NotFound(kind="policy")
        await self.try_out(admin, layer, version.text)
        async with self._storage.write() as unit:
            await unit.policies.set_live(layer, version.id)
            await unit.commit()
        await self.refresh()
        return version

    async def refresh(self) -> None:
        """Put in force what the database holds, if it is not yet.

        What no longer fits – the policy file below it has changed – is told in `fault` and in the log, and what was in
        force stays. Raises StorageFailure.
        """
        async with self._lock:
            async with self._storage.read() as unit:
                live = await unit.policies.live()
            ids = frozenset(version.id for version in live)
            if ids == self._in_force and not await self._filters.has_changed():
                return
            try:
                await self._filters.restock(layers={version.layer: version.text for version in live})
            except InvalidPolicy as error:
                self.fault = error
                log.error(  # noqa: TRY400 - no fault of ours: a trace would help nobody
                    "policy_not_in_force", faults=error.faults, policy=self.policy
                )
            else:
                self.fault = None
                log.info("policy_in_force", policy=self.policy, layers=len(live))
            self._in_force = ids

    async def run(self) -> None:
        """Refresh for ever, so that a changed file, or a layer that another process wrote, is soon in force."""
        while True:
            await asyncio.sleep(self._every_s)
            with contextlib.suppress(StorageFailure):
                await self.refresh()


def _require_layer(layer: str, text: str) -> None:
    if not _NAME.fullmatch(layer) or len(layer) > 64:  # noqa: PLR2004 - as a policy's name
        raise InvalidInput("a layer's name has lower-case letters, digits and hyphens", param="layer", kind="layer")
    if len(text) > MAX_TEXT:
        raise InvalidInput("a layer is too long", param="text", kind="field_long")
