"""Hits and evidence: what is kept of a text, when, and who has seen it. Never a text in a row or a line of the log."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import AccessDenied, ContentBlocked, EvidenceSealed, InvalidInput, NotFound, StorageFull
from app.domain.generation import ChatMessage
from app.domain.models import Account, AccountRole, AuditAction, Hit, Role, now
from app.domain.verdicts import Action, Case, Decision, Finding, SealedText, Stage
from app.engines.scripted import Script
from app.safety.evidence_box import AesBox
from app.services.chat import ApiQuestion
from app.services.evidence import EvidenceDesk, EvidenceMode
from tests.fakes.house import House, make_house
from tests.fakes.invariants import invariant
from tests.fakes.memory_storage import MemoryStorage
from tests.fakes.sweets import FLAGGED, HANDED_OVER, REFUSED, sweets

FILTER = sweets()
ROOT = Account(id="root", name="root", role=AccountRole.ADMIN, created_at=now())


async def hits_of(house: House) -> list[Hit]:
    async with house.storage.read() as unit:
        return list(await unit.hits.page())


async def kept(house: House) -> dict[str, str]:
    """Return what can be opened, by decision."""
    found = {}
    for decision_id in {hit.decision_id for hit in await hits_of(house)}:
        try:
            found[decision_id] = (await house.evidence.open(ROOT, decision_id, reason="test")).unsealed()
        except NotFound:
            continue
    return found


async def test_a_hit_keeps_score_fingerprint_length_and_language_and_never_the_text() -> None:
    house = make_house(content_filter=FILTER)
    await house.ask(f"I want {REFUSED} now")
    await house.ask(f"ｉ　WANT {REFUSED}   now")
    await house.ask(f"你好 {REFUSED}，我想吃很多很多的糖果和点心")
    third, second, first = await hits_of(house)
    assert (first.score, first.text_length, first.language) == (1.0, len(f"I want {REFUSED} now"), "en")
    assert first.digest == second.digest != third.digest
    assert third.language == "zh"
    assert not first.is_shadow
    assert not any("toffee" in repr(hit) for hit in (first, second, third))


async def test_the_fingerprint_of_an_answer_is_of_what_was_read_of_it() -> None:
    house = make_house(script=Script(default=f"I like {REFUSED} and more of it"), content_filter=FILTER)
    answer = await house.answer(await house.ask("harmless"))
    (hit,) = await hits_of(house)
    assert (hit.message_id, hit.text_length) == (answer.id, len(f"I like {REFUSED}"))


@pytest.mark.parametrize(
    ("mode", "texts"),
    [
        ("off", []),
        ("refused", [f"a {HANDED_OVER} b", f"a {REFUSED} b"]),
        ("all_hits", [f"a {FLAGGED} b", f"a {HANDED_OVER} b", f"a {REFUSED} b"]),
    ],
)
async def test_what_is_kept_is_what_the_operator_wants_kept(mode: EvidenceMode, texts: list[str]) -> None:
    house = make_house(content_filter=FILTER, evidence=mode)
    for phrase in (REFUSED, HANDED_OVER, FLAGGED, "harmless"):
        await house.ask(f"a {phrase} b")
    assert sorted((await kept(house)).values()) == sorted(texts)


async def test_of_an_answer_only_what_was_read_up_to_the_finding_is_kept() -> None:
    script = Script(default=f"first {FLAGGED} then {REFUSED} and what nobody read", tokens_per_delta=(1, 3))
    house = make_house(script=script, content_filter=FILTER, evidence="all_hits")
    await house.answer(await house.ask("harmless"))
    assert list((await kept(house)).values()) == [f"first {FLAGGED} then {REFUSED}"]


async def test_of_a_programs_history_the_message_that_was_refused_is_kept() -> None:
    house = make_house(content_filter=FILTER, evidence="refused")
    messages = (ChatMessage(Role.USER, f"{REFUSED}!"), ChatMessage(Role.ASSISTANT, "no"), ChatMessage(Role.USER, "?"))
    with pytest.raises(ContentBlocked):
        await house.chat.ask_for_program(house.ann, ApiQuestion(messages=messages))
    assert list((await kept(house)).values()) == [f"{REFUSED}!"]


async def test_opening_is_for_admins_wants_a_reason_and_is_written_down() -> None:
    house = make_house(content_filter=FILTER, evidence="refused")
    await house.ask(REFUSED)
    (hit,) = await hits_of(house)
    with pytest.raises(AccessDenied):
        await house.evidence.open(house.ann, hit.decision_id, reason="curious")
    for reason in ("", "  ", "x" * 201):
        with pytest.raises(InvalidInput):
            await house.evidence.open(ROOT, hit.decision_id, reason=reason)
    with pytest.raises(NotFound):
        await house.evidence.open(ROOT, "unknown", reason="why")
    async with house.storage.read() as unit:
        assert await unit.audit.page() == []
    await house.evidence.open(ROOT, hit.decision_id, reason=" an  appeal ")
    async with house.storage.read() as unit:
        (entry,) = await unit.audit.page()
    assert (entry.actor_name, entry.action, entry.subject, entry.reason) == (
        "root", AuditAction.EVIDENCE_OPENED, hit.decision_id, "an appeal",
    )  # fmt: skip


async def test_an_attempt_that_cannot_open_is_written_down_too() -> None:
    house = make_house(content_filter=FILTER, evidence="refused")
    await house.ask(REFUSED)
    (hit,) = await hits_of(house)
    other = EvidenceDesk(house.storage, box=AesBox(None))
    with pytest.raises(EvidenceSealed):
        await other.open(ROOT, hit.decision_id, reason="an appeal")
    async with house.storage.read() as unit:
        assert len(await unit.audit.page()) == 1


async def test_what_is_over_is_neither_opened_nor_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    house = make_house(content_filter=FILTER, evidence="refused")
    await house.ask(REFUSED)
    (hit,) = await hits_of(house)
    assert await house.evidence.purge() == 0
    monkeypatch.setattr("app.services.evidence.now", lambda: now() + timedelta(days=30, minutes=1))
    with pytest.raises(NotFound):
        await house.evidence.open(ROOT, hit.decision_id, reason="an appeal")
    assert await house.evidence.purge() == 1
    assert await house.evidence.purge() == 0
    assert await hits_of(house) == [hit]


async def test_an_answer_that_the_full_disk_refused_is_recorded_later() -> None:
    house = make_house(script=Script(default=REFUSED), content_filter=FILTER, evidence="refused", save_later_s=0.01)
    asked = await house.ask("harmless")
    for _ in range(2):
        house.storage.fail_next_write(StorageFull())
    await house.answer(asked)
    await asyncio.gather(*house.answering._savings)
    assert list((await kept(house)).values()) == [REFUSED]


@invariant
@given(secret=st.text(alphabet="海纳百川有容乃大abcdefgh ", min_size=8, max_size=30))
def test_no_row_no_repr_and_no_line_of_the_log_holds_the_text(secret: str) -> None:
    async def run() -> tuple[MemoryStorage, str]:
        storage = MemoryStorage()
        house = make_house(
            script=Script(default=f"{secret} {REFUSED}"), content_filter=FILTER, evidence="all_hits", inner=storage
        )
        await house.ask(f"{secret} {REFUSED}")
        asked = await house.ask("harmless")
        await house.answer(asked)
        return storage, asked.answer.id

    with structlog.testing.capture_logs() as logs:
        storage, _ = asyncio.run(run())
    assert len(storage.state.evidence) == 2
    # The answer's own row has what was shown of it: everything before the phrase.
    rows = replace(storage.state, messages={}, conversations={})
    written = repr(rows) + repr(logs) + repr([one.sealed for one in storage.state.evidence.values()])
    assert secret.strip() not in written or len(secret.strip()) < 6
    assert "toffee" not in written


async def test_what_a_rule_on_trial_would_have_done_is_a_hit_that_did_nothing() -> None:
    house = make_house(content_filter=FILTER, evidence="all_hits")
    on_trial = Finding(
        category="c", rule="trial", detector="d", action=Action.ALLOW, start=0, end=2, shadow=Action.REFUSE
    )
    stricter = replace(on_trial, rule="stricter", action=Action.FLAG)
    decision = Decision(id="d", stage=Stage.INPUT, action=Action.ALLOW, policy="p", findings=(on_trial,))
    noted = house.recorder.note(Case(decision, SealedText("hi")), account_id="a")
    assert [(hit.action, hit.is_shadow) for hit in noted.hits] == [(Action.REFUSE, True)]
    assert (noted.evidence, noted.handoff) == (None, None)
    both = replace(decision, action=Action.FLAG, findings=(stricter,))
    noted = house.recorder.note(Case(both, SealedText("hi")), account_id="a")
    assert [(hit.action, hit.is_shadow) for hit in noted.hits] == [(Action.FLAG, False), (Action.REFUSE, True)]
    assert noted.evidence is not None
