"""The classifier's thread: who runs with whom, who waits for whom, and that every request ends as it should."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertForSequenceClassification

from app.worker.classifier.batches import Batcher
from app.worker.classifier.model import SequenceClassifier
from app.worker.classifier.windows import Window
from app.worker.engine import EngineBroken, EngineStopped, JobFailed, QueueFull
from app.worker.metrics import Metrics
from tests.fakes.classifiers import VOCABULARY, CountingScorer, config_of

KNOWN, OTHER, BAD, EMPTY = 7, 8, 9, 10
WITHIN_S = 20


def window(length: int, *, known: int = 0, last: int = OTHER) -> Window:
    ids = (KNOWN,) * known + (OTHER,) * (length - known - 1) + (last,)
    return Window(ids, (0,) * length)


class Running:
    """A batcher in its thread."""

    def __init__(self, scorer: CountingScorer, *, queue_windows: int = 100) -> None:
        self.metrics = Metrics()
        self.scorer = scorer
        self.batcher = Batcher(scorer, metrics=self.metrics.classifier, queue_windows=queue_windows)
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.batcher.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def hold(self) -> None:
        """Keep the thread in a batch of its own until `go`."""
        self.scorer.may_go.clear()
        self.scorer.has_begun.clear()
        self.held = self.batcher.submit([[window(3)]])
        assert self.scorer.has_begun.wait(WITHIN_S)

    def go(self) -> None:
        self.scorer.may_go.set()

    def stop(self) -> None:
        self.go()
        self.batcher.stop()
        self.thread.join(WITHIN_S)
        assert not self.thread.is_alive()

    def count(self, outcome: str) -> float:
        return float(self.metrics.classifier.requests.labels(outcome)._value.get())


Run = Callable[..., Running]


@pytest.fixture
def run() -> Iterator[Run]:
    made: list[Running] = []

    def start(scorer: CountingScorer | None = None, *, queue_windows: int = 100) -> Running:
        made.append(Running(scorer or CountingScorer(), queue_windows=queue_windows))
        return made[-1]

    yield start
    for running in made:
        running.stop()


WINDOWS = st.integers(1, 60).map(lambda length: window(length, known=length // 3))
TEXTS = st.lists(st.lists(WINDOWS, min_size=1, max_size=5), min_size=1, max_size=4)


@settings(deadline=None)
@given(requests=st.lists(TEXTS, min_size=1, max_size=8), can_batch=st.booleans())
def test_each_text_gets_the_largest_of_its_windows_whatever_it_runs_with(
    *, requests: list[list[list[Window]]], can_batch: bool
) -> None:
    running = Running(CountingScorer(can_batch=can_batch), queue_windows=10_000)
    running.hold()
    futures = [running.batcher.submit(texts) for texts in requests]
    running.go()

    for texts, future in zip(requests, futures, strict=True):
        wanted = tuple(
            tuple(map(max, zip(*(running.scorer.shares(one) for one in windows), strict=True))) for windows in texts
        )
        assert future.result(WITHIN_S) == wanted
    read = [one for batch in running.scorer.batches[1:] for one in batch]
    assert len(read) == sum(len(windows) for texts in requests for windows in texts)
    for batch in running.scorer.batches:
        padded = len(batch) * max(map(len, batch))
        assert len(batch) == 1 or (can_batch and padded <= 256 and padded <= 1.5 * sum(map(len, batch)))
    running.stop()
    assert (running.batcher.requests, running.batcher.windows) == (0, 0)


def test_requests_that_wait_together_run_together(run: Run) -> None:
    running = run()
    running.hold()
    futures = [running.batcher.submit([[window(10 + at)]]) for at in range(8)]
    running.go()
    for future in futures:
        future.result(WITHIN_S)

    assert [len(batch) for batch in running.scorer.batches] == [1, 8]


def test_a_long_text_does_not_hold_up_a_short_one(run: Run) -> None:
    running = run(queue_windows=10_000)
    running.hold()
    long = running.batcher.submit([[window(128)] * 200])
    short = running.batcher.submit([[window(5, known=4)]])
    running.go()
    short.result(WITHIN_S)

    assert [len(batch[0]) for batch in running.scorer.batches[:3]] == [3, 128, 5]
    assert len(long.result(WITHIN_S)) == 1


def test_a_text_that_fails_does_so_alone(run: Run) -> None:
    running = run(CountingScorer(fails_at={BAD: RuntimeError("what the text says")}))
    running.hold()
    good = [running.batcher.submit([[window(10, known=at)]]) for at in range(3)]
    bad = running.batcher.submit([[window(10)], [window(10, last=BAD), window(10, last=BAD)]])
    running.go()

    assert [future.result(WITHIN_S)[0][0] for future in good] == [0, 0.1, 0.2]
    with pytest.raises(JobFailed, match=r"^RuntimeError$") as caught:
        bad.result(WITHIN_S)
    assert caught.value.code == "internal_error"
    running.stop()  # whoever waits for a result may know it before it is counted
    assert (running.count("done"), running.count("failed")) == (4, 1)


def test_what_the_scorer_says_about_a_failure_is_kept(run: Run) -> None:
    error = JobFailed("no memory left for this request", code="out_of_memory")
    running = run(CountingScorer(fails_at={BAD: error}))

    with pytest.raises(JobFailed, match="no memory"):
        running.batcher.submit([[window(4, last=BAD)]]).result(WITHIN_S)
    assert running.batcher.submit([[window(4)]]).result(WITHIN_S) == ((0.0, 1.0),)


def test_numbers_that_are_none_are_a_failure_of_their_text_alone(run: Run) -> None:
    running = run(CountingScorer(empty_at=EMPTY))
    running.hold()
    bad, good = (running.batcher.submit([[window(6, last=last)]]) for last in (EMPTY, OTHER))
    running.go()

    assert good.result(WITHIN_S) == ((0.0, 1.0),)
    with pytest.raises(JobFailed) as caught:
        bad.result(WITHIN_S)
    assert caught.value.code == "invalid_numbers"


def test_a_cancelled_request_never_runs_and_makes_room(run: Run) -> None:
    running = run(queue_windows=3)
    running.hold()
    gone = running.batcher.submit([[window(6, last=BAD)] * 2])
    with pytest.raises(QueueFull):
        running.batcher.submit([[window(6)]])
    assert gone.cancel()
    kept = running.batcher.submit([[window(6)] * 2])
    running.go()
    kept.result(WITHIN_S)

    assert not any(BAD in one.ids for batch in running.scorer.batches for one in batch)
    running.stop()
    assert (running.count("cancelled"), running.count("done")) == (1, 2)


def test_what_is_cancelled_between_two_batches_gets_no_other(run: Run) -> None:
    scorer = CountingScorer(can_batch=False)
    running = run(scorer)
    scorer.may_go.clear()
    many = running.batcher.submit([[window(6)] * 50])
    assert scorer.has_begun.wait(WITHIN_S)
    many.cancel()
    after = running.batcher.submit([[window(5)]])
    running.go()
    after.result(WITHIN_S)

    assert [len(batch[0]) for batch in scorer.batches] == [6, 5]


def test_a_full_queue_refuses_at_once_and_an_empty_one_takes_any_length(run: Run) -> None:
    running = run(queue_windows=4)
    assert len(running.batcher.submit([[window(5)] * 9]).result(WITHIN_S)) == 1
    running.hold()
    waits = running.batcher.submit([[window(5)], [window(5)], [window(5)]])
    with pytest.raises(QueueFull):
        running.batcher.submit([[window(5)]])
    with pytest.raises(QueueFull):
        running.batcher.require_room()
    assert running.batcher.expected_wait_s > 0
    running.go()
    waits.result(WITHIN_S)
    running.held.result(WITHIN_S)

    running.batcher.require_room()
    assert running.metrics.classifier.refused._value.get() == 2


def test_a_very_long_text_does_not_shut_others_out(run: Run) -> None:
    running = run(queue_windows=130)
    running.hold()
    long = running.batcher.submit([[window(5)] * 5_000])
    short = running.batcher.submit([[window(5)]] * 65)
    with pytest.raises(QueueFull):
        running.batcher.submit([[window(5)]] * 2)
    running.go()

    assert len(short.result(WITHIN_S)) == 65
    assert long.result(WITHIN_S) == ((0.0, 1.0),)


@pytest.mark.parametrize("texts", [[], [[]], [[window(3)], []]])
def test_nothing_to_read_is_an_error_and_not_a_wait(run: Run, texts: list[list[Window]]) -> None:
    with pytest.raises(ValueError, match="without"):
        run().batcher.submit(texts)


def test_stopping_ends_what_waits_and_takes_nothing_more(run: Run) -> None:
    running = run()
    running.hold()
    waits = running.batcher.submit([[window(5)]])
    running.stop()

    with pytest.raises(EngineStopped):
        waits.result(WITHIN_S)
    with pytest.raises(EngineStopped):
        running.batcher.submit([[window(5)]])
    assert running.error is None


def test_a_device_that_broke_ends_the_thread_and_every_request(run: Run) -> None:
    running = run(CountingScorer(fails_at={BAD: EngineBroken("the device failed")}))
    running.hold()
    futures = [running.batcher.submit([[window(5, last=last)]]) for last in (BAD, OTHER)]
    running.go()

    for future in futures:
        with pytest.raises((EngineStopped, CancelledError)):
            future.result(WITHIN_S)
    running.thread.join(WITHIN_S)
    assert isinstance(running.error, EngineBroken)


def test_the_counts_are_told(run: Run) -> None:
    running = run()
    running.hold()
    running.batcher.submit([[window(5)] * 2])
    text = running.metrics.render().decode()
    running.go()

    assert "haina_classifier_requests_open 2.0" in text
    assert "haina_classifier_windows_open 3.0" in text


class ScorerContract:
    """What a batcher relies on."""

    @pytest.fixture
    def scorer(self) -> "CountingScorer | SequenceClassifier":
        raise NotImplementedError

    def test_a_window_is_answered_the_same_with_any_neighbours(
        self, scorer: "CountingScorer | SequenceClassifier"
    ) -> None:
        windows = [window(length, known=known) for length, known in ((3, 1), (30, 12), (8, 0), (17, 16), (3, 2))]
        together = scorer.score(windows)

        assert scorer.can_batch
        assert scorer.most_tokens >= 256
        assert len(together) == len(windows)
        for one, row in zip(windows, together, strict=True):
            assert row == pytest.approx(_only(scorer.score([one])), abs=1e-5)
            assert sum(row) == pytest.approx(1)
            assert all(0 <= value <= 1 for value in row)
        assert together[0] != pytest.approx(together[1], abs=1e-3)


def _only(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    (row,) = rows
    return row


class TestCountingScorer(ScorerContract):
    @pytest.fixture
    def scorer(self) -> CountingScorer:
        return CountingScorer()


class TestSequenceClassifier(ScorerContract):
    @pytest.fixture
    def scorer(self) -> SequenceClassifier:
        torch.manual_seed(5)
        model = BertForSequenceClassification(config_of(vocab_size=len(VOCABULARY)))
        model.train(mode=False)
        return SequenceClassifier(model, inputs=("input_ids", "attention_mask"), is_independent=False)
