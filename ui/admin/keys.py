"""API keys: who may call `/v1`. A key's secret is shown once, when it is made."""

from app.domain.errors import NotFound
from app.services.accounts import AccountDesk
from app.services.policies import PolicyDesk
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.layers import ask_layers
from ui.admin.markup import draw
from ui.admin.names import names_of_accounts
from ui.admin.words import say


class KeysPage:
    """The list of keys, making and revoking."""

    def __init__(self, accounts: AccountDesk, *, policies: PolicyDesk) -> None:
        """All is decided in the service."""
        self._accounts = accounts
        self._policies = policies
        self.handlers = {
            "show": self.show,
            "ask_layers": self.ask_layers,
            "give_layers": self.give_layers,
            "ask_make": self.ask_make,
            "make": self.make,
            "ask_revoke": self.ask_revoke,
            "revoke": self.revoke,
        }

    async def show(self, visitor: Visitor, _: Fields) -> Reply:
        """Draw the list: those that work first, newest first."""
        keys = await self._accounts.keys(visitor.account)
        keys = sorted(keys, key=lambda key: key.created_at, reverse=True)
        keys = sorted(keys, key=lambda key: key.revoked_at is not None)
        names = await names_of_accounts(self._accounts, visitor.account)
        return Reply(html=draw("keys.html", language=visitor.language, keys=keys, names=names))

    async def ask_make(self, visitor: Visitor, _: Fields) -> Reply:
        """Open the form for a new key."""
        return Reply(dialog=draw("key_make.html", language=visitor.language, me=visitor.account))

    async def make(self, visitor: Visitor, fields: Fields) -> Reply:
        """Make a key for an account and show its secret, this once.

        Raises NotFound where there is no such account.
        """
        account = await self._accounts.by_name(visitor.account, fields.text("account"))
        key, secret = await self._accounts.make_key(visitor.account, account, name=fields.text("name"))
        dialog = draw("key_made.html", language=visitor.language, key=key, secret=secret, account=account)
        return Reply(go="keys", dialog=dialog)

    async def ask_revoke(self, visitor: Visitor, fields: Fields) -> Reply:
        """Say what revoking will do, and ask.

        Raises NotFound.
        """
        keys = await self._accounts.keys(visitor.account)
        key = next((key for key in keys if key.id == fields.text("id")), None)
        if key is None:
            raise NotFound(kind="key")
        names = await names_of_accounts(self._accounts, visitor.account)
        owner = names.get(key.account_id, key.account_id)
        return Reply(dialog=draw("key_revoke.html", language=visitor.language, key=key, owner=owner))

    async def revoke(self, visitor: Visitor, fields: Fields) -> Reply:
        """Make a key useless."""
        await self._accounts.revoke_key(visitor.account, fields.text("id"))
        return Reply(go="keys", said=say("keys.revoked", language=visitor.language))

    async def ask_layers(self, visitor: Visitor, fields: Fields) -> Reply:
        """Open the form for a key's policy layers. Raises NotFound."""
        keys = await self._accounts.keys(visitor.account)
        key = next((key for key in keys if key.id == fields.text("id")), None)
        if key is None:
            raise NotFound(kind="key")
        return await ask_layers(self._policies, visitor, page="keys", key=key.id, name=key.name, now=key.policy_layers)

    async def give_layers(self, visitor: Visitor, fields: Fields) -> Reply:
        """Lay layers over the policy for a key. Raises NotFound where there is no such layer or key."""
        names = await self._accounts.give_layers(visitor.account, fields.text("layers"), key_id=fields.text("id"))
        return Reply(go="keys", said=say("layers.given", language=visitor.language, names=names or "–"))
