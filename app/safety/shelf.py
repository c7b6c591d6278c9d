"""The filters in force: the site's, and those that have more layers over it, for accounts and API keys.

A stock – the policy file, and the layers that the database holds – never changes. A new one is built beside it, in a
thread, and takes its place at once; whatever began with a filter of the old one ends with it.
"""

import asyncio
from collections.abc import Mapping

from app.domain.errors import SafetyUnavailable
from app.domain.ports import SITE_LAYER, Replies
from app.domain.words import Language
from app.safety.filter import ContentFilter, Workshop
from app.safety.guards.post import Posts
from app.safety.policy import Policy
from app.safety.policy_file import PolicyFile, lay_over
from app.safety.replies import CategoryReplies
from app.safety.wording_check import require_sound


class _Stock:
    """One state of files and layers, and the filters that were asked for so far."""

    def __init__(self, policy: Policy, layers: Mapping[str, str], *, posts: Posts) -> None:
        """Lay every layer once: raises InvalidPolicy where one does not fit."""
        self.layers = layers
        self._workshop = Workshop()
        self._posts = posts
        self._lock = asyncio.Lock()
        site = layers.get(SITE_LAYER)
        self._site = lay_over(policy, site, name=SITE_LAYER) if site is not None else policy
        for name, text in layers.items():
            if name != SITE_LAYER:
                lay_over(self._site, text, name=name)
        self.site = self.filter_of(self._site)
        self._filters = {"": self.site}
        self.replies = CategoryReplies(self._site.replies)

    def filter_of(self, policy: Policy) -> ContentFilter:
        content_filter = ContentFilter(policy, workshop=self._workshop, posts=self._posts)
        require_sound(policy, content_filter=content_filter)
        return content_filter

    async def over(self, names: str) -> ContentFilter:
        key = " ".join(names.split())
        if key not in self._filters:
            async with self._lock:
                if key not in self._filters:
                    self._filters[key] = await asyncio.to_thread(lambda: self.filter_of(self._stacked(key)))
        return self._filters[key]

    def _stacked(self, names: str) -> Policy:
        policy = self._site
        for name in names.split():
            if name not in self.layers:
                raise SafetyUnavailable(f"there is no policy layer {name}", category="unavailable")
            policy = lay_over(policy, self.layers[name], name=name)
        return policy


class _SiteReplies:
    """`app.domain.ports.Replies` of whatever policy is in force for everybody."""

    def __init__(self, shelf: "FilterShelf") -> None:
        self._shelf = shelf

    def refusal(self, *, category: str, stage: str, seed: str, language: Language) -> str:
        return self._shelf.stock.replies.refusal(category=category, stage=stage, seed=seed, language=language)

    def brief(self, *, category: str, stage: str, seed: str, language: Language) -> str:
        return self._shelf.stock.replies.brief(category=category, stage=stage, seed=seed, language=language)


class FilterShelf:
    """`app.domain.ports.Filters`."""

    def __init__(
        self, policy_file: PolicyFile, *, layers: Mapping[str, str] | None = None, posts: Posts | None = None
    ) -> None:
        """`layers` are the live ones, by name; `posts` are where guards are asked. Raises InvalidPolicy."""
        self._posts = posts or Posts()
        self._file = policy_file
        self.replies: Replies = _SiteReplies(self)
        """What people read in place of what is refused."""
        self.stock = _Stock(policy_file.load(), layers or {}, posts=self._posts)

    @property
    def site(self) -> ContentFilter:
        """The filter for everybody."""
        return self.stock.site

    async def over(self, names: str) -> ContentFilter:
        """Return the filter with these layers over the site's policy, from the bottom; built the first time.

        Raises SafetyUnavailable where there is no such layer: nothing passes by a filter that is not there.
        """
        return self.stock.site if not names else await self.stock.over(names)

    async def draft(self, name: str, text: str) -> ContentFilter:
        """Return the filter as it would be with this layer: the site's, or the one with this layer over it.

        Raises InvalidPolicy, also where another layer would no longer fit.
        """
        layers = {**self.stock.layers, name: text}
        stock = await asyncio.to_thread(lambda: _Stock(self._file.load(), layers, posts=self._posts))
        return stock.site if name == SITE_LAYER else await stock.over(name)

    async def close(self) -> None:
        """Close the connections to guards."""
        await self._posts.close()

    async def has_changed(self) -> bool:
        """Whether a policy file is no longer what the filters were built of."""
        return await asyncio.to_thread(self._file.has_changed)

    async def restock(self, *, layers: Mapping[str, str]) -> None:
        """Put these layers, and the policy file as it is now, in force for what begins from now on.

        Raises InvalidPolicy; nothing changes then.
        """
        self.stock = await asyncio.to_thread(lambda: _Stock(self._file.load(), dict(layers), posts=self._posts))
