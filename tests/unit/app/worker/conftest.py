"""A tiny random model and its tokenizer, made in memory, and an engine that runs in a thread."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from app.worker.engine import Engine, Runner
from app.worker.jobs import Ended, Event, Job, Piece
from app.worker.metrics import Metrics
from app.worker.vocabulary import Vocabulary

SPECIALS = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[AddedToken(name, special=True) for name in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog, and then the other one"], trainer)
    return Vocabulary(tokenizer)


@pytest.fixture(scope="session")
def model() -> LlamaForCausalLM:
    """Two layers, float32; big initial weights, so that its greedy answers vary."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.6,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.train(mode=False)
    return model


class Inbox:
    """A sink that keeps what comes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._queue: queue.Queue[Event] = queue.Queue()

    def sink(self, event: Event) -> None:
        self.events.append(event)
        self._queue.put(event)

    def next(self) -> Event:
        return self._queue.get(timeout=20)

    def wait(self) -> Ended:
        """Return the end, and read everything before it."""
        while True:
            event = self.next()
            if isinstance(event, Ended):
                return event

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Piece))

    @property
    def ids(self) -> list[int]:
        return [token.id for event in self.events if isinstance(event, Piece) for token in event.tokens]

    @property
    def ends(self) -> list[Ended]:
        return [event for event in self.events if isinstance(event, Ended)]


class RunningEngine:
    """An engine in its thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.engine.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def submit(self, job: Job) -> tuple[Any, Inbox]:
        inbox = Inbox()
        return self.engine.submit(job, sink=inbox.sink), inbox

    def complete(self, *jobs: Job) -> list[Inbox]:
        """Run the jobs side by side to their ends."""
        inboxes = [self.submit(job)[1] for job in jobs]
        for inbox in inboxes:
            inbox.wait()
        return inboxes

    def stop(self) -> None:
        self.engine.stop()
        self.thread.join(timeout=20)
        assert not self.thread.is_alive()


MakeEngine = Callable[..., RunningEngine]


@pytest.fixture
def make_engine(vocabulary: Vocabulary) -> Iterator[MakeEngine]:
    made: list[RunningEngine] = []

    def make(runner: Runner, *, slots: int = 4, queue_limit: int = 8, is_started: bool = True) -> RunningEngine:
        engine = Engine(
            runner,
            decoder=vocabulary,
            hidden_ids=vocabulary.special_ids,
            slots=slots,
            queue_limit=queue_limit,
            metrics=Metrics(),
        )
        running = RunningEngine(engine)
        if is_started:
            running.thread.start()
            made.append(running)
        return running

    yield make
    for running in made:
        running.stop()
