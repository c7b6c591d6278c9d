"""One turn, in every way that it can go."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from app.domain.errors import (
    AccessDenied,
    Conflict,
    ContentBlocked,
    EngineStarting,
    InvalidInput,
    NotFound,
    SafetyUnavailable,
    StorageFull,
    TextTooLong,
)
from app.domain.events import Ended, Started, Waiting
from app.domain.generation import ChatMessage, Delta, Finish, GenerationRequest
from app.domain.models import MessageState, Role, Sampling
from app.domain.verdicts import Action, Cut, ReleasedText, Stage, joined
from app.domain.words import notice
from app.engines.scripted import Fault, Script
from app.safety.answers import Answer
from app.safety.detector import Scan
from app.safety.filter import ContentFilter
from app.safety.policy_file import load_policy
from app.services.chat import MAX_CHARACTERS, ApiQuestion, Question, can_repeat
from tests.fakes.house import FILTER, House, make_house, released, rule

BAD = "haina-blocked-test-phrase"


async def test_an_answer_streams_and_the_saved_text_is_what_was_shown(house: House) -> None:
    asked = await house.ask("Where do rivers run?")
    events = await house.events(asked.answer.id)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    saved = await house.saved(asked.answer.id)
    assert saved.text == released(events) == "All rivers run into the sea."
    assert saved.state is MessageState.COMPLETE
    assert saved == events[-1].answer
    assert saved.receipt is not None
    assert saved.receipt.completion_tokens == 7
    assert saved.receipt.sampling.seed is not None
    assert (house.queue.running, house.queue.waiting) == (0, 0)


async def test_the_first_question_gives_the_title(house: House) -> None:
    asked = await house.ask("Where do rivers run? I forgot.")
    assert asked.conversation.title == "Where do rivers run"


async def test_the_history_goes_to_the_model_without_what_was_blocked() -> None:
    house = make_house(rule("first", "one"), rule("second", "two"))
    first = await house.ask("first")
    await house.answer(first)
    blocked = await house.ask(f"say {BAD}", conversation_id=first.conversation.id)
    second = await house.ask("second", conversation_id=first.conversation.id)
    assert second.question.parent_id == blocked.answer.id
    await house.answer(second)
    assert house.engine.requests[-1].messages == (
        ChatMessage(Role.USER, "first"),
        ChatMessage(Role.ASSISTANT, "one"),
        ChatMessage(Role.USER, "second"),
    )


async def test_a_refused_question_never_reaches_the_model_nor_a_row(house: House) -> None:
    asked = await house.ask(f"please: {BAD}")
    assert asked.question.state is asked.answer.state is MessageState.BLOCKED
    assert asked.question.category == "test"
    assert house.engine.requests == []
    assert BAD not in repr(await house.saved(asked.question.id))
    async with house.storage.read() as unit:
        hits = await unit.hits.page()
    assert [(hit.category, hit.message_id) for hit in hits] == [("test", asked.question.id)]
    assert BAD not in repr(hits)


@pytest.mark.parametrize("seed", range(8))
async def test_a_phrase_split_over_deltas_never_reaches_a_reader_or_a_row(seed: int) -> None:
    script = Script(rules=(rule("", f"Before it: {BAD} and after it."),), tokens_per_delta=(1, 3), seed=seed)
    house = make_house(script=script)
    asked = await house.ask("go")
    events = await house.events(asked.answer.id)
    end = events[-1]
    assert isinstance(end, Ended)
    assert end.answer.state is MessageState.BLOCKED
    assert end.answer.category == "test"
    assert released(events) == "Before it: "
    assert (await house.saved(asked.answer.id)).text == "Before it: "
    assert house.engine.cancelled == [asked.answer.id]
    assert house.engine.running == 0


async def test_a_flagged_answer_passes_and_leaves_a_hit() -> None:
    house = make_house(rule("", "say haina-flagged-test-phrase now"))
    answer = await house.answer(await house.ask("go"))
    assert answer.state is MessageState.COMPLETE
    async with house.storage.read() as unit:
        assert [hit.message_id for hit in await unit.hits.page()] == [answer.id]


async def test_a_phrase_split_over_questions_is_answered_and_leaves_a_hit(house: House) -> None:
    first = await house.ask(f"say {BAD[:10]}")
    await house.answer(first)
    second = await house.ask(BAD[10:], conversation_id=first.conversation.id)
    assert (await house.answer(second)).state is MessageState.COMPLETE
    async with house.storage.read() as unit:
        assert [(hit.category, hit.message_id) for hit in await unit.hits.page()] == [("test", second.question.id)]


async def test_a_phrase_split_over_a_programs_messages_leaves_a_hit(house: House) -> None:
    messages = (
        ChatMessage(Role.USER, BAD[:10]),
        ChatMessage(Role.ASSISTANT, "yes?"),
        ChatMessage(Role.USER, BAD[10:]),
    )
    asked = await house.chat.ask_for_program(house.ann, ApiQuestion(messages=messages))
    async with house.storage.read() as unit:
        assert [hit.message_id for hit in await unit.hits.page()] == [asked.question.id]


async def test_a_stopped_answer_leaves_the_hits_of_what_was_shown() -> None:
    house = make_house(rule("", "say haina-flagged-test-phrase now and more", hang_after=12))
    asked = await house.ask("go")
    reader = asyncio.create_task(house.events(asked.answer.id))
    await _until(lambda: "phrase now" in house.turns.running()[0].text)
    await house.chat.stop(house.ann, asked.answer.id)
    await reader
    async with house.storage.read() as unit:
        assert [hit.message_id for hit in await unit.hits.page()] == [asked.answer.id]


async def test_stop_ends_the_engine_and_keeps_what_was_shown() -> None:
    house = make_house(rule("", "one two three four", hang_after=3))
    asked = await house.ask("go")
    reader = asyncio.create_task(house.events(asked.answer.id))
    await _until(lambda: len(house.turns.running()[0].pieces) >= 2)
    await house.chat.stop(house.ann, asked.answer.id)
    events = await reader
    end = events[-1]
    assert isinstance(end, Ended)
    assert end.answer.state is MessageState.STOPPED
    assert end.answer.text == released(events) != ""
    assert house.engine.cancelled == [asked.answer.id]
    assert (house.engine.running, house.queue.running) == (0, 0)


async def test_stop_in_the_queue_leaves_the_line() -> None:
    house = make_house(rule("hang", "x", hang_after=1), slots=1)
    first = await house.ask("hang")
    await _until(lambda: house.engine.running == 1)
    second = await house.ask("other", account=house.bob)
    await _until(lambda: house.queue.waiting == 1)
    await house.chat.stop(house.bob, second.answer.id)
    assert (await house.answer(second, account=house.bob)).state is MessageState.STOPPED
    assert house.queue.waiting == 0
    await house.chat.stop(house.ann, first.answer.id)
    assert (await house.answer(first)).state is MessageState.STOPPED


async def test_a_stop_before_the_first_step_still_ends_the_turn_once(house: House) -> None:
    asked = await house.ask("go")
    await house.chat.stop(house.ann, asked.answer.id)
    await house.chat.stop(house.ann, asked.answer.id)
    assert (await house.answer(asked)).state is MessageState.STOPPED


@pytest.mark.parametrize("fault", list(Fault))
async def test_an_engine_fault_ends_the_turn_with_its_own_code(fault: Fault) -> None:
    house = make_house(rule("", "one two three", fault=fault, fault_after=2))
    asked = await house.ask("go")
    events = await house.events(asked.answer.id)
    end = events[-1]
    assert isinstance(end, Ended)
    saved = await house.saved(asked.answer.id)
    assert saved.state is MessageState.FAILED
    assert (saved.error_code, saved.error_data) == (end.answer.error_code, end.answer.error_data)
    assert "–" not in (notice(saved, "en") or "")
    assert saved.text == released(events) != ""
    assert house.queue.running == 0
    assert (await house.saved(asked.question.id)).text == "go"


async def test_a_reader_may_come_late_and_go_on_from_any_event(house: House) -> None:
    asked = await house.ask("go")
    everything = await house.events(asked.answer.id)
    for after in range(len(everything)):
        assert await house.events(asked.answer.id, after=after) == everything[after:]


async def test_a_forgotten_turn_is_told_from_its_row(house: House) -> None:
    asked = await house.ask("go")
    answer = await house.answer(asked)
    house.turns._turns.clear()
    assert await house.events(asked.answer.id, after=7) == [Ended(answer=answer)]


async def test_somebody_elses_turns_and_conversations_do_not_exist(house: House) -> None:
    asked = await house.ask("mine")
    await house.answer(asked)
    with pytest.raises(NotFound):
        await house.events(asked.answer.id, account=house.bob)
    with pytest.raises(NotFound):
        await house.chat.stop(house.bob, asked.answer.id)
    with pytest.raises(NotFound):
        await house.chat.again(house.bob, asked.answer.id)
    with pytest.raises(NotFound):
        await house.ask("yours", account=house.bob, conversation_id=asked.conversation.id)
    with pytest.raises(NotFound):
        await house.ask("yours", account=house.bob, parent_id=asked.answer.id, conversation_id=None)


async def test_a_parent_of_another_conversation_is_refused(house: House) -> None:
    first, second = await house.ask("one"), await house.ask("two")
    await house.answer(first)
    await house.answer(second)
    with pytest.raises(NotFound):
        await house.ask("mixed", conversation_id=first.conversation.id, parent_id=second.answer.id)


async def test_two_tabs_that_ask_at_once_begin_one_turn() -> None:
    house = make_house(rule("", "x y", hang_after=1))
    first = await house.ask("go")
    await house.chat.stop(house.ann, first.answer.id)
    await house.answer(first)
    where = first.conversation.id
    begun = await asyncio.gather(
        *(house.ask(f"question {n}", conversation_id=where) for n in range(3)),
        house.chat.again(house.ann, first.answer.id),
        return_exceptions=True,
    )
    assert [type(one) for one in begun].count(Conflict) == 3
    assert len(house.turns.running()) == 1
    async with house.storage.read() as unit:
        assert len(await unit.messages.thread(where)) in {3, 4}


async def test_a_question_follows_an_answer_and_never_a_question(house: House) -> None:
    first = await house.ask("go")
    await house.answer(first)
    with pytest.raises(NotFound):
        await house.ask("more", conversation_id=first.conversation.id, parent_id=first.question.id)


async def test_a_refused_question_can_neither_be_answered_again_nor_gone_on_with(house: House) -> None:
    asked = await house.ask(f"say {BAD}")
    assert not can_repeat(asked.answer)
    for go in (house.chat.again, house.chat.go_on):
        with pytest.raises(Conflict) as caught:
            await go(house.ann, asked.answer.id)
        assert caught.value.data == {"kind": "refused"}


async def test_an_answer_that_the_filter_cut_can_be_tried_again() -> None:
    house = make_house(rule("", f"so {BAD} so"))
    answer = await house.answer(await house.ask("go"))
    assert (answer.state, can_repeat(answer)) == (MessageState.BLOCKED, True)
    assert (await house.chat.again(house.ann, answer.id)).answer.state is MessageState.RUNNING


async def test_one_answer_at_a_time_in_a_conversation() -> None:
    house = make_house(rule("", "x y", hang_after=1))
    asked = await house.ask("go")
    with pytest.raises(Conflict):
        await house.ask("more", conversation_id=asked.conversation.id)
    with pytest.raises(Conflict):
        await house.chat.again(house.ann, asked.answer.id)
    await house.chat.stop(house.ann, asked.answer.id)
    await house.answer(asked)
    await house.chat.again(house.ann, asked.answer.id)


async def test_again_writes_a_sibling_and_leaves_the_first_answer_alone(house: House) -> None:
    asked = await house.ask("go")
    before = await house.answer(asked)
    again = await house.chat.again(house.ann, asked.answer.id)
    after = await house.answer(again)
    assert after.parent_id == before.parent_id
    assert after.id != before.id
    assert await house.saved(before.id) == before
    thread = await house.desk.open(house.ann, asked.conversation.id)
    assert thread.siblings[after.id] == (before.id, after.id)


async def test_continue_begins_with_what_was_there() -> None:
    house = make_house(rule("", "one two three", fault=Fault.DIED, fault_after=2))
    asked = await house.ask("go")
    cut = await house.answer(asked)
    assert cut.text == "one two"
    more = await house.chat.go_on(house.ann, cut.id)
    whole = await house.answer(more)
    assert whole.text == "one twoone two"
    assert whole.continues_id == cut.id
    assert house.engine.requests[-1].messages[-1] == ChatMessage(Role.ASSISTANT, "one two")


async def test_a_phrase_across_the_cut_of_a_continued_answer_is_seen() -> None:
    half = BAD[:12]
    house = make_house(rule("", f"so {BAD}", fault=Fault.DIED, fault_after=4))
    asked = await house.ask("go")
    turn = house.turns.running()[0]
    await _until(lambda: bool(turn.pieces))
    cut = await house.answer(asked)
    assert cut.text == "so "  # what may become the phrase was held back
    continued = FILTER.continued(joined([cut.text, ReleasedText(half)]), stage=Stage.OUTPUT)
    assert [type(event) for event in await continued.feed(BAD[12:] + " more")] == [Cut]


async def test_while_the_model_loads_the_reader_sees_how_far_it_is(house: House) -> None:
    house.engine.ready.clear()
    asked = await house.ask("go")
    stream = house.chat.read(house.ann, asked.answer.id)
    first = await anext(stream)
    assert first[0].event == Waiting(stage="weights", progress=0.5)
    house.engine.ready.set()
    assert (await house.answer(asked)).state is MessageState.COMPLETE


async def test_a_program_is_told_at_once_that_the_model_loads(house: House) -> None:
    house.engine.ready.clear()
    with pytest.raises(EngineStarting):
        await house.chat.ask_for_program(house.ann, ApiQuestion(messages=(ChatMessage(Role.USER, "go"),)))


async def test_a_question_that_cannot_be_saved_is_not_asked(house: House) -> None:
    house.storage.fail_next_write(StorageFull())
    with pytest.raises(StorageFull):
        await house.ask("go")
    assert house.engine.requests == []
    assert house.turns.running() == []


async def test_an_answer_that_cannot_be_saved_at_first_is_saved_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.answering._SAVE_AGAIN_S", 0)
    house = make_house(rule("", "one two", first_token_s=0.0))
    asked = await house.ask("go")
    house.storage.fail_next_write(StorageFull())
    answer = await house.answer(asked)
    assert answer.state is MessageState.COMPLETE
    assert await house.saved(answer.id) == answer


async def test_an_answer_that_the_database_refuses_for_long_is_kept_until_it_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.services.answering._SAVE_AGAIN_S", 0)
    house = make_house(rule("", "one two", first_token_s=0.0), save_later_s=0.01)
    asked = await house.ask("go")
    for _ in range(25):
        house.storage.fail_next_write(StorageFull())
    told = await house.answer(asked)
    assert (told.state, told.error_code, told.text) == (MessageState.FAILED, "storage_full", "one two")
    await asyncio.gather(*house.answering._savings)
    saved = await house.saved(told.id)
    assert (saved.state, saved.text) == (MessageState.COMPLETE, "one two")


async def test_what_the_database_refused_is_offered_to_it_again_when_the_server_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.services.answering._SAVE_AGAIN_S", 0)
    house = make_house(rule("", "one two", first_token_s=0.0), save_later_s=1000.0)
    asked = await house.ask("go")
    for _ in range(21):
        house.storage.fail_next_write(StorageFull())
    told = await house.answer(asked)
    await _until(lambda: not house.storage.has_failures)
    await house.answering.close()
    assert (await house.saved(told.id)).text == "one two"


async def test_the_journal_saves_a_running_answer() -> None:
    house = make_house(rule("", "one two three", hang_after=2))
    asked = await house.ask("go")
    await _until(lambda: len(house.turns.running()[0].pieces) >= 1)
    await house.journal.flush()
    running = await house.saved(asked.answer.id)
    assert running.state is MessageState.RUNNING
    assert running.text == house.turns.running()[0].text != ""
    await house.chat.stop(house.ann, asked.answer.id)
    answer = await house.answer(asked)
    await house.journal.flush()
    assert (await house.saved(asked.answer.id)).text == answer.text


class _Broken:
    """A detector that fails as soon as it has to look."""

    name = "broken"

    def open(self, stage: Stage) -> Scan:
        raise RuntimeError(stage)


async def test_a_filter_that_fails_lets_nothing_through() -> None:
    house = make_house(content_filter=ContentFilter(load_policy(), detectors=[_Broken()]))
    with pytest.raises(SafetyUnavailable):
        await house.ask("go")
    assert house.engine.requests == []


async def test_an_engine_that_goes_back_to_loading_before_its_first_word_is_waited_for() -> None:
    house = make_house()
    generate = house.engine.generate
    tries: list[str] = []

    def start_twice(request: GenerationRequest) -> AsyncGenerator[Delta | Finish, None]:
        tries.append(request.id)
        if len(tries) == 1:
            raise EngineStarting(stage="weights", progress=0.1)
        return generate(request)

    house.engine.generate = start_twice  # type: ignore[method-assign]
    answer = await house.answer(await house.ask("go"))
    assert answer.state is MessageState.COMPLETE
    assert len(tries) == 2


@pytest.mark.parametrize("text", ["", "  \n ", "\x00\x07", "\ud800"])
async def test_a_message_without_text_is_refused(house: House, text: str) -> None:
    with pytest.raises(InvalidInput):
        await house.ask(text)


async def test_an_over_long_message_is_refused_with_its_length(house: House) -> None:
    with pytest.raises(TextTooLong) as caught:
        await house.ask("x" * 100_000)
    assert caught.value.data["length"] == 100_000
    assert caught.value.data["limit"] == MAX_CHARACTERS


async def test_control_characters_and_lone_surrogates_are_taken_out(house: House) -> None:
    asked = await house.ask("a\x00b\ud83dc\r\nd\te")
    assert asked.question.text == "abc\nd\te"


async def test_a_suspended_account_asks_nothing(house: House) -> None:
    from dataclasses import replace  # noqa: PLC0415

    with pytest.raises(AccessDenied):
        await house.ask("go", account=replace(house.ann, is_suspended=True))


async def test_a_programs_history_passes_the_filter_too(house: House) -> None:
    messages = (
        ChatMessage(Role.USER, "hi"),
        ChatMessage(Role.ASSISTANT, f"forged {BAD}"),
        ChatMessage(Role.USER, "go"),
    )
    with pytest.raises(ContentBlocked):
        await house.chat.ask_for_program(house.ann, ApiQuestion(messages=messages))
    assert house.engine.requests == []


async def test_a_programs_question_is_saved_but_not_listed(house: House) -> None:
    question = ApiQuestion(messages=(ChatMessage(Role.USER, "go"),), sampling=Sampling(max_tokens=3, seed=7))
    asked = await house.chat.ask_for_program(house.ann, question)
    answer = await house.answer(asked)
    assert answer.receipt is not None
    assert answer.receipt.sampling.seed == 7
    assert answer.receipt.finish_reason == "length"
    assert await house.saved(answer.id) == answer
    assert (await house.desk.page(house.ann))[0] == []


async def test_a_program_must_end_with_a_question(house: House) -> None:
    messages = (ChatMessage(Role.USER, "go"), ChatMessage(Role.ASSISTANT, "ok"))
    with pytest.raises(InvalidInput):
        await house.chat.ask_for_program(house.ann, ApiQuestion(messages=messages))


async def test_an_unknown_template_is_refused(house: House) -> None:
    with pytest.raises(NotFound):
        await house.chat.ask(house.ann, Question(text="go", template="nope"))


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


# The answer bank

BANK = [
    Answer(name="why", categories=frozenset({"test"}), any=("but why",), zh="因为。", en="Because."),
    Answer(name="calm", any=("hello there",), zh="好。", en="Hello."),
    Answer(name="bad", any=("say it",), zh=BAD, en=f"{BAD} indeed"),
]


async def test_a_refused_question_with_an_approved_answer_is_answered_without_the_model() -> None:
    house = make_house(answers=BANK)
    asked = await house.ask(f"{BAD} but why")
    assert (asked.question.state, asked.question.text) == (MessageState.BLOCKED, "")
    assert (asked.answer.state, asked.answer.text) == (MessageState.COMPLETE, "Because.")
    assert asked.answer.is_prepared
    assert asked.answer.receipt
    assert (asked.answer.receipt.model, asked.answer.receipt.policy) == ("why", FILTER.policy)
    assert house.engine.requests == []
    assert await house.saved(asked.answer.id) == asked.answer
    events = await house.events(asked.answer.id)
    assert released(events) == "Because."
    assert events[-1] == Ended(answer=asked.answer)
    async with house.storage.read() as unit:
        (hit,) = await unit.hits.page()
    assert (hit.action, hit.message_id) == (Action.REFUSE, asked.question.id)
    assert hit.decision_id == asked.answer.error_data["decision_id"]
    assert "but why" not in repr(await house.saved(asked.question.id))


async def test_the_conversation_goes_on_after_an_approved_answer_and_the_model_sees_nothing_of_it() -> None:
    house = make_house(rule("more", "two"), answers=BANK)
    first = await house.ask(f"{BAD} but why")
    second = await house.ask("more", conversation_id=first.conversation.id)
    assert second.question.parent_id == first.answer.id
    assert (await house.answer(second)).text == "two"
    assert house.engine.requests[-1].messages == (ChatMessage(Role.USER, "more"),)
    for go in (house.chat.again, house.chat.go_on):
        with pytest.raises(Conflict):
            await go(house.ann, first.answer.id)


async def test_a_program_gets_the_approved_answer_in_place_of_an_error() -> None:
    house = make_house(answers=BANK)
    asked = await house.chat.ask_for_program(
        house.ann, ApiQuestion(messages=(ChatMessage(Role.USER, f"{BAD} but why"),))
    )
    assert asked.answer.is_prepared
    history = (ChatMessage(Role.USER, f"{BAD} but why"), ChatMessage(Role.ASSISTANT, "x"), ChatMessage(Role.USER, "y"))
    with pytest.raises(ContentBlocked):
        await house.chat.ask_for_program(house.ann, ApiQuestion(messages=history))
    assert house.engine.requests == []


async def test_a_question_that_is_not_refused_goes_to_the_model_whatever_the_bank_holds() -> None:
    house = make_house(answers=BANK)
    answer = await house.answer(await house.ask("but why? hello there"))
    assert (answer.is_prepared, answer.text) == (False, "All rivers run into the sea.")


async def test_an_approved_answer_that_the_filter_refuses_is_not_given() -> None:
    house = make_house(answers=BANK)
    asked = await house.ask(f"{BAD} say it")
    assert (asked.answer.state, asked.answer.text, asked.answer.receipt) == (MessageState.BLOCKED, "", None)
    assert BAD not in repr(asked)


async def test_a_refusal_says_by_which_decision_so_that_it_reads_the_same_later(house: House) -> None:
    asked = await house.ask(f"say {BAD}")
    async with house.storage.read() as unit:
        (hit,) = await unit.hits.page()
    saved = await house.saved(asked.answer.id)
    assert saved.error_data == {"category": "test", "stage": "input", "decision_id": hit.decision_id}
