"""The engine's queue, turns and endings, with a scripted runner: no tensors."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.worker.engine import EngineBroken, EngineStopped, JobFailed, QueueFull
from app.worker.jobs import EndReason, Job, Piece, TokenScore
from app.worker.vocabulary import Vocabulary

MakeEngine = Callable[..., Any]  # see conftest


def job(name: str = "a", *, max_tokens: int = 5, **more: Any) -> Job:
    return Job(id=name, prompt_ids=(10, 11, 12), max_tokens=max_tokens, **more)


class ScriptedRunner:
    """Each job writes its script, `x` for ever by default; an exception in the script is raised in its turn."""

    def __init__(self, vocabulary: Vocabulary, **scripts: str | list[int | Exception]) -> None:
        self._vocabulary = vocabulary
        self._scripts = scripts
        self.chunks: dict[str, int] = {}
        self.turns: list[str] = []
        self.gate: threading.Semaphore | None = None
        self.is_in_turn = threading.Event()

    def open(self, new: Job) -> "ScriptedSequence":
        script = self._scripts.get(new.id, "x" * 10_000)
        ids = self._vocabulary.encode(script, add_special_tokens=False) if isinstance(script, str) else script
        if ids and isinstance(ids[0], MemoryError):
            raise ids[0]
        return ScriptedSequence(self, new, iter(ids))


class ScriptedSequence:
    def __init__(self, runner: ScriptedRunner, owner: Job, ids: Iterator[int | Exception]) -> None:
        self.prompt_scores: tuple[TokenScore, ...] = ()
        self._runner = runner
        self._owner = owner
        self._ids = ids
        self._chunks = runner.chunks.get(owner.id, 1)

    def prefill(self) -> bool:
        self._turn("prefill")
        self._chunks -= 1
        return self._chunks == 0

    def step(self) -> TokenScore:
        self._turn("step")
        found = next(self._ids)
        if isinstance(found, Exception):
            raise found
        return TokenScore(found, None)

    def _turn(self, kind: str) -> None:
        self._runner.is_in_turn.set()
        if self._runner.gate:
            assert self._runner.gate.acquire(timeout=20)
        self._runner.turns.append(f"{self._owner.id}:{kind}")


def test_a_job_ends_at_its_length_with_exact_counts(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    (inbox,) = make_engine(ScriptedRunner(vocabulary)).complete(job(max_tokens=7))

    (end,) = inbox.ends
    assert (end.reason, end.prompt_tokens, end.completion_tokens) == (EndReason.LENGTH, 3, 7)
    assert inbox.text == "xxxxxxx"


def test_a_stop_token_counts_but_is_not_shown(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    the = vocabulary.encode("the", add_special_tokens=False)
    runner = ScriptedRunner(vocabulary, a=[*the, 2, *the])
    (inbox,) = make_engine(runner).complete(job(max_tokens=50, stop_token_ids=frozenset({2})))

    (end,) = inbox.ends
    assert (end.reason, end.stop_reason, end.completion_tokens) == (EndReason.STOP, 2, len(the) + 1)
    assert inbox.text == "the"
    assert inbox.ids[-1] == 2


def test_a_stop_token_that_has_text_is_not_shown_either(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    (a, b) = vocabulary.encode("ab", add_special_tokens=False)
    runner = ScriptedRunner(vocabulary, a=[a, b])
    (inbox,) = make_engine(runner).complete(job(stop_token_ids=frozenset({b})))

    assert inbox.text == "a"


def test_a_stop_string_over_token_borders_never_leaks(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    runner = ScriptedRunner(vocabulary, a="one day\nUser: what")
    (inbox,) = make_engine(runner).complete(job(max_tokens=50, stop=("\nUser:",)))

    (end,) = inbox.ends
    assert (end.reason, end.stop_reason) == (EndReason.STOP, "\nUser:")
    assert inbox.text == "one day"
    assert end.completion_tokens == len(vocabulary.encode("one day\nUser:", add_special_tokens=False))


def test_what_was_held_back_for_a_stop_string_comes_at_the_end(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    length = len(vocabulary.encode("yes\nUs", add_special_tokens=False))
    runner = ScriptedRunner(vocabulary, a="yes\nUser")
    (inbox,) = make_engine(runner).complete(job(max_tokens=length, stop=("\nUser:",)))

    assert inbox.text == "yes\nUs"


def test_a_job_without_tokens_ends_after_its_prefill(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    (inbox,) = make_engine(ScriptedRunner(vocabulary)).complete(job(max_tokens=0))

    assert [(end.reason, end.completion_tokens) for end in inbox.ends] == [(EndReason.LENGTH, 0)]


def test_jobs_take_turns_and_a_long_newcomer_delays_them_by_one_chunk(
    vocabulary: Vocabulary, make_engine: MakeEngine
) -> None:
    runner = ScriptedRunner(vocabulary)
    runner.chunks = {"long": 3}
    running = make_engine(runner, is_started=False)
    for name in ("a", "b", "long"):
        running.submit(job(name))
    for _ in range(6):
        running.engine._round()

    assert runner.turns == [
        "a:prefill", "a:step",
        "b:prefill", "a:step", "b:step",
        "long:prefill", "a:step", "b:step",
        "long:prefill", "a:step", "b:step",
        "long:prefill", "a:step", "b:step", "long:step",
        "b:step", "long:step",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "failure", [RuntimeError("odd"), JobFailed("bad numbers", code="invalid_numbers"), ZeroDivisionError()]
)
def test_a_job_that_raises_ends_alone(vocabulary: Vocabulary, make_engine: MakeEngine, failure: Exception) -> None:
    running = make_engine(ScriptedRunner(vocabulary, bad=[30, failure]))
    bad, good = running.complete(job("bad"), job("good"))

    assert [end.reason for end in bad.ends] == [EndReason.ERROR]
    assert bad.ends[0].completion_tokens == 1
    assert [end.reason for end in good.ends] == [EndReason.LENGTH]
    assert running.engine.running == 0
    assert running.complete(job("next"))[0].ends[0].reason is EndReason.LENGTH


def test_a_job_for_which_there_is_no_memory_ends_alone(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    runner = ScriptedRunner(vocabulary, big=[MemoryError()])
    big, good = make_engine(runner).complete(job("big"), job("good"))

    assert [end.reason for end in big.ends] == [EndReason.ERROR]
    assert [end.reason for end in good.ends] == [EndReason.LENGTH]


def test_a_cancelled_job_gets_no_further_token_and_one_end(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    runner = ScriptedRunner(vocabulary)
    runner.gate = threading.Semaphore(4)  # a prefill and three tokens
    running = make_engine(runner)
    ticket, inbox = running.submit(job(max_tokens=1000))
    for _ in range(3):
        assert isinstance(inbox.next(), Piece)
    running.engine.cancel(ticket)
    running.engine.cancel(ticket)
    runner.gate.release(10)

    end = inbox.wait()
    assert end.reason is EndReason.CANCELLED
    assert end.completion_tokens <= 4  # one may have been on its way
    running.engine.cancel(ticket)
    assert running.complete(job("next"))[0].ends[0].reason is EndReason.LENGTH
    assert len(inbox.ends) == 1


def test_a_job_is_cancelled_while_it_waits_and_in_its_prefill(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    runner = ScriptedRunner(vocabulary)
    runner.chunks = {"first": 1000}
    runner.gate = threading.Semaphore(0)
    running = make_engine(runner, slots=1)
    first, first_inbox = running.submit(job("first"))
    assert runner.is_in_turn.wait(timeout=20)
    waiting, waiting_inbox = running.submit(job("waiting"))
    running.engine.cancel(waiting)
    runner.gate.release()
    assert waiting_inbox.wait().reason is EndReason.CANCELLED  # though no slot is free
    running.engine.cancel(first)
    runner.gate.release(5)

    assert first_inbox.wait().reason is EndReason.CANCELLED
    assert set(runner.turns) == {"first:prefill"}
    assert len(runner.turns) <= 3  # the chunk at each cancel was on its way
    assert (running.engine.running, running.engine.waiting) == (0, 0)


def test_a_queue_that_is_full_refuses(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    running = make_engine(ScriptedRunner(vocabulary), slots=2, queue_limit=1, is_started=False)
    for name in ("a", "b", "c"):
        running.submit(job(name))
    with pytest.raises(QueueFull):
        running.submit(job("d"))
    running.engine._round()
    with pytest.raises(QueueFull):
        running.submit(job("d"))

    assert (running.engine.running, running.engine.waiting) == (2, 1)


def test_stopping_ends_every_job_once_and_refuses_new_ones(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    running = make_engine(ScriptedRunner(vocabulary), slots=2)
    inboxes = [running.submit(job(str(n), max_tokens=5000))[1] for n in range(5)]
    assert isinstance(inboxes[0].next(), Piece)
    running.stop()

    assert [[end.reason for end in inbox.ends] for inbox in inboxes] == [[EndReason.SHUTDOWN]] * 5
    with pytest.raises(EngineStopped):
        running.submit(job())


def test_an_engine_that_breaks_ends_every_job_once_and_says_so(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    running = make_engine(ScriptedRunner(vocabulary, bad=[30, EngineBroken("device")]), slots=1, is_started=False)
    inboxes = [running.submit(job(name))[1] for name in ("bad", "b", "c")]
    running.thread.start()
    running.thread.join(timeout=20)

    assert isinstance(running.error, EngineBroken)
    assert [[end.reason for end in inbox.ends] for inbox in inboxes] == [[EndReason.ERROR]] * 3
    assert {end.error_code for inbox in inboxes for end in inbox.ends} == {"engine_stopped"}


def test_many_jobs_cancelled_at_random_leave_nothing_behind(vocabulary: Vocabulary, make_engine: MakeEngine) -> None:
    running = make_engine(ScriptedRunner(vocabulary), slots=3, queue_limit=100)
    submitted = [running.submit(job(str(n), max_tokens=n % 9)) for n in range(80)]
    for n, (ticket, _) in enumerate(submitted):
        if n % 3 == 0:
            running.engine.cancel(ticket)
    for _, inbox in submitted:
        inbox.wait()
    running.complete(job("last"))

    assert all(len(inbox.ends) == 1 for _, inbox in submitted)
    assert all(inbox.events[-1] is inbox.ends[0] for _, inbox in submitted)
    assert (running.engine.running, running.engine.waiting) == (0, 0)
