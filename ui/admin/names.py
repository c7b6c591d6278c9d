"""Names in place of ids, for lists that keep ids only."""

from collections.abc import Mapping

from app.domain.models import Account
from app.services.accounts import AccountDesk

_KNOWN = 1000


async def names_of_accounts(accounts: AccountDesk, admin: Account) -> Mapping[str, str]:
    """Return the names of the newest accounts by id, guests included; whoever is not in it is shown by id.

    Raises AccessDenied for anybody but an admin.
    """
    rows = await accounts.page(admin, with_guests=True, limit=_KNOWN)
    return {account.id: account.name for account in rows}
