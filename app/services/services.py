"""All services of one application, as the bootstrap wires them. Entrances take what they need from here."""

from dataclasses import dataclass

from app.domain.ports import Engine, Filters
from app.services.accounts import AccountDesk
from app.services.appeals import AppealDesk
from app.services.audit import AuditDesk
from app.services.chat import Chat
from app.services.conversations import ConversationDesk
from app.services.evidence import EvidenceDesk
from app.services.exports import ExportDesk
from app.services.hits import HitsDesk
from app.services.moderation import Moderation
from app.services.overview import OverviewDesk
from app.services.policies import PolicyDesk
from app.services.prompt_library import PromptLibrary
from app.services.queue import FairQueue
from app.services.replay import ReplayDesk
from app.services.reviews import ReviewDesk
from app.services.shares import ShareDesk
from app.services.stats import Stats
from app.services.strikes import Strikes


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What people do, by noun."""

    accounts: AccountDesk
    appeals: AppealDesk
    audit: AuditDesk
    chat: Chat
    conversations: ConversationDesk
    evidence: EvidenceDesk
    exports: ExportDesk
    hits: HitsDesk
    moderation: Moderation
    overview: OverviewDesk
    policies: PolicyDesk
    prompts: PromptLibrary
    replays: ReplayDesk
    queue: FairQueue
    reviews: ReviewDesk
    shares: ShareDesk
    stats: Stats
    strikes: Strikes
    engine: Engine
    filters: Filters
