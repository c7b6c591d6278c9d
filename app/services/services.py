"""All services of one application, as the bootstrap wires them. Entrances take what they need from here."""

from dataclasses import dataclass

from app.domain.ports import Engine
from app.services.accounts import AccountDesk
from app.services.chat import Chat
from app.services.conversations import ConversationDesk
from app.services.exports import ExportDesk
from app.services.hits import HitsDesk
from app.services.moderation import Moderation
from app.services.overview import OverviewDesk
from app.services.prompt_library import PromptLibrary
from app.services.queue import FairQueue
from app.services.shares import ShareDesk
from app.services.stats import Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What people do, by noun."""

    accounts: AccountDesk
    chat: Chat
    conversations: ConversationDesk
    exports: ExportDesk
    hits: HitsDesk
    moderation: Moderation
    overview: OverviewDesk
    prompts: PromptLibrary
    queue: FairQueue
    shares: ShareDesk
    stats: Stats
    engine: Engine
