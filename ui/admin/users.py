"""Users: who has an account, who is new, who is suspended."""

from app.domain.errors import InvalidInput
from app.domain.models import AccountRole
from app.services.accounts import MIN_PASSWORD, AccountDesk
from app.services.policies import PolicyDesk
from app.services.strikes import Strikes
from ui.admin.call import Fields, Reply, Visitor
from ui.admin.layers import ask_layers
from ui.admin.links import link
from ui.admin.markup import draw
from ui.admin.words import say

PAGE_SIZE = 50
_ROLES = (AccountRole.USER, AccountRole.ADMIN)


class UsersPage:
    """The list of accounts, and what an admin does with one."""

    def __init__(self, accounts: AccountDesk, *, policies: PolicyDesk, strikes: Strikes) -> None:
        """All is decided in the services."""
        self._accounts = accounts
        self._policies = policies
        self._strikes = strikes
        self.handlers = {
            "show": self.show,
            "ask_layers": self.ask_layers,
            "give_layers": self.give_layers,
            "ask_add": self.ask_add,
            "add": self.add,
            "ask_suspend": self.ask_suspend,
            "suspend": self.suspend,
            "lift": self.lift,
        }

    async def show(self, visitor: Visitor, fields: Fields) -> Reply:
        """Draw the list; `query`, `guests` and `offset` choose what is in it."""
        query, offset, with_guests = fields.text("query"), fields.number("offset"), fields.is_set("guests")
        rows = await self._accounts.page(
            visitor.account, query=query, with_guests=with_guests, limit=PAGE_SIZE + 1, offset=offset
        )
        page = draw(
            "users.html",
            language=visitor.language,
            accounts=rows[:PAGE_SIZE],
            paused=await self._strikes.paused(visitor.account, [row.id for row in rows[:PAGE_SIZE]]),
            me=visitor.account,
            query=query,
            with_guests=with_guests,
            newer=link("users", query=query, guests=with_guests, offset=max(0, offset - PAGE_SIZE)) if offset else "",
            older=link("users", query=query, guests=with_guests, offset=offset + PAGE_SIZE)
            if len(rows) > PAGE_SIZE
            else "",
        )
        return Reply(html=page)

    async def ask_add(self, visitor: Visitor, _: Fields) -> Reply:
        """Open the form for a new account."""
        return Reply(dialog=draw("user_add.html", language=visitor.language, roles=_ROLES, min_password=MIN_PASSWORD))

    async def add(self, visitor: Visitor, fields: Fields) -> Reply:
        """Make an account.

        Raises InvalidInput, Conflict.
        """
        role = next((role for role in _ROLES if role.value == fields.text("role")), None)
        if role is None:
            raise InvalidInput("an account's role is user or admin", param="role", kind="role")
        account = await self._accounts.create(
            visitor.account, fields.text("name"), password=fields.text("password"), role=role
        )
        return Reply(go="users", said=say("users.added", language=visitor.language, name=account.name))

    async def ask_suspend(self, visitor: Visitor, fields: Fields) -> Reply:
        """Say what suspending, or taking back, will do, and ask.

        Raises NotFound.
        """
        account = await self._accounts.by_name(visitor.account, fields.text("name"))
        return Reply(dialog=draw("user_suspend.html", language=visitor.language, account=account))

    async def suspend(self, visitor: Visitor, fields: Fields) -> Reply:
        """Suspend, or take back where `take_back` is set.

        Raises NotFound, Conflict.
        """
        is_suspended = not fields.is_set("take_back")
        account = await self._accounts.suspend(visitor.account, fields.text("name"), is_suspended=is_suspended)
        key = "users.suspended" if is_suspended else "users.taken_back"
        return Reply(go="users", said=say(key, language=visitor.language, name=account.name))

    async def ask_layers(self, visitor: Visitor, fields: Fields) -> Reply:
        """Open the form for an account's policy layers. Raises NotFound."""
        account = await self._accounts.by_name(visitor.account, fields.text("name"))
        return await ask_layers(
            self._policies, visitor, page="users", key=account.name, name=account.name, now=account.policy_layers
        )

    async def give_layers(self, visitor: Visitor, fields: Fields) -> Reply:
        """Lay layers over the policy for an account. Raises NotFound where there is no such layer or account."""
        account = await self._accounts.by_name(visitor.account, fields.text("id"))
        names = await self._accounts.give_layers(visitor.account, fields.text("layers"), account=account)
        return Reply(go="users", said=say("layers.given", language=visitor.language, names=names or "–"))

    async def lift(self, visitor: Visitor, fields: Fields) -> Reply:
        """End the pause that refused questions led to.

        Raises NotFound where there is none.
        """
        account = await self._strikes.lift(visitor.account, fields.text("name"))
        return Reply(go="users", said=say("users.lifted", language=visitor.language, name=account.name))
